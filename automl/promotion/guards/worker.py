"""The process that loads a model from the registry, predicts with it, and measures.

It reads what to examine from a folder and writes outputs and measurements there. It decides nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.disk import disk_error
from automl.errors import UnreachableError
from automl.history.contract import Contract, load_contract
from automl.modeling.families import load_families
from automl.modeling.features import carried
from automl.predictions import fingerprint, model_output
from automl.problem import Problem
from automl.processes import settle
from automl.tracking import Registry, open_registry
from automl.workspace import Workspace

__all__ = ["examine", "failure", "measure", "shares_of_gain"]


def shares_of_gain(model: Any) -> dict[str, float]:
    """Share of the gain per raw column of the most one-sided tree member; {} without tree members.

    `model` averages pipelines of a column transformer and an estimator.
    """
    one_sided: dict[str, float] = {}
    for pipeline in getattr(model, "estimators_", ()):
        encoder, estimator = pipeline[0], pipeline[-1]
        if isinstance(estimator, carried.AllClasses):
            estimator = estimator.estimator
        gains = _gains(estimator)
        if gains is None or gains.sum() <= 0:
            continue
        shares: dict[str, float] = {}
        for name, gain in zip(_raw_columns(encoder, len(gains)), gains / gains.sum(), strict=True):
            shares[name] = shares.get(name, 0.0) + float(gain)
        if max(shares.values()) > max(one_sided.values(), default=0.0):
            one_sided = shares
    return one_sided


def _raw_columns(encoder: Any, width: int) -> list[str]:
    """The raw column of each encoded one; its position where the encoder does not name it."""
    names = [f"column {i}" for i in range(width)]
    for part, _, columns in getattr(encoder, "transformers_", ()):
        place = encoder.output_indices_.get(part, slice(0, 0))
        size = place.stop - place.start
        # several calendar numbers per time column
        if columns and size and size % len(columns) == 0:
            names[place] = [str(c) for c in columns for _ in range(size // len(columns))]
    return names


def _gains(estimator: Any) -> np.ndarray | None:
    booster = getattr(estimator, "booster_", None)
    if booster is not None:  # LightGBM's own importances count splits
        return np.asarray(booster.feature_importance("gain"), dtype="float64")
    if hasattr(estimator, "tree_") or hasattr(estimator, "estimators_"):
        found = getattr(estimator, "feature_importances_", None)
        return None if found is None else np.asarray(found, dtype="float64")
    return None


def examine(
    connection: Connection,
    folder: Path,
    problem: Problem,
    workspace: Workspace,
    environment: Mapping[str, str],
) -> None:
    """Load libraries, wait for a request, examine the model, and send the error or an empty text."""
    settle()
    os.environ.clear()
    os.environ.update(environment)
    warnings.simplefilter("ignore")
    with contextlib.suppress(EOFError, OSError):  # the caller has died
        try:
            _examine(connection, folder, problem, workspace)
        except UnreachableError as error:  # that is no fault of the model
            connection.send(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a user's estimator may raise anything
            connection.send(failure(error))
        else:
            connection.send("")


def failure(error: BaseException) -> str:
    """What went wrong with a model, in one line."""
    text = str(disk_error(error) or f"{type(error).__name__}: {error}").strip()
    return (text.splitlines() or ["no message"])[-1]


def _examine(connection: Connection, folder: Path, problem: Problem, workspace: Workspace) -> None:
    load_families(problem.sweep.families, problem.file.parent)
    registry = open_registry(problem, workspace)
    connection.recv()
    spec: dict[str, Any] = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    frames = {file.stem: pd.read_parquet(file) for file in folder.glob("*.parquet")}
    measured, outputs = measure(registry, spec, frames)
    np.savez(folder / "outputs.npz", allow_pickle=False, **outputs)
    (folder / "measured.json").write_text(json.dumps(measured), encoding="utf-8")


def measure(
    registry: Registry, spec: Mapping[str, Any], frames: Mapping[str, pd.DataFrame]
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Measurements of a registered model, and its outputs on the frames `sample` and `newest`."""
    contract = load_contract(registry.problem)
    if contract is None:
        raise AssertionError("a model cannot be older than its contract")
    model, size = registry.load_measured(spec["version"], spec["digests"])
    sample = frames["sample"]
    outputs = {"output": model_output(model, sample, contract)}
    outputs["alone"] = np.concatenate(
        [model_output(model, sample.iloc[[i]], contract) for i in range(0, len(sample), 40)]
    )
    newest = frames.get("newest", sample)
    outputs["newest"] = model_output(model, newest, contract)
    measured = {
        "fingerprint": fingerprint(outputs["output"], spec["recipe"]),
        "megabytes": size / 1e6,
        "seconds_per_1000": _seconds(model, sample, contract),
        "shares": shares_of_gain(model),
        "champion_lacks": "",
    }
    if spec["champion"]:
        try:
            version, digests = spec["champion"]
            champion = registry.load(version, digests)
            outputs["champion"] = model_output(champion, newest, contract)
        except Exception as error:  # noqa: BLE001  other columns, other classes, deleted: a warning
            measured["champion_lacks"] = (str(error).splitlines() or [type(error).__name__])[0]
    return measured, outputs


def _seconds(model: Any, sample: pd.DataFrame, contract: Contract) -> float:
    """Seconds per 1,000 rows, with everything loaded; fixed costs are counted once, not five times."""
    rows = sample.iloc[np.resize(np.arange(len(sample)), 1000)].reset_index(drop=True)
    started = time.perf_counter()
    model_output(model, rows, contract)
    return time.perf_counter() - started
