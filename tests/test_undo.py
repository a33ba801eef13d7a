"""Undoing: a person's word is effective at once and as a whole, or nothing has changed."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest

from automl import publish, release, ruling, score, undo
from automl.ask import Ask
from automl.decide import Decision, decide
from automl.doctor import examine
from automl.errors import PredictError, ProblemError
from automl.evidence import Duel
from automl.problem import load_problem
from automl.publish import read_predictions
from automl.retrain import retrain
from automl.ruling import dethroned
from automl.score import cycle
from automl.spaces import Blend, Recipe
from automl.store import Entry, Store, Waiting, ledger
from automl.story import call
from automl.undo import approve, heed, reject, rollback
from automl.workspace import now, open_workspace
from tests.conftest import AS_OF, make_world, write_problem

WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two weekly cycles have run: versions 1 and 2."""
    folder = tmp_path_factory.mktemp("released")
    file = write_problem(
        folder,
        replace={
            "trials   = 4": "trials   = 2",
            "[validation]": '[publish]\nparquet = "out"\n\n[validation]',
        },
        frame=make_world(),
    )
    for as_of in (AS_OF - WEEK, AS_OF):
        cycle(load_problem(file), open_workspace(file), Ask(as_of=as_of))
    return file


@pytest.fixture
def file(released: Path, tmp_path: Path) -> Path:
    """The problem file of a copy of that folder; paths inside it lead to the copy."""
    folder = tmp_path / "copy"
    shutil.copytree(released.parent, folder)
    for database, table, columns in (
        ("mlflow", "experiments", ["artifact_location"]),
        ("mlflow", "runs", ["artifact_uri"]),
        ("mlflow", "logged_models", ["artifact_location"]),
        ("mlflow", "model_versions", ["source", "storage_location"]),
        ("automl", "automl_cycle", ["receipts"]),
    ):
        with sqlite3.connect(folder / ".automl" / f"{database}.db") as connection:
            for column in columns:
                connection.execute(
                    f"update {table} set {column} = replace({column}, ?, ?)",
                    (str(released.parent), str(folder)),
                )
    return folder / released.name


def _rows(file: Path, query: str) -> list[Any]:
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        return database.execute(query).fetchall()


def _standing(file: Path) -> dict[str, Any]:
    """What readers and the registry see, through nothing of ours."""
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    aliases = client.get_registered_model("parcels").aliases
    return {
        "live": _rows(file, "select generation, model_version, count(*) from parcels group by 1, 2"),
        "releases": _rows(file, "select as_of, model_version from automl_release order by id"),
        "ledger": _rows(file, "select kind, from_version, to_version from automl_ledger order by id"),
        "waiting": _rows(file, "select blend_id from automl_waiting"),
        "champion": int(aliases["champion"]),
        "running": len(client.search_runs(["1"], "attributes.status = 'RUNNING'")),
    }  # fmt: skip


def _automl(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "automl.cli", arguments[0], str(file), *arguments[1:], "--json"],
        capture_output=True,
        text=True,
        check=False,
    )


def _open(file: Path) -> tuple[Any, Any, Store]:
    workspace = open_workspace(file)
    return load_problem(file), workspace, Store(workspace)


def _let_wait(file: Path, *, days: int = 14) -> Blend:
    """A challenger waits, as a cycle in review mode leaves it: version 1, under another blend."""
    _, _, store = _open(file)
    blend = Blend.single(Recipe("linear", {"C": 0.5}))
    champion = store.champion("parcels")
    version = next(r for r in store.releases("parcels") if r.model_version == 1)
    assert champion is not None
    moment = now()
    one = Waiting(
        champion.as_of, blend, champion.labels_until, "it gains", {"model": 0.2, "floor": 0.5},
        moment, moment + timedelta(days=days), champion.decision_id,
        version.model_version, version.run_id, version.digests, version.fingerprint,
    )  # fmt: skip
    told = Entry(moment, one.as_of, "wait", "schedule", "it gains", blend_id=blend.id)
    with store.writer.begin() as connection:
        ledger.write_waiting(connection, "parcels", one)
        ledger.write(connection, "parcels", told)
    return blend


# ---------------------------------------------------------------- rollback


def test_a_rollback_brings_the_former_version_and_its_predictions(file: Path) -> None:
    problem, workspace, store = _open(file)
    before = _standing(file)

    done = rollback(problem, workspace, "it shouts", who="ann")

    after = _standing(file)
    assert (done.status, done.model_version, done.already) == ("rolled back", 1, False)
    assert done.warnings == []
    assert [v for _, v, _ in after["live"]] == [1] == [after["champion"]]
    assert after["live"][0][2] == before["live"][0][2], "the same batch"
    assert after["releases"] == [*before["releases"], (before["releases"][-1][0], 1)]
    assert after["ledger"][-1] == ("rollback", 2, 1)
    batches = _rows(
        file, "select distinct batch from automl_generation where as_of >= '2026-03-02'"
    )
    assert len(batches) == 1
    old, new = store.releases("parcels")[-1], store.releases("parcels")[0]
    assert (new.digests, new.blend, new.run_id) == (old.digests, old.blend, old.run_id)
    told = store.ledger("parcels")[-1]
    assert (told.actor, told.reason, told.generation) == ("ann", "it shouts", done.generation)


def test_the_same_rollback_again_changes_nothing_and_another_must_say_where_to(file: Path) -> None:
    problem, workspace, _ = _open(file)
    rollback(problem, workspace, "it shouts")
    after = _standing(file)

    assert rollback(problem, workspace, "it shouts").already
    assert rollback(problem, workspace, "whatever", to=1).already
    with pytest.raises(ProblemError, match="is itself a rollback from version 2"):
        rollback(problem, workspace, "it whispers")
    assert _standing(file) == after

    there = rollback(problem, workspace, "it was the data", to=2)
    assert (there.model_version, there.already) == (2, False)
    assert [v for _, v, _ in _standing(file)["live"]] == [2]


def test_a_rollback_to_a_generation_made_beforehand_scores_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, workspace, store = _open(file)
    live = store.live(problem.table)
    assert live is not None
    standby = store.staged("parcels", live, 1)
    assert standby is not None

    def refuse(*_: Any) -> None:
        raise AssertionError("nothing may be scored")

    monkeypatch.setattr(undo, "stage_batch", refuse)
    monkeypatch.setattr(publish, "audit", refuse)
    monkeypatch.setattr(undo, "_follow", lambda _: [])  # projections: not what readers wait for
    started = time.monotonic()
    done = rollback(problem, workspace, "quick")

    assert time.monotonic() - started < 1
    assert done.generation == standby
    assert _rows(file, "select distinct generation from parcels") == [(standby,)]


def _without_standby(file: Path) -> None:
    problem, _, store = _open(file)
    live = store.live(problem.table)
    assert live is not None
    standby = store.staged("parcels", live, 1)
    assert standby is not None
    with store.hold("parcels") as hold:
        publish.discard(store, hold, problem, standby)


def test_without_a_standby_the_frozen_batch_is_scored_first(file: Path) -> None:
    problem, workspace, store = _open(file)
    rollback(problem, workspace, "a", to=1)
    told = _rows(file, "select parcel, probability from parcels order by parcel")
    rollback(problem, workspace, "b", to=2)
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        database.execute("update automl_generation set state = 'removed' where model_version = 1")
    (file.parent / "world.db").unlink()  # nothing is pulled anew

    done = rollback(problem, workspace, "c", to=1)

    assert (done.model_version, done.warnings) == (1, [])
    assert _rows(file, "select parcel, probability from parcels order by parcel") == told
    assert store.ledger("parcels")[-1].generation == done.generation


def test_back_and_forth_keeps_what_was_seen_when(file: Path) -> None:
    problem, workspace, store = _open(file)
    first = store.live(problem.table)
    assert first is not None
    moments = [now()]
    for version in (1, 2, 1):
        rollback(problem, workspace, f"to {version}", to=version)
        moments.append(now())

    seen = [store.seen("parcels", moment) for moment in moments]

    assert [g and g["model_version"] for g in seen] == [2, 1, 2, 1]
    assert [g and g["id"] for g in seen][0::2] == [first["id"]] * 2
    here = "as_of >= '2026-03-02' and state = 'published'"
    assert _rows(file, f"select count(*) from automl_generation where {here}") == [(2,)]


def test_the_next_score_stays_with_the_version_that_was_brought_back(file: Path) -> None:
    problem, workspace, _ = _open(file)
    rollback(problem, workspace, "it shouts")

    later = score.score(problem, workspace, Ask(as_of=AS_OF + timedelta(days=1)), run=call)
    again = cycle(problem, workspace, Ask(as_of=AS_OF))

    assert later.model_version == again.model_version == 1
    assert again.already


def test_the_parquet_copy_follows_a_rollback(file: Path) -> None:
    problem, workspace, _ = _open(file)

    done = rollback(problem, workspace, "it shouts")

    copy = read_predictions(file.parent / "out")
    assert set(copy["generation"]) == {done.generation}
    assert set(copy["model_version"]) == {1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": 9}, "version 9 was never released; found 1"),
        ({"reason": " "}, "--reason: found none"),
    ],
)
def test_what_cannot_be_undone_is_refused(
    file: Path, arguments: dict[str, Any], message: str
) -> None:
    problem, workspace, _ = _open(file)
    before = _standing(file)

    with pytest.raises(ProblemError, match=message):
        rollback(problem, workspace, **{"reason": "why", **arguments})

    assert _standing(file) == before


def test_a_version_deleted_in_mlflow_stops_scoring_and_says_what_to_do(file: Path) -> None:
    before = _standing(file)
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    mlflow.MlflowClient(uri, registry_uri=uri).delete_model_version("parcels", "2")
    problem, workspace, _ = _open(file)

    with pytest.raises(PredictError, match="version 2 of parcels was deleted") as caught:
        score.score(problem, workspace, Ask(as_of=AS_OF + timedelta(days=1)))

    assert (caught.value.code, caught.value.exit_code) == ("version_gone", 6)
    assert "automl rollback" in caught.value.next_step
    assert _rows(file, "select generation, model_version, count(*) from parcels") == before["live"]
    done = rollback(problem, workspace, "deleted")
    assert (done.model_version, _standing(file)["champion"]) == (1, 1)


@pytest.mark.parametrize(
    ("by_hand", "told"),
    [
        ("nothing", "version 2 was released, the alias champion names 2"),
        ("moved", "version 2 was released, the alias champion names 1"),
        ("deleted", "model version 2 of parcels was deleted in MLflow"),
    ],
)
def test_doctor_sees_what_was_changed_in_mlflow_by_hand(
    file: Path, by_hand: str, told: str
) -> None:
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    if by_hand == "moved":
        client.set_registered_model_alias("parcels", "champion", "1")
    elif by_hand == "deleted":
        client.delete_model_version("parcels", "2")

    (found,) = (c for c in examine(*_open(file)[:2]) if c.name == "champion")

    assert found.found == told
    assert found.passed is (by_hand == "nothing")
    assert found.passed or "automl rollback" in found.remedy


# ---------------------------------------------------------------- review


def _promoting(rivals: Sequence[Duel], holder: str, *_: Any, **__: Any) -> Decision:
    """A rule that finds any challenger better."""
    told = decide([d for d in rivals if d.challenger != holder], holder, 0.8, {}).verdicts
    best = replace(told[0], passed=True, reason="")
    return Decision("promote", best.challenger, "promoted: it gains", (best, *told[1:]))


def test_in_review_mode_the_champion_is_refit_and_who_is_better_waits(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = file.read_text(encoding="utf-8").replace("trials   = 2", "trials   = 5")
    file.write_text(text + '\n[promotion]\nmode = "review"\n', encoding="utf-8")
    problem, workspace, store = _open(file)
    before = _standing(file)
    held = store.champion("parcels")
    assert held is not None
    monkeypatch.setattr(ruling, "decide", _promoting)
    shadow = Blend.single(Recipe("linear", {"C": 0.5, "alpha": 1.0}, 3))
    with store.writer.begin() as connection:
        release._keep_shadows(connection, problem, [(shadow, held.labels_until)])

    ending = retrain(problem, workspace, Ask(as_of=AS_OF + timedelta(days=3), plan="full"))

    assert ending.warnings == []
    assert ending.reason.startswith("kept; ")
    waiting, champion = store.waiting("parcels"), store.champion("parcels")
    assert waiting is not None
    assert champion is not None
    assert (champion.model_version, waiting.model_version) == (3, 4)
    assert champion.blend.id == held.blend.id != waiting.blend.id
    assert _challenger(file) == 4
    assert waiting.expires_at - waiting.waits_since == timedelta(days=14)
    assert waiting.losses["model"] < waiting.losses["floor"]
    assert store.decisions("parcels")[0]["outcome"] == "wait"
    assert waiting.blend.id in {b.id for b, _ in store.shadows("parcels")}, "and is judged again"
    told = _standing(file)
    assert told["ledger"][len(before["ledger"]) :] == [("refit", 2, 3), ("wait", None, 4)]
    assert told["live"] == before["live"]
    done = approve(problem, workspace, "yes")
    assert (done.model_version, store.champion("parcels").blend) == (4, waiting.blend)  # type: ignore[union-attr]
    assert [v for _, v, _ in _standing(file)["live"]] == [4]
    assert _challenger(file) is None
    watched = dethroned(store, problem, AS_OF + timedelta(days=4))
    assert watched is not None
    assert watched.blend == champion.blend, "who was put out is held against who was let in"


def _challenger(file: Path) -> int | None:
    """Whom MLflow's alias names."""
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    aliases = mlflow.MlflowClient(uri, registry_uri=uri).get_registered_model("parcels").aliases
    return int(aliases["challenger"]) if "challenger" in aliases else None


def test_who_is_not_found_better_again_waits_no_longer(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    file.write_text(text + '\n[promotion]\nmode = "review"\n', encoding="utf-8")
    problem, workspace, store = _open(file)
    blend = _let_wait(file)

    retrain(problem, workspace, Ask(as_of=AS_OF + timedelta(days=3), plan="refit"))

    assert store.waiting("parcels") is None
    told = store.ledger("parcels")[-1]
    assert (told.kind, told.blend_id, told.to_version) == ("lapse", blend.id, 1)
    assert "did not find it better again" in told.reason
    assert _challenger(file) is None


@pytest.mark.parametrize(
    ("tag", "reason"), [("checked with Kim", "checked with Kim"), ("true", "tag approved")]
)
def test_a_tag_in_mlflow_approves_before_the_next_command(
    file: Path, tag: str, reason: str
) -> None:
    _let_wait(file)
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    client.set_model_version_tag("parcels", "1", "approved", tag)

    done = _automl(file, "score", "--as-of", f"{AS_OF:%Y-%m-%d}")

    assert done.returncode == 0, done.stderr
    assert "version 1 approved by a tag in MLflow" in done.stderr
    _, _, store = _open(file)
    told = store.ledger("parcels")[-1]
    assert (told.kind, told.actor, told.reason) == ("approve", "a tag in MLflow", reason)
    assert [v for _, v, _ in _standing(file)["live"]] == [1]


@pytest.mark.parametrize("tag", ["no", "false", None])
def test_a_tag_that_says_no_and_no_tag_approve_nobody(file: Path, tag: str | None) -> None:
    problem, workspace, store = _open(file)
    assert heed(problem, workspace) is None, "nobody waits"
    _let_wait(file)
    if tag is not None:
        uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
        client = mlflow.MlflowClient(uri, registry_uri=uri)
        client.set_model_version_tag("parcels", "1", "approved", tag)

    assert heed(problem, workspace) is None
    assert store.waiting("parcels") is not None


def test_an_approved_version_is_released_and_seen(file: Path) -> None:
    problem, workspace, store = _open(file)
    _without_standby(file)
    blend = _let_wait(file)

    done = approve(problem, workspace, "looks right", version=1, who="ann")

    after = _standing(file)
    assert (done.status, done.model_version, done.warnings) == ("approved", 1, [])
    assert [v for _, v, _ in after["live"]] == [1] == [after["champion"]]
    assert after["ledger"][-1] == ("approve", 2, 1)
    assert (after["waiting"], after["running"]) == ([], 0)
    champion = store.champion("parcels")
    assert champion is not None
    assert champion.blend == blend
    assert champion.fingerprint
    assert approve(problem, workspace, "looks right").already
    with pytest.raises(ProblemError, match="no challenger waits"):
        approve(problem, workspace, "another one")
    assert _standing(file) == after


def test_a_rejected_challenger_waits_no_more_and_nothing_else_changes(file: Path) -> None:
    problem, workspace, store = _open(file)
    before = _standing(file)
    blend = _let_wait(file)
    with pytest.raises(ProblemError, match="version 7 does not wait; found version 1"):
        reject(problem, workspace, "no", version=7)

    done = reject(problem, workspace, "no", who="ann")

    after = _standing(file)
    assert (done.status, done.model_version) == ("rejected", 2)
    assert after["ledger"] == [*before["ledger"], ("wait", None, None), ("reject", None, None)]
    assert {k: v for k, v in after.items() if k != "ledger"} == {
        k: v for k, v in before.items() if k != "ledger"
    }
    assert store.ledger("parcels")[-1].blend_id == blend.id
    assert reject(problem, workspace, "no").already


def test_old_evidence_cannot_be_approved(file: Path) -> None:
    problem, workspace, _ = _open(file)
    _let_wait(file, days=-1)

    with pytest.raises(ProblemError, match="its evidence is old"):
        approve(problem, workspace, "late")


# ---------------------------------------------------------------- what is typed (killed in tests/test_kills.py)


def test_what_people_type_names_who_and_why(file: Path) -> None:
    done = _automl(file, "rollback", "--reason", "it shouts")
    told = json.loads(_automl(file, "champion").stdout)
    early = json.loads(_automl(file, "champion", "--at", "2020-01-01").stdout)

    assert json.loads(done.stdout)["model_version"] == 1
    assert told["champion"]["model_version"] == told["live"]["model_version"] == 1
    assert (told["champion"]["kind"], told["champion"]["reason"]) == ("rollback", "it shouts")
    assert told["champion"]["actor"]
    assert early["champion"] is None
    assert _automl(file, "rollback").returncode == 2
