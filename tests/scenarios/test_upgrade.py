"""A workspace of the release before opens, shows what it showed, and goes on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from automl import report
from automl.cycles.options import RunOptions
from automl.problem import load_problem
from automl.review import approve, rollback
from automl.score import cycle
from automl.store import Store
from automl.store import tables as t
from automl.store.migrate import upgrade
from automl.workspace import open_workspace
from tests.support.old_workspace import KEPT, NEXT, add_week, open_old_workspace


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The problem file of a copy of the kept workspace."""
    return open_old_workspace(tmp_path)


def document(file: Path, name: str, *arguments: Any) -> dict[str, Any]:
    """The document of a command that looks things up."""
    found = getattr(report, name)(load_problem(file), open_workspace(file), *arguments)
    assert isinstance(found, dict)
    return found


def test_status_why_and_champion_are_unchanged(old: Path) -> None:
    expected = json.loads((KEPT / "expected.json").read_text(encoding="utf-8"))
    status = document(old, "status")
    assert status["champion"]["model_version"] == expected["champion"]
    assert status["live"]["generation"] == expected["generation"]
    assert status["waiting"]["version"] == expected["waiting"]
    assert next(c["as_of"] for c in status["cycles"] if c["verb"] == "retrain") == "2026-05-04"
    why = document(old, "why", None)
    assert why["reason"] == expected["reason"]
    assert {block["kind"] for block in why["blocks"]} == {"out_of_sample", "in_sample"}
    for at, version in expected["champions"].items():
        found = document(old, "champion", datetime.fromisoformat(at))
        assert found["champion"]["model_version"] == version


def test_stored_words_follow_the_glossary(old: Path) -> None:
    store = Store(open_workspace(old))
    waiting = store.waiting("returns")
    assert waiting is not None
    assert set(waiting.losses) == {"model", "baseline"}
    assert {e.kind for e in store.ledger("returns")} == {"promote", "refit", "wait", "expire"}
    assert {e.kind for e in store.evidence("returns")} == {"out_of_sample", "in_sample"}
    verdicts = [v for d in store.decisions("returns") for v in d.content["verdicts"]]
    assert verdicts
    assert all("out_of_sample" in v for v in verdicts)
    assert any(g.labelled_rows and g.realised for g in store.generations("returns"))


def test_the_standby_is_pointed_at_and_the_waiting_challenger_can_be_approved(old: Path) -> None:
    expected = json.loads((KEPT / "expected.json").read_text(encoding="utf-8"))
    problem, workspace = load_problem(old), open_workspace(old)
    done = approve(problem, workspace, "as it waited")
    assert done.model_version == expected["waiting"]
    done = rollback(problem, workspace, "not after all")
    assert (done.model_version, done.rows) == (expected["champion"], 168)
    assert Store(workspace).champion("returns").blend.id == expected["blend"]  # type: ignore[union-attr]


def test_the_next_cycle_goes_on_from_what_was_known(old: Path) -> None:
    expected = json.loads((KEPT / "expected.json").read_text(encoding="utf-8"))
    problem, workspace = load_problem(old), open_workspace(old)
    store = Store(workspace)
    add_week(old.with_name("orders.csv"))
    evidence = len(store.evidence("returns"))
    assert not workspace.fit_cache("returns").exists(), "earlier cached fits are not read"

    done = cycle(problem, workspace, RunOptions(as_of=NEXT))

    assert done.status == "published"
    assert done.rows == 168
    plan = store.find_cycle("returns", "retrain", NEXT).receipts["plan"]  # type: ignore[union-attr]
    assert plan["kind"] == "warm", "ten cycles are remembered"
    champion = store.champion("returns")
    assert champion is not None
    assert champion.blend.id == expected["blend"], "in review mode the recipe stays"
    assert len(store.evidence("returns")) > evidence
    assert store.evidence("returns")[0].cycle == datetime(2026, 3, 2, tzinfo=UTC)
    assert all("unknown" not in e.actor for e in store.ledger("returns"))


def test_revisions_lead_from_the_first_schema_to_the_tables_of_this_one(tmp_path: Path) -> None:
    fresh, upgraded = (
        sa.create_engine(f"sqlite:///{tmp_path / name}") for name in ("fresh.db", "upgraded.db")
    )
    t.metadata.create_all(fresh)
    later = {"automl_ledger", "automl_waiting"}  # tables that revisions make
    t.metadata.create_all(
        upgraded, [table for name, table in t.metadata.tables.items() if name not in later]
    )
    with upgraded.begin() as connection:
        upgrade(connection, 1, t.SCHEMA_VERSION)

    def shape(engine: sa.Engine) -> dict[str, list[tuple[str, str, bool]]]:
        inspector = sa.inspect(engine)
        return {
            table: sorted(
                (c["name"], str(c["type"]), bool(c["nullable"]))
                for c in inspector.get_columns(table)
            )
            for table in t.metadata.tables
        }

    assert shape(upgraded) == shape(fresh)
    for engine in (fresh, upgraded):
        engine.dispose()
