"""The diagnostics of one cycle as a document of aggregates, kept in its report's folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from automl.explanation import curves
from automl.explanation.batches import batch_summary
from automl.explanation.importance import Labelled, contributions, permutation_importance
from automl.explanation.inputs import Inputs, read_inputs
from automl.explanation.slices import by_slice, by_time
from automl.files import write_json
from automl.history.contract import Contract, load_contract
from automl.modeling.metrics import get_metric
from automl.problem import Problem
from automl.store import Store, plain
from automl.workspace import Workspace

__all__ = ["DIAGNOSTICS", "diagnose", "explain"]

DIAGNOSTICS = "diagnostics.json"
IMPORTANCE_SECONDS = 1.5  # within a report of at most a tenth of a 60 s cycle
SLICED_BY = 4  # columns that cut slices where the problem declares none
MOST_CURVES = 6  # classes


def explain(problem: Problem, workspace: Workspace, folder: Path) -> dict[str, Any]:
    """Compute the diagnostics of a cycle from what was kept of it, and write them; read them where nothing was kept."""
    inputs, file = read_inputs(folder), folder / DIAGNOSTICS
    found: dict[str, Any] = {}
    if inputs is not None:
        contract = load_contract(problem)
        if contract is None:
            raise AssertionError("a cycle that trained has a contract")
        found = diagnose(inputs, problem, contract)
    elif file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))
    found["batch"] = batch_summary(Store(workspace), problem)
    found = dict(plain(found))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, found)
    return found


def diagnose(inputs: Inputs, problem: Problem, contract: Contract) -> dict[str, Any]:
    """Everything that the kept predictions, and the model if it was kept, say about the released blend."""
    began = time.monotonic()
    found: dict[str, Any] = {
        **inputs.about,
        "sampled": len(inputs.truth),
        "classes": [str(c) for c in contract.classes],
        **_quality(inputs, problem, contract),
    }
    if inputs.model is not None:
        found |= _drivers(inputs, problem, contract)
    found["slices"] = _slices(inputs, problem, contract, found.get("importance"))
    return {**found, "seconds": round(time.monotonic() - began, 2)}


def _quality(inputs: Inputs, problem: Problem, contract: Contract) -> dict[str, Any]:
    """Curves per role, of all blocks together."""
    y, w = inputs.truth, inputs.weight
    models = {r: o for r, o in inputs.outputs.items() if r != "baseline"}
    found: dict[str, Any] = {
        "over_time": by_time(
            inputs.rows[problem.history.time], y, inputs.outputs, w, get_metric(problem.metric.name)
        )
    }
    if not contract.classes:
        each = {r: curves.value_calibration(y, o, w) for r, o in models.items()}
        return found | {
            "calibration": each,
            "residuals": curves.residuals(y, models["released"]),
        }
    released = models["released"]
    predicted = released.argmax(axis=1)
    found["confusion"] = curves.confusion(y, predicted, w, contract.classes)
    if problem.task == "binary":
        for name, curve in (
            ("calibration", curves.calibration),
            ("roc", curves.roc),
            ("precision_recall", curves.precision_recall),
            ("lift", curves.lift),
        ):
            found[name] = {r: curve(y, o[:, 1], w) for r, o in models.items()}
        return found
    found["calibration"] = {
        r: curves.calibration((o.argmax(axis=1) == y).astype(float), o.max(axis=1), w)
        for r, o in models.items()
    }
    frequent = np.argsort(-np.bincount(y.astype(int), w, minlength=len(contract.classes)))
    found["roc"] = {
        str(contract.classes[c]): curves.roc((y == c).astype(float), released[:, c], w)
        for c in frequent[:MOST_CURVES]
    }
    return found


def _drivers(inputs: Inputs, problem: Problem, contract: Contract) -> dict[str, Any]:
    """Importance on the newest block, with the released model."""
    model = pd.read_pickle(inputs.model)  # our own file, written by this cycle
    newest = np.flatnonzero(inputs.block == 0)
    rows = inputs.rows.iloc[newest].reset_index(drop=True)
    importance = permutation_importance(
        model,
        Labelled(rows, inputs.truth[newest], inputs.weight[newest]),
        contract,
        get_metric(problem.metric.name),
        seed=int(inputs.about["seed"]),
        seconds=IMPORTANCE_SECONDS,
    )
    weights = [m["weight"] for m in inputs.about["members"]]
    return {"importance": importance, "shap": contributions(model, rows, contract, weights)}


def _slices(
    inputs: Inputs, problem: Problem, contract: Contract, importance: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """By the declared slices; without any, by the columns that matter most."""
    ranked = [f["name"] for f in (importance or {}).get("features", ())]
    columns = list(problem.metric.slices) or (ranked or list(contract.features))[:SLICED_BY]
    models = {r: o for r, o in inputs.outputs.items() if r != "baseline"}
    metric = get_metric(problem.metric.name)
    return by_slice(inputs.rows, columns, inputs.truth, models, inputs.weight, metric)
