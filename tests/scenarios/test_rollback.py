"""Rollback: a person's word is effective at once and as a whole, or nothing has changed."""

from __future__ import annotations

import json
import sqlite3
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest

from automl import predictions
from automl import review as undo
from automl.cycles.options import RunOptions
from automl.cycles.steps import call
from automl.diagnostics.installation import examine
from automl.errors import PredictError, ProblemError
from automl.predictions import read_predictions
from automl.review import rollback
from automl.score import cycle
from automl.score import pipeline as score
from automl.tracking import Registry
from automl.workspace import now
from tests.support.parcels import AS_OF
from tests.support.workspaces import file as file  # a fixture
from tests.support.workspaces import opened, rows, standing, type_command

WEEK = timedelta(days=7)


# ---------------------------------------------------------------- rollback


def test_a_rollback_brings_the_former_version_and_its_predictions(file: Path) -> None:
    problem, workspace, store = opened(file)
    before = standing(file)

    done = rollback(problem, workspace, "it shouts", actor="ann")

    after = standing(file)
    assert (done.status, done.model_version, done.already) == ("rolled back", 1, False)
    assert done.warnings == []
    assert [v for _, v, _ in after["live"]] == [1] == [after["champion"]]
    assert after["live"][0][2] == before["live"][0][2], "the same batch"
    assert after["releases"] == [*before["releases"], (before["releases"][-1][0], 1)]
    assert after["ledger"][-1] == ("rollback", 2, 1)
    batches = rows(file, "select distinct batch from automl_generation where as_of >= '2026-03-02'")
    assert len(batches) == 1
    old, new = store.releases("parcels")[-1], store.releases("parcels")[0]
    assert (new.digests, new.blend, new.run_id) == (old.digests, old.blend, old.run_id)
    entry = store.ledger("parcels")[-1]
    assert (entry.actor, entry.reason, entry.generation) == ("ann", "it shouts", done.generation)


def test_the_same_rollback_again_changes_nothing_and_another_must_say_where_to(file: Path) -> None:
    problem, workspace, _ = opened(file)
    rollback(problem, workspace, "it shouts")
    after = standing(file)

    assert rollback(problem, workspace, "it shouts").already
    assert rollback(problem, workspace, "whatever", to=1).already
    with pytest.raises(ProblemError, match="is itself a rollback from version 2"):
        rollback(problem, workspace, "it whispers")
    assert standing(file) == after

    again = rollback(problem, workspace, "it was the data", to=2)
    assert (again.model_version, again.already) == (2, False)
    assert [v for _, v, _ in standing(file)["live"]] == [2]


def test_a_rollback_to_a_generation_made_beforehand_scores_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, workspace, store = opened(file)
    live = store.live(problem.table)
    assert live is not None
    standby = store.staged("parcels", live, 1)
    assert standby is not None

    def refuse(*_: Any) -> None:
        raise AssertionError("nothing may be scored")

    monkeypatch.setattr(undo, "stage_batch", refuse)
    monkeypatch.setattr(predictions, "audit", refuse)
    monkeypatch.setattr(undo, "_follow", lambda _: [])  # projections: not what readers wait for
    started = time.monotonic()
    done = rollback(problem, workspace, "quick")

    assert time.monotonic() - started < 1
    assert done.generation == standby
    assert rows(file, "select distinct generation from parcels") == [(standby,)]


def test_without_a_standby_the_frozen_batch_is_scored_first(file: Path) -> None:
    problem, workspace, store = opened(file)
    rollback(problem, workspace, "a", to=1)
    scores = rows(file, "select parcel, probability from parcels order by parcel")
    rollback(problem, workspace, "b", to=2)
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        database.execute("update automl_generation set state = 'removed' where model_version = 1")
    (file.parent / "world.db").unlink()  # nothing is pulled again

    done = rollback(problem, workspace, "c", to=1)

    assert (done.model_version, done.warnings) == (1, [])
    assert rows(file, "select parcel, probability from parcels order by parcel") == scores
    assert store.ledger("parcels")[-1].generation == done.generation


def test_back_and_forth_keeps_what_was_seen_when(file: Path) -> None:
    problem, workspace, store = opened(file)
    first = store.live(problem.table)
    assert first is not None
    moments = [now()]
    for version in (1, 2, 1):
        rollback(problem, workspace, f"to {version}", to=version)
        moments.append(now())

    seen = [store.seen("parcels", moment) for moment in moments]

    assert [g and g.model_version for g in seen] == [2, 1, 2, 1]
    assert [g and g.id for g in seen][0::2] == [first.id] * 2
    here = "as_of >= '2026-03-02' and state = 'published'"
    assert rows(file, f"select count(*) from automl_generation where {here}") == [(2,)]


def test_the_next_score_stays_with_the_version_that_was_brought_back(file: Path) -> None:
    problem, workspace, _ = opened(file)
    rollback(problem, workspace, "it shouts")

    later = score.score(problem, workspace, RunOptions(as_of=AS_OF + timedelta(days=1)), run=call)
    again = cycle(problem, workspace, RunOptions(as_of=AS_OF))

    assert later.model_version == again.model_version == 1
    assert again.already


def test_the_parquet_copy_follows_a_rollback(file: Path) -> None:
    problem, workspace, _ = opened(file)

    done = rollback(problem, workspace, "it shouts")

    copy = read_predictions(file.parent / "out")
    assert set(copy["generation"]) == {done.generation}
    assert set(copy["model_version"]) == {1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": 9}, "version 9 was never released; found 1"),
        ({"reason": " "}, "--reason is required"),
    ],
)
def test_what_cannot_be_undone_is_refused(
    file: Path, arguments: dict[str, Any], message: str
) -> None:
    problem, workspace, _ = opened(file)
    before = standing(file)

    with pytest.raises(ProblemError, match=message):
        rollback(problem, workspace, **{"reason": "why", **arguments})

    assert standing(file) == before


def test_a_version_deleted_in_mlflow_stops_scoring_and_says_what_to_do(file: Path) -> None:
    before = standing(file)
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    mlflow.MlflowClient(uri, registry_uri=uri).delete_model_version("parcels", "2")
    problem, workspace, _ = opened(file)

    with pytest.raises(PredictError, match="version 2 of parcels was deleted") as caught:
        score.score(problem, workspace, RunOptions(as_of=AS_OF + timedelta(days=1)))

    assert (caught.value.code, caught.value.exit_code) == ("version_gone", 6)
    assert "automl rollback" in caught.value.next_step
    assert rows(file, "select generation, model_version, count(*) from parcels") == before["live"]
    done = rollback(problem, workspace, "deleted")
    assert (done.model_version, standing(file)["champion"]) == (1, 1)


@pytest.mark.parametrize(
    ("by_hand", "message"),
    [
        ("nothing", "version 2 was released, the alias champion names 2"),
        pytest.param(
            "moved", "version 2 was released, the alias champion names 1", marks=pytest.mark.slow
        ),
        pytest.param(
            "deleted", "model version 2 of parcels was deleted in MLflow", marks=pytest.mark.slow
        ),
    ],
)
def test_doctor_sees_what_was_changed_in_mlflow_by_hand(
    file: Path, by_hand: str, message: str
) -> None:
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    if by_hand == "moved":
        client.set_registered_model_alias("parcels", "champion", "1")
    elif by_hand == "deleted":
        client.delete_model_version("parcels", "2")

    problem, workspace = opened(file)[:2]
    checks = examine(problem, workspace, lambda: Registry(problem, workspace))
    (found,) = (c for c in checks if c.name == "champion")

    assert found.found == message
    assert found.passed is (by_hand == "nothing")
    assert found.passed or "automl rollback" in found.remedy


# ---------------------------------------------------------------- what is typed (killed in tests/scenarios/test_kills.py)


@pytest.mark.slow
def test_what_people_type_names_who_and_why(file: Path) -> None:
    done = type_command(file, "rollback", "--reason", "it shouts")
    shown = json.loads(type_command(file, "champion").stdout)
    early = json.loads(type_command(file, "champion", "--at", "2020-01-01").stdout)

    assert json.loads(done.stdout)["model_version"] == 1
    assert shown["champion"]["model_version"] == shown["live"]["model_version"] == 1
    assert (shown["champion"]["kind"], shown["champion"]["reason"]) == ("rollback", "it shouts")
    assert shown["champion"]["actor"]
    assert early["champion"] is None
    assert type_command(file, "rollback").returncode == 2
