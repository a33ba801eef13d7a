"""What MLflow shows of an ended cycle is complete, or the next command completes it; runs deleted by hand come back."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest

from automl.api.running import run_verb
from automl.cycles.options import RunOptions
from automl.errors import UnreachableError
from automl.retrain import retrain
from automl.sweep import FitCache
from automl.tracking import Registry
from tests.support.parcels import AS_OF
from tests.support.workspaces import WEEK, opened
from tests.support.workspaces import file as file  # a fixture

RECORD = "mlflow_record"
LAG = "MLflow is not up to date; the next command updates it"
UNREACHABLE = UnreachableError("MLflow does not respond", code="mlflow_unreachable")


def unreachable(*_: Any, **__: Any) -> None:
    raise UNREACHABLE


def cycle_run(file: Path, as_of: str) -> Any:
    """The parent run of a cycle, through nothing of ours."""
    client = mlflow.MlflowClient(f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}")
    (run,) = client.search_runs(["1"], f"tags.kind = 'cycle' and tags.cycle = '{as_of}'")
    documents = {f.path for f in client.list_artifacts(run.info.run_id)}
    return run, documents


def test_a_decision_that_mlflow_missed_is_written_by_the_next_command(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    problem, workspace, store = opened(file)
    client = mlflow.MlflowClient(workspace.tracking_uri)
    for run in client.search_runs(["1"], "tags.kind = 'cycle'"):
        client.delete_run(run.info.run_id)
    options = RunOptions(as_of=AS_OF + WEEK)
    day = f"{AS_OF + WEEK:%Y-%m-%d}"

    with monkeypatch.context() as down, caplog.at_level(logging.WARNING):
        down.setattr(Registry, "close_cycle", unreachable)
        result = retrain(problem, workspace, options)

    assert result.status == "released"
    assert LAG in " ".join(result.warnings)
    assert "was deleted in MLflow; it is restored" in caplog.text, "live scores need the run"
    run, documents = cycle_run(file, day)
    assert "decision" not in run.data.tags
    assert store.find_cycle("parcels", "retrain", AS_OF + WEEK).receipts[RECORD]  # type: ignore[union-attr]

    with monkeypatch.context() as down:
        down.setattr(Registry, "close_cycle", unreachable)
        for run in (retrain, partial(run_verb, verb="retrain")):
            again = run(problem, workspace, options=options)
            assert again.already, "readers have the result: MLflow is no reason to fail"
            assert again.warnings == [f"{LAG}: MLflow does not respond"]
    assert retrain(problem, workspace, options).already

    run, documents = cycle_run(file, day)
    assert run.info.status == "FINISHED"
    assert run.data.tags["decision"]
    assert run.data.tags["winner"]
    assert run.data.tags["mlflow.note.content"].startswith("**")
    assert {"n_trials", "champ_roc_auc"} <= set(run.data.metrics)
    assert {"decision.json", "leaderboard.json", "decision.md"} <= documents
    assert store.find_cycle("parcels", "retrain", AS_OF + WEEK).receipts[RECORD] is None  # type: ignore[union-attr]

    # what the cycle left in the workspace
    cached = list(workspace.fit_cache("parcels").glob("*.pickle"))
    known = store.find_cycle("parcels", "retrain", AS_OF + WEEK).receipts["fit_cache"]  # type: ignore[union-attr]
    assert len(known) == len(cached) > 0
    unknown = FitCache(workspace.fit_cache("parcels"))
    assert [unknown._load(f) for f in cached] == [None] * len(cached), "no digest, no unpickling"
    assert all(FitCache(unknown.folder, known)._load(f) for f in cached)
    made = [f for f in cached if f.stat().st_mode & 0o077]
    assert made == [], "files of the workspace are for their owner alone"
