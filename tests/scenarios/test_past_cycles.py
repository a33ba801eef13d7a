"""Past cycles: rebuilt and compared, missed ones filled, and decisions scored again."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from automl import open_project
from automl.backfill import backfill
from automl.errors import ProblemError
from automl.history.contract import load_contract
from automl.reproduction import causes, reproduce
from automl.reproduction.past import past_cycle
from automl.reproduction.rebuild import rebuilt
from automl.store import Store
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF
from tests.support.workspaces import file as file  # a fixture
from tests.support.workspaces import opened, rows, standing, type_command

WEEK = timedelta(days=7)


def content(folder: Path) -> dict[str, str]:
    """Digest of every file of a workspace, and of every table of its databases."""
    found = {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and ".db" not in p.name
    }
    for name in ("automl.db", "mlflow.db"):
        with sqlite3.connect(folder / name) as database:
            found[name] = hashlib.sha256("\n".join(database.iterdump()).encode()).hexdigest()
    return found


def change(file: Path, line: str) -> None:
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        assert database.execute(line).rowcount > 0


def test_a_past_cycle_is_rebuilt_equal_and_the_workspace_stays(file: Path) -> None:
    problem, workspace, _ = opened(file)
    before = content(workspace.home)
    found = reproduce(problem, workspace, AS_OF)
    assert content(workspace.home) == before
    assert {c.name: c.same for c in found.checks} == dict.fromkeys(
        [
            "data",
            "problem file",
            "contract",
            "libraries",
            "code",
            "decision",
            "model",
            "predictions",
        ],
        True,
    )
    assert (found.equal, found.reason, found.first_difference) == (True, "equal", None)

    # a published value that the model does not predict
    change(file, "update parcels_generations set probability = probability / 2 where parcel = "
        "(select max(parcel) from parcels_generations) and model_version = 2")  # fmt: skip
    # a recipe that is not the one which was fitted
    past, contract = past_cycle(problem, workspace, AS_OF), load_contract(problem)
    assert contract is not None
    model, predictions = list(rebuilt(past, contract))
    assert model.same
    assert (predictions.name, predictions.same) == ("predictions", False)
    assert "first parcel 2399: probability" in predictions.text


def test_the_first_difference_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, workspace, _ = opened(file)
    past = past_cycle(problem, workspace, AS_OF)
    monkeypatch.setattr(
        causes, "_installed", lambda name: "0.1" if name == "numpy" else causes.version(name)
    )
    libraries = causes.libraries(past)
    assert libraries.same is False
    assert libraries.text.startswith("numpy was ")
    assert libraries.text.endswith(", is 0.1")
    # a loss of the evidence: the decision would differ
    if past.decision.content["verdicts"]:
        change(file, "update automl_evidence set loss = loss * 3 where blend != "
            f"'{past.release.blend.id}' and cycle = (select max(cycle) from automl_evidence)")  # fmt: skip
        assert causes.decision(past).same is False
    # the contract
    contract = file.parent / "parcels.contract.json"
    path = next(file.parent.glob("*contract*.json")) if not contract.exists() else contract
    path.write_text(path.read_text().replace('"weight"', '"wait"', 1))
    assert causes.contract(past).same is False


def test_what_was_cleaned_is_said_with_what_would_have_been_needed(file: Path) -> None:
    problem, workspace, _ = opened(file)
    change(file, "update automl_generation set state = 'removed' where as_of < '2026-03-01'")
    past, contract = past_cycle(problem, workspace, AS_OF - WEEK), load_contract(problem)
    assert contract is not None
    model, predictions = list(rebuilt(past, contract))
    assert model.same
    assert predictions.same is None
    assert "was cleaned; publish.keep = 13 would have kept its rows (it is 12)" in predictions.text
    shutil.rmtree(workspace.history("parcels") / "snapshots")
    found = reproduce(problem, workspace, AS_OF)
    assert not found.equal
    assert "was cleaned; its manifest and parts" in found.reason
    assert "restore them from a backup" in found.reason
    with pytest.raises(ProblemError, match="no retraining cycle as of 2025-01-01"):
        reproduce(problem, workspace, AS_OF.replace(year=2025, month=1, day=1))


def test_missed_cycles_are_filled_oldest_first_and_readers_keep_the_newest(file: Path) -> None:
    problem, workspace, store = opened(file)
    before, shadows = standing(file), store.shadows("parcels")
    done = backfill(problem, workspace, AS_OF - 2 * WEEK, AS_OF + timedelta(days=1))
    assert [(s.as_of, s.verb, s.status) for s in done.slots] == [
        (AS_OF - 2 * WEEK, "cycle", "published")
    ]
    assert (done.there, done.exit_code) == (2, 0)
    after = standing(file)
    assert after["live"] == before["live"]
    assert after["champion"] == before["champion"] == 2
    assert store.shadows("parcels") == shadows
    champion = store.champion("parcels")
    assert champion is not None
    assert champion.as_of == AS_OF
    generations = rows(file, "select count(distinct generation) from parcels_history")
    assert generations == [(3,)]

    again = backfill(problem, workspace, AS_OF - 2 * WEEK, AS_OF + timedelta(days=1))
    assert (again.slots, again.there) == ((), 3)
    assert standing(file) == after

    # refused slots are named, and do not stop the others: there is no history a year before
    refused = open_project(file).backfill(start=AS_OF - 9 * WEEK, end=AS_OF - 8 * WEEK)
    assert [s["status"] for s in refused["slots"]] == ["refused"]
    assert "1 refused or failed" in refused["reason"]
    with pytest.raises(ProblemError, match="found no slot"):
        backfill(problem, workspace, AS_OF, AS_OF)


@pytest.mark.slow
def test_the_commands_print_one_document_and_have_their_exit_codes(file: Path) -> None:
    done = type_command(
        file, "backfill", "--from", f"{AS_OF - WEEK:%Y-%m-%d}", "--to", f"{AS_OF:%Y-%m-%d}"
    )
    assert (done.returncode, json.loads(done.stdout)["there"]) == (0, 1), done.stderr
    shutil.rmtree(open_workspace(file).history("parcels") / "parts")
    done = type_command(file, "reproduce", "--cycle", f"{AS_OF:%Y-%m-%d}")
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert (document["equal"], document["checks"][0]["same"]) == (False, None)
    assert "Traceback" not in done.stderr


def test_past_decisions_are_scored_again(file: Path) -> None:
    project = open_project(file)
    table = project.regret()
    assert next(iter(table["outcome"])) == "first"
    assert set(table["plan"]) <= {"full", "warm", "refit"}
    assert (table["core_seconds"] > 0).all()
    assert (table["wall_seconds"] > 0).all()
    newest = table.iloc[-1]
    assert newest["right"] is None
    assert newest["text"].startswith("not known: ")
    why = project.why(cycle=AS_OF - WEEK)
    assert why["regret"]["text"] == table.iloc[0]["text"]
    assert "regret: " in str(why)
    assert Store(open_workspace(file)).champion("parcels") is not None
