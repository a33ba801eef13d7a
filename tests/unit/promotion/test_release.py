"""Releases and their ledger: both change together or not at all."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from automl import report
from automl.errors import BusyError, PredictError
from automl.modeling.recipes import Blend, Recipe
from automl.problem import Problem
from automl.promotion import release as release_module
from automl.promotion.release import PendingDecision, commit_release, commit_review, reconcile
from automl.retrain.probation import doubted
from automl.store import Entry, Hold, Release, Store, Waiting
from automl.store import tables as t
from automl.workspace import Workspace

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = timedelta(weeks=1)


def blend_of(number: float) -> Blend:
    return Blend.single(Recipe("linear", {"C": number}))


def release_of(week: int, version: int, recipe: float = 1.0) -> Release:
    as_of = MONDAY + week * WEEK
    return Release(
        id=0,
        as_of=as_of,
        model_version=version,
        run_id=f"run{version}",
        digests={},
        fingerprint="f" * 64,
        blend=blend_of(recipe),
        labels_until=as_of,
        projected=False,
    )


class DecidedStore:
    """A store in which cycles are decided by hand, an hour of the wall clock apart."""

    def __init__(
        self, problem: Problem, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.problem, self.workspace, self.store = problem, workspace, Store(workspace)
        self.clock = datetime(2026, 5, 1, tzinfo=UTC)
        monkeypatch.setattr(release_module, "now", lambda: self.clock)

    def tick(self) -> None:
        self.clock += timedelta(hours=1)

    def cycle(
        self, week: int, version: int, outcome: str, recipe: float = 1.0, attempt: int = 1
    ) -> Release:
        """A cycle that ends in a release."""
        self.tick()
        name = self.problem.name
        released = release_of(week, version, recipe)
        cycle = self.store.open_cycle(name, "retrain", released.as_of, attempt, "digest")
        pending = PendingDecision(
            outcome=outcome,
            reason=f"{outcome} in week {week}",
            content={},
            evidence=(),
            shadows=(),
            actor="schedule",
        )
        with self.store.hold(name) as hold:
            return commit_release(
                self.store, hold, self.problem, cycle, decision=pending, release=released
            )

    def undo(self, kind: str, target: Release, reverted_blend: str = "") -> Release:
        """A person's release at the as_of of the champion."""
        self.tick()
        champion = self.store.champion(self.problem.name)
        assert champion is not None
        entry = Entry(
            at=self.clock,
            as_of=champion.as_of,
            kind=kind,
            actor="ann",
            reason=f"{kind} it",
            blend_id=reverted_blend,
        )
        released = replace(target, as_of=champion.as_of)
        with self.store.hold(self.problem.name) as hold:
            return commit_review(self.store, hold, self.problem, release=released, entry=entry)

    def version(self, at: datetime | None) -> int | None:
        champion = report.champion(self.problem, self.workspace, at)["champion"]
        return champion and champion["model_version"]


@pytest.fixture
def session(
    make_problem: Callable[..., Problem], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> DecidedStore:
    return DecidedStore(make_problem(), workspace, monkeypatch)


@pytest.fixture
def ten_cycles(session: DecidedStore) -> DecidedStore:
    """Two promotions, a rejection, a rollback, a revert, and a backfill that readers never see."""
    first = session.cycle(0, 1, "first", 1)
    session.cycle(1, 2, "keep", 1)
    third = session.cycle(2, 3, "promote", 2)
    session.undo("rollback", first, third.blend.id)
    session.cycle(3, 4, "keep", 1)
    session.tick()
    entry = Entry(
        at=session.clock,
        as_of=MONDAY + 3 * WEEK,
        kind="reject",
        actor="ann",
        reason="no",
        blend_id="abc",
    )
    with session.store.writer.begin() as connection:
        release_module.ledger.write(connection, "parcels", entry)
    fifth = session.cycle(4, 5, "keep", 1)
    session.cycle(5, 6, "promote", 3)
    session.undo("revert", fifth, blend_of(3).id)
    session.cycle(1, 7, "promote", 9, attempt=2)  # a backfill
    for week in range(6, 10):
        session.cycle(week, week + 2, "keep", 1)
    return session


def test_what_was_live_agrees_with_a_replay_of_the_ledger_by_hand(ten_cycles: DecidedStore) -> None:
    with sqlite3.connect(ten_cycles.workspace.home / "automl.db") as database:
        rows = database.execute(
            "select at, as_of, kind, to_version from automl_ledger order by id"
        ).fetchall()
        releases = database.execute(
            "select released_at, as_of, model_version from automl_release order by id"
        ).fetchall()
    assert [kind for _, _, kind, _ in rows] == [
        *("promote", "refit", "promote", "rollback", "refit", "reject", "refit", "promote"),
        *("revert", "promote", "refit", "refit", "refit", "refit"),
    ]
    moments = [datetime.fromisoformat(at).replace(tzinfo=UTC) for at, *_ in rows]
    for moment in [moments[0] - timedelta(seconds=1), *moments, *(m + WEEK for m in moments)]:
        stamp = f"{moment:%Y-%m-%d %H:%M:%S.%f}"
        live, newest = None, ""
        for at, as_of, _, version in rows:  # a row without a version changes nothing
            if at <= stamp and version is not None and as_of >= newest:
                live, newest = version, as_of
        shown = [(as_of, i, v) for i, (at, as_of, v) in enumerate(releases) if at <= stamp]
        assert live == (max(shown)[2] if shown else None)
        assert ten_cycles.version(moment) == live
    assert [ten_cycles.version(m) for m in moments] == [1, 2, 3, 1, 4, 4, 5, 6, 5, 5, 8, 9, 10, 11]
    assert ten_cycles.version(None) == 11


def test_why_shows_the_rows_of_its_cycle(ten_cycles: DecidedStore) -> None:
    shown = report.why(ten_cycles.problem, ten_cycles.workspace, MONDAY + 2 * WEEK)

    assert [
        (e["kind"], e["actor"], e["from_version"], e["to_version"]) for e in shown["ledger"]
    ] == [
        ("promote", "schedule", 2, 3),
        ("rollback", "ann", 3, 1),
    ]
    assert shown["outcome"] == "promote"


def test_before_the_first_release_nothing_was_live(ten_cycles: DecidedStore) -> None:
    shown = report.champion(ten_cycles.problem, ten_cycles.workspace, MONDAY)

    assert (shown["champion"], shown["live"]) == (None, None)
    assert shown["first"] == "2026-05-01T01:00:00Z"


def test_a_stale_holder_leaves_neither_release_nor_row(session: DecidedStore) -> None:
    first = session.cycle(0, 1, "first")
    stale = Hold("parcels", 0)
    entry = Entry(at=session.clock, as_of=MONDAY, kind="rollback", actor="ann", reason="why")

    with pytest.raises(BusyError, match="another run has taken over"):
        commit_review(session.store, stale, session.problem, release=first, entry=entry)

    assert len(session.store.releases("parcels")) == len(session.store.ledger("parcels")) == 1


def test_a_store_without_a_ledger_gets_one_from_its_releases(ten_cycles: DecidedStore) -> None:
    before = ten_cycles.store.ledger("parcels")
    with ten_cycles.store.writer.begin() as connection:
        t.ledger.drop(connection)
        t.waiting.drop(connection)
        connection.execute(t.meta.update().values(version=1))

    again = Store(ten_cycles.workspace)

    shown = [(e.at, e.as_of, e.from_version, e.to_version) for e in again.ledger("parcels")]
    assert shown == [
        (e.at, e.as_of, e.from_version, e.to_version) for e in before if e.kind != "reject"
    ]
    with again.engine.connect() as connection:
        assert connection.scalar(sa.select(t.meta.c.version)) == t.SCHEMA_VERSION
    assert len(Store(ten_cycles.workspace).ledger("parcels")) == len(shown), "once"


def test_a_newer_challenger_takes_the_place_of_one_that_waits_and_the_ledger_says_so(
    session: DecidedStore,
) -> None:
    session.cycle(0, 1, "first")
    for week, number in ((1, 2.0), (2, 3.0)):
        released = release_of(week, week + 1)
        cycle = session.store.open_cycle("parcels", "retrain", released.as_of, 1, "digest")
        waits = Waiting(
            as_of=released.as_of, blend=blend_of(number), labels_until=MONDAY, reason="it gains", losses={}, waits_since=session.clock, expires_at=session.clock + WEEK,
            model_version=10 + week,
        )  # fmt: skip
        pending = PendingDecision(
            outcome="keep",
            reason="kept",
            content={},
            evidence=(),
            shadows=(),
            actor="ann",
            waiting=waits,
        )
        with session.store.hold("parcels") as hold:
            commit_release(
                session.store, hold, session.problem, cycle, decision=pending, release=released
            )

    waiting = session.store.waiting("parcels")
    assert waiting is not None
    assert waiting.blend == blend_of(3.0)
    shown = [e for e in session.store.ledger("parcels") if e.kind == "wait"]
    assert [e.blend_id for e in shown] == [blend_of(2.0).id, blend_of(3.0).id]
    assert "replaces version 11 of 2026-03-09" in shown[1].reason
    assert [d.outcome for d in session.store.decisions("parcels")] == ["wait", "wait", "first"]
    assert shown[1].decision_id == waiting.decision_id


# ---------------------------------------------------------------- old evidence


@pytest.mark.parametrize(("cycles", "still"), [(1, True), (5, True), (6, False)])
def test_what_was_put_out_is_doubted_for_five_cycles(
    session: DecidedStore, cycles: int, still: bool
) -> None:
    first = session.cycle(0, 1, "first", 1)
    second = session.cycle(1, 2, "promote", 2)
    session.undo("rollback", first, second.blend.id)
    for week in range(2, 1 + cycles):
        session.cycle(week, 10 + week, "keep", 1)

    as_of = MONDAY + (1 + cycles) * WEEK
    found = doubted(session.store, "parcels", as_of, [blend_of(1), blend_of(2), blend_of(3)])

    assert found == ({blend_of(2).id} if still else set())


# ---------------------------------------------------------------- what follows in MLflow


class Pages:
    """The registry's verbs that a release needs, on a dictionary."""

    experiment = "1"

    def __init__(self, alias: int | None, versions: tuple[int, ...]) -> None:
        self.alias, self.versions = alias, versions
        self.waits: int | None = None

    def set_challenger(self, version: int | None) -> None:
        self.waits = version

    def champion_alias(self) -> int | None:
        return self.alias

    def require_version(self, version: int) -> None:
        if version not in self.versions:
            raise PredictError(f"version {version} was deleted", code="version_gone")

    def update_aliases(self, releases: list[Release], _: object) -> None:
        self.alias = releases[0].model_version

    def finish_cycle(self, *_: str) -> None:
        pass


@pytest.mark.parametrize(
    ("alias", "warning"),
    [(1, "was moved to version 1 by hand"), (None, "was removed by hand"), (2, "")],
)
def test_an_alias_moved_by_hand_is_told_of_and_put_back(
    session: DecidedStore, caplog: pytest.LogCaptureFixture, alias: int | None, warning: str
) -> None:
    pages = Pages(None, (1, 2))
    for week, version in ((0, 1), (1, 2)):
        session.cycle(week, version, "keep")
        assert reconcile(session.store, pages, session.problem)  # type: ignore[arg-type]
    assert caplog.text == ""

    pages.alias = alias
    with caplog.at_level(logging.WARNING):
        assert reconcile(session.store, pages, session.problem) is (alias != 2)  # type: ignore[arg-type]

    assert pages.alias == 2
    assert warning in caplog.text
    assert ("registry_tampered" in caplog.text) is bool(warning)


def test_an_alias_that_only_lags_is_no_news(
    session: DecidedStore, caplog: pytest.LogCaptureFixture
) -> None:
    pages = Pages(None, (1, 2, 3))
    session.cycle(0, 1, "first")
    reconcile(session.store, pages, session.problem)  # type: ignore[arg-type]
    for version in (2, 3):  # two cycles that died before MLflow was updated
        session.cycle(version, version, "keep")

    assert reconcile(session.store, pages, session.problem)  # type: ignore[arg-type]

    assert (pages.alias, caplog.text) == (3, "")


def test_a_champion_whose_version_was_deleted_is_an_error(session: DecidedStore) -> None:
    session.cycle(0, 1, "first")

    with pytest.raises(PredictError, match="version 1 was deleted"):
        reconcile(session.store, Pages(None, ()), session.problem)  # type: ignore[arg-type]
