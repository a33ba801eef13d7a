"""A metric that changes between two cycles: each score stands under its own, and losses in two are never compared."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from automl import report
from automl.cycles.options import RunOptions
from automl.retrain import retrain
from tests.support.observer import World
from tests.support.parcels import AS_OF
from tests.support.workspaces import file as file  # a fixture: a copy of `released`
from tests.support.workspaces import opened, release_twice

pytestmark = pytest.mark.slow
LATER = AS_OF + timedelta(days=7)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release_twice(tmp_path_factory.mktemp("metric"))


def text_of(shown: object) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def test_scores_stand_under_their_metric_and_evidence_of_two_is_not_mixed(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    old = 'name = "roc_auc"'
    assert old in text
    file.write_text(text.replace(old, 'name = "brier"'), encoding="utf-8")

    problem, workspace, store = opened(file)
    result = retrain(problem, workspace, RunOptions(as_of=LATER))

    evidence = store.evidence("parcels")
    before = [e for e in evidence if e.cycle < LATER]
    new = [e for e in evidence if e.cycle == LATER]
    assert {e.metric for e in before} == {"roc_auc"}
    assert {e.metric for e in new} == {"brier"}
    known = {(e.blend, e.start) for e in before}
    again = [e for e in new if (e.blend, e.start) in known]
    assert again, "the champion is scored again on blocks of earlier cycles"
    assert {e.loss for e in again}.isdisjoint({e.loss for e in before})
    why = report.why(problem, workspace, None)
    assert (why["as_of"], why["metric"], why["plan"]["kind"]) == ("2026-03-09", "brier", "full")
    blocks = {e.start for e in new}
    assert all(v["blocks"] <= len(blocks) for v in why["verdicts"])

    first, last = (report.leaderboard(problem, workspace, at) for at in (AS_OF, None))
    assert (first["metric"], first["better"]) == ("roc_auc", "higher")
    assert (last["metric"], last["better"]) == ("brier", "lower")
    assert all(0.5 <= t["score"] <= 1 for t in first["trials"] if t["state"] == "complete")
    assert all(0 < t["score"] < 0.5 for t in last["trials"] if t["state"] == "complete")
    assert "roc_auc ↑" in text_of(report.leaderboard_text(first))
    assert "brier ↓" in text_of(report.leaderboard_text(last))
    status = report.status(problem, workspace)
    assert {name for g in status["turned_out"] for name in g["scores"]} >= {"brier"}
    notes = World(file).query_mlflow(
        f"select value from tags where key = 'mlflow.note.content' and run_uuid = '{result.run_id}'"
    )
    assert "brier" in notes[0][0]
    assert "roc_auc" not in notes[0][0]
