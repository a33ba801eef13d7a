"""Diagnostics of made-up predictions, as a cycle would leave them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from automl.explanation.document import diagnose
from automl.explanation.inputs import Inputs
from automl.files import write_json
from automl.history.contract import Contract
from automl.problem import Problem, load_problem
from automl.store import Store, plain
from automl.workspace import open_workspace

ROWS = 600
CLASSES: dict[str, tuple[Any, ...]] = {
    "binary": (0, 1),
    "multiclass": ("fine", "late", "lost"),
    "regression": (),
}


def made_up_diagnostics(problem: Problem) -> dict[str, Any]:
    """Two blocks of predictions by a released blend and a rival; importance and SHAP values of two columns."""
    rng, classes = np.random.default_rng(0), CLASSES[problem.task]
    inputs = _inputs(problem, classes, rng)
    contract = Contract(features={"weight": "number", "carrier": "text"}, classes=classes)
    found = diagnose(inputs, problem, contract)
    found |= {"importance": _importance(), "shap": _shap(several=len(classes) > 2), "batch": None}
    return dict(plain(found))


def with_diagnostics(released: Path, folder: Path) -> Path:
    """A copy of the folder of a problem file, with made-up diagnostics of its cycles; the file."""
    shutil.copytree(released.parent, folder)
    file = folder / released.name
    problem, workspace = load_problem(file), open_workspace(file)
    found = made_up_diagnostics(problem)
    for cycle in Store(workspace).cycles(problem.name, verb="retrain"):
        kept = workspace.report_of(problem.name, cycle.as_of, cycle.attempt)
        kept.mkdir(parents=True)
        write_json(kept / "diagnostics.json", found)
    return file


def _inputs(problem: Problem, classes: tuple[Any, ...], rng: np.random.Generator) -> Inputs:
    times = pd.date_range("2026-02-15", periods=ROWS, freq="30min")
    rows = pd.DataFrame(
        {
            "weight": rng.gamma(2, 2, ROWS),
            "carrier": rng.choice(["ant", "bee", "<b>$x$</b>"], ROWS),
            problem.history.time: times,
        }
    )
    k = len(classes)
    if k:
        truth = rng.integers(0, k, ROWS).astype(float)
        sure = rng.dirichlet(np.ones(k), ROWS) + 0.6 * (truth[:, None] == np.arange(k))
        sure /= sure.sum(axis=1, keepdims=True)
        outputs = {"released": sure, "rival": sure[:, ::-1], "baseline": np.full((ROWS, k), 1 / k)}
    else:
        truth = rng.normal(30, 10, ROWS)
        noisy = truth + rng.normal(0, 3, ROWS)
        outputs = {"released": noisy, "rival": noisy + 2, "baseline": np.full(ROWS, 30.0)}
    about = {
        "roles": {"released": "linear", "rival": "lightgbm"},
        "names": {"released": "released", "rival": "challenger"},
        "blocks": [
            {"start": "2026-02-22T00:00:00+00:00", "end": "2026-03-01T00:00:00+00:00", "rows": 300},
            {"start": "2026-02-15T00:00:00+00:00", "end": "2026-02-22T00:00:00+00:00", "rows": 300},
        ],
        "members": [{"family": "linear", "weight": 1.0}],
        "seed": 1,
        "rows": ROWS,
        "training_rows": ROWS,
        "workers": 2,
        "warnings": ["carrier: 3 rows have a value that is new"],
    }
    return Inputs(
        truth=truth,
        weight=np.ones(ROWS),
        block=np.arange(ROWS) // 300,
        outputs=outputs,
        rows=rows,
        model=None,
        about=about,
    )


def _importance() -> dict[str, Any]:
    features = [
        {"name": "weight", "added": 0.2, "low": 0.1, "high": 0.3, "share": 0.5},
        {"name": "carrier", "added": 0.0, "low": -0.01, "high": 0.01, "share": 0.0},
    ]
    counts = {"rows": 300, "repeats": 3, "columns": 2, "measured": 2, "loss": 0.4}
    return {**counts, "features": features}


def _shap(*, several: bool) -> dict[str, Any]:
    profile = [
        {"label": "0.1–2", "mean": -1.0, "rows": 70},
        {"label": "2–9", "mean": 1.0, "rows": 80},
    ]
    features = [
        {"name": "weight", "mean_abs": 0.9, "profile": [] if several else profile},
        {"name": "carrier", "mean_abs": 0.1, "profile": []},
    ]
    return {"rows": 300, "weight": 0.7, "unit": "log-odds", "features": features}
