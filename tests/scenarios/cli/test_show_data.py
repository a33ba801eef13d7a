"""`automl history` and `automl contract` on the command line."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from automl.cycles.options import RunOptions
from automl.history import pull, read
from automl.history.contract import check, load_contract
from automl.problem import load_problem
from automl.report.data_tables import contract_document
from automl.retrain import retrain
from automl.store import Store
from automl.workspace import open_workspace
from tests.scenarios.cli.test_run import AS_OF as FIRST
from tests.support.commands import Launcher
from tests.support.parcels import AS_OF, write_problem
from tests.support.typing_commands import HEAVY, Finished, Place

DAY = timedelta(days=1)
DAYS = ("2026-03-03", "2026-03-04")
QUICK = {
    "trials   = 4": "trials   = 1",
    '"baseline", "linear"': '"linear"',
    "origins = 2": "origins = 1",
}


def inspect(place: Place, *arguments: str) -> Finished:
    return place.order(arguments[0], str(place.file), *arguments[1:], COLUMNS="80")


def change(place: Place, *statements: str) -> None:
    """Change rows or columns of the source database."""
    with closing(sqlite3.connect(place.folder / "world.db")) as world:
        for statement in statements:
            world.execute(statement)
        world.commit()


def compare(place: Place) -> dict[str, Any]:
    """The document of `automl contract --json` for the newest day, without a new process."""
    moment = datetime.fromisoformat(DAYS[1]).replace(tzinfo=UTC)
    workspace = open_workspace(place.file)
    return contract_document(load_problem(place.file), workspace, moment, accept=False)


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher) -> Place:
    """A problem after two retrainings; the second pull set two rows aside."""
    folders = tmp_path_factory.mktemp("pulled"), tmp_path_factory.mktemp("elsewhere")
    place = Place(*folders, launcher)
    write_problem(
        place.folder,
        replace={**QUICK, 'label_delay = "1d"': 'label_delay = "1d"\nquarantine  = 0.4'},
    )
    _retrain(place, FIRST)
    change(
        place,
        "update parcels set weight = '[heavy]' where sent_at between '2026-03-01 12' and '2026-03-01 13'",
    )
    _retrain(place, DAYS[0])
    return place


def _retrain(place: Place, as_of: str) -> None:
    """In this process: a command of its own would load MLflow again."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # left by MLflow for another workspace
    moment = datetime.fromisoformat(as_of).replace(tzinfo=UTC)
    retrain(load_problem(place.file), open_workspace(place.file), RunOptions(as_of=moment))


# ---------------------------------------------------------------- before any pull


def test_history_before_any_pull_names_the_command_to_run(
    tmp_path: Path, launcher: Launcher
) -> None:
    place = Place(tmp_path, tmp_path, launcher)
    write_problem(tmp_path)

    result, document = inspect(place, "history"), inspect(place, "history", "--json").document

    assert (result.code, document["pulls"], document["bytes_stored"]) == (0, [], 0)
    assert "no pull yet; run automl retrain problem.toml" in result.out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("history", "--verify"), "no_snapshot"),
        (("contract",), "no_contract"),
        (("contract", "--accept"), "no_contract"),
    ],
    ids=" ".join,
)
def test_commands_that_need_a_pull_are_refused_before_the_first(
    tmp_path: Path, launcher: Launcher, arguments: tuple[str, ...], code: str
) -> None:
    place = Place(tmp_path, tmp_path, launcher)
    write_problem(tmp_path)

    result = inspect(place, *arguments, "--json")

    assert (result.code, result.document["error"]["code"]) == (3, code)
    assert "next: automl retrain problem.toml" in result.err
    assert not (tmp_path / "problem.contract.json").exists()


# ---------------------------------------------------------------- history


def test_history_fits_80_columns_and_shows_each_pull(pulled: Place) -> None:
    result = inspect(pulled, "history")

    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 80
    assert "…" not in result.out, "nothing is cut"
    rows = [line.split() for line in result.out.splitlines() if line.startswith("2026-03-0")]
    assert [row[0] for row in rows] == [DAYS[0], FIRST], "newest first"
    assert "2 rows set aside" in result.out
    assert "kind_changed" in result.out
    assert "checked" in result.out


def test_history_json_is_one_document_with_pulls_and_rows_set_aside(pulled: Place) -> None:
    document = inspect(pulled, "history", "--json").document

    newest, oldest = document["pulls"]
    assert (oldest["full"], oldest["new"], oldest["quarantined"]) == (
        "the first pull",
        oldest["rows"],
        {},
    )
    assert newest["as_of"].startswith(DAYS[0])
    assert newest["quarantined"] == {"kind_changed": 2}
    assert newest["rows"] - oldest["rows"] == newest["new"] == 34
    row, _ = document["quarantine"]
    assert (row["reason"], row["column"]) == ("kind_changed", "weight")
    assert json.loads(row["key"])["parcel"] > 0
    stored = sum(f.stat().st_size for f in Path(document["folder"]).glob("parts/*.parquet"))
    assert document["bytes_stored"] == stored > 0


def test_verify_compares_every_window_and_pulls_differing_windows_again(
    pulled: Place, tmp_path: Path
) -> None:
    place = _copy(pulled, tmp_path)
    change(place, "delete from parcels where sent_at between '2026-01-20 10' and '2026-01-20 11'")
    before = inspect(place, "history", "--json").document["pulls"]

    result = inspect(place, "history", "--verify", "--json")

    newest, *rest = result.document["pulls"]
    assert result.code == 0
    assert rest == before
    assert newest["rows"] == before[0]["rows"] - newest["deleted"]
    assert (newest["deleted"], newest["repaired"]) == (2, 1)
    assert newest["verified"] >= 1
    again = inspect(place, "history", "--verify", "--json").document["pulls"][0]
    assert (again["repaired"], again["snapshot"]) == (0, newest["snapshot"])


def test_verify_exits_7_while_a_cycle_runs(pulled: Place) -> None:
    with Store(open_workspace(pulled.file)).hold("parcels"):
        result = inspect(pulled, "history", "--verify")

    assert result.code == 7
    assert "unchanged: champion is still version" in result.err


# ---------------------------------------------------------------- contract


def test_contract_shows_columns_and_no_changes(pulled: Place) -> None:
    before = (pulled.folder / "problem.contract.json").read_bytes()

    result, document = inspect(pulled, "contract"), inspect(pulled, "contract", "--json").document

    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 80
    assert document["changes"] == []
    assert "no changes" in result.out
    assert document["columns"]["carrier"] == {
        "kind": "text", "categories": ["ant", "bee", "cat"], "range": None, "allowed": None
    }  # fmt: skip
    assert document["columns"]["weight"]["range"][0] < document["columns"]["weight"]["range"][1]
    assert document["classes"] == [0, 1]
    assert document["unused"] == {"parcel": "key"}
    assert (pulled.folder / "problem.contract.json").read_bytes() == before


LATER = "sent_at >= '2026-03-01'"
CHANGES: dict[str, tuple[tuple[str, ...], set[str], dict[str, Any]]] = {
    "a column more": (
        ("alter table parcels add column floor real", "update parcels set floor = parcel % 7"),
        {"column_new"},
        {"floor": "number"},
    ),
    "a number becomes text": (
        (f"update parcels set weight = 'about ' || weight where {LATER}",),
        {"kind_changed"},
        {"weight": "text"},
    ),
    "a column less": (
        ("alter table parcels drop column weight",),
        {"column_removed"},
        {"weight": None},
    ),
    "a new category and a wider range": (
        (f"update parcels set carrier = 'dog', weight = 5000 + weight where {LATER}",),
        {"category_new", "range_left"},
        {"weight": "number", "carrier": "text"},
    ),
}


@pytest.mark.parametrize(("statements", "codes", "kinds"), CHANGES.values(), ids=CHANGES)
def test_changes_are_shown_with_their_code_and_accepted(
    pulled: Place,
    tmp_path: Path,
    statements: tuple[str, ...],
    codes: set[str],
    kinds: dict[str, str | None],
) -> None:
    place = _copy(pulled, tmp_path)
    change(place, "update parcels set weight = 1.0 where weight = '[heavy]'", *statements)
    before = (place.folder / "problem.contract.json").read_bytes()

    text = inspect(place, "contract", "--as-of", DAYS[1])
    document = compare(place)

    assert {c["code"] for c in document["changes"]} == codes
    assert not document["accepted"]
    assert all(code in text.out for code in codes)
    assert "--accept writes these changes to the contract" in text.out
    assert max(map(len, text.out.splitlines())) <= 80
    assert (place.folder / "problem.contract.json").read_bytes() == before

    taken = inspect(place, "contract", "--as-of", DAYS[1], "--accept", "--json").document

    assert taken["accepted"]
    assert taken["changes"] == document["changes"]
    contract = load_contract(load_problem(place.file))
    assert contract is not None
    assert {n: contract.features.get(n) for n in kinds} == kinds
    assert compare(place)["changes"] == []


def test_the_next_retraining_uses_the_columns_that_were_accepted(
    pulled: Place, tmp_path: Path
) -> None:
    place = _copy(pulled, tmp_path)
    change(
        place,
        "alter table parcels add column floor real",
        "update parcels set floor = parcel % 7",
        "update parcels set weight = 'about ' || weight where sent_at >= '2026-03-01'",
        "alter table parcels drop column carrier",
    )
    inspect(place, "contract", "--as-of", DAYS[1], "--accept")

    _retrain(place, DAYS[1])

    newest = inspect(place, "history", "--json").document["pulls"][0]
    assert newest["as_of"].startswith(DAYS[1])
    assert newest["full"] == "problem file or contract have changed"
    manifest = place.folder / f".automl/history/parcels/snapshots/{newest['snapshot'][:24]}.json"
    kinds = json.loads(manifest.read_text(encoding="utf-8"))["kinds"]
    assert (kinds["floor"], kinds["weight"], "carrier" in kinds) == ("number", "text", False)
    assert inspect(place, "status", "--json").document["champion"]["model_version"] == 3


@pytest.mark.slow
def test_a_new_class_is_shown_and_accepted_by_a_multiclass_problem(
    tmp_path: Path, make_problem: Callable[..., Any], launcher: Launcher
) -> None:
    problem = make_problem("multiclass", replace=QUICK)
    place = Place(tmp_path, tmp_path, launcher)
    retrain(problem, open_workspace(problem.file), RunOptions(as_of=AS_OF))
    change(place, "update parcels set fate = 'eaten' where parcel % 40 = 0")

    document = inspect(place, "contract", "--accept", "--json").document

    [found] = [c for c in document["changes"] if c["code"] == "class_new"]
    assert found["text"] == "fate: new classes eaten"
    assert document["classes"] == ["eaten", "fine", "late", "lost"]
    contract = load_contract(problem)
    assert contract is not None
    snapshot = pull(
        problem, open_workspace(problem.file), AS_OF + DAY, kinds=contract.kinds(problem)
    )
    check(read(snapshot), contract, problem, snapshot.offered)


def test_contract_shows_what_trained_last_and_accepts_the_data_of_a_refused_cycle(
    pulled: Place, tmp_path: Path
) -> None:
    place = _copy(pulled, tmp_path)
    change(place, "alter table parcels drop column weight")

    refused = place.order("retrain", str(place.file), "--as-of", DAYS[1])
    shown, text = inspect(place, "contract", "--json").document, inspect(place, "contract").out
    document = inspect(place, "contract", "--as-of", DAYS[1], "--json").document
    accepted = inspect(place, "contract", "--accept", "--json").document

    assert refused.code == 3
    assert "automl contract" in refused.err
    assert shown["as_of"].startswith(DAYS[0])
    assert shown["newest"].startswith(DAYS[1])
    assert f"--as-of {DAYS[1]}" in text
    assert accepted["as_of"].startswith(DAYS[1])
    assert accepted["changes"] == document["changes"]
    assert document["as_of"].startswith(DAYS[1])
    assert [c["code"] for c in document["changes"]] == ["column_removed"]


def test_a_stray_cell_changes_no_kind(pulled: Place, tmp_path: Path) -> None:
    place = _copy(pulled, tmp_path)
    assert compare(place)["changes"] == []

    change(place, "update parcels set weight = '[heavy]' where parcel % 4 = 0")

    assert compare(place)["changes"] == [
        {"code": "kind_changed", "text": "weight: kind number -> text"}
    ]


@pytest.mark.parametrize("command", ["history", "contract"])
def test_inspecting_data_loads_no_heavy_library(pulled: Place, command: str) -> None:
    result = pulled.run(command, str(pulled.file), python=("-X", "importtime"))

    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in result.err.splitlines()
        if "|" in line
    }
    assert result.code == 0
    assert "pyarrow" in loaded
    assert loaded.isdisjoint(HEAVY)


def _copy(place: Place, folder: Path) -> Place:
    shutil.copytree(place.folder, folder / "here")
    return Place(folder / "here", folder, place.launcher)
