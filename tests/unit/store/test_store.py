"""The store: one truth for many processes, whatever a dead or late one leaves behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import filelock
import pytest
import sqlalchemy as sa

from automl.errors import BusyError, ProblemError, UnreachableError
from automl.store import RECORD, Hold, Store
from automl.store import tables as t
from automl.workspace import Workspace, open_workspace
from tests.support.store_rows import (
    MONDAY,
    NAME,
    WEEK,
    insert_release,
    make_loss,
    make_release,
    open_one,
)
from tests.support.store_rows import store as store  # a fixture

OPEN_AT_ONCE = """
import sys, time
from pathlib import Path
from datetime import UTC, datetime
from automl.store import Store
from automl.workspace import open_workspace
place, number = Path(sys.argv[1]), int(sys.argv[2])
workspace = open_workspace(place / "problem.toml")
(place / f"ready{number}").touch()
while not (place / "go").exists():
    time.sleep(0.001)
Store(workspace).open_cycle(f"p{number}", "retrain", datetime(2026, 3, 2, tzinfo=UTC), 1, "digest")
"""


HOLD_FOREVER = """
import sys, time
from pathlib import Path
from automl.store import Store
from automl.workspace import open_workspace
with Store(open_workspace(Path(sys.argv[1]) / "problem.toml")).hold("parcels") as hold:
    print(hold.fence, flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that holds the problem's lock, and its fence."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_FOREVER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


# ---------------------------------------------------------------- opening


def test_a_store_may_be_opened_twice_and_both_see_the_same(workspace: Workspace) -> None:
    first, second = Store(workspace), Store(workspace)

    cycle = open_one(first)

    assert second.find_cycle(NAME, "retrain", MONDAY) == cycle


def test_four_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AT_ONCE, str(tmp_path), str(i)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(4)
    ]
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("ready*"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    errors = [p.communicate(timeout=60)[1] for p in processes]

    assert [p.returncode for p in processes] == [0] * 4, errors
    store = Store(open_workspace(tmp_path / "problem.toml"))
    assert [len(store.cycles(f"p{i}")) for i in range(4)] == [1] * 4
    with sqlite3.connect(tmp_path / ".automl" / "automl.db") as connection:
        assert connection.execute("select version from automl_meta").fetchall() == [
            (t.SCHEMA_VERSION,)
        ]
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_a_store_of_a_newer_version_is_refused_and_left_alone(
    store: Store, workspace: Workspace
) -> None:
    with store.writer.begin() as connection:
        connection.execute(t.meta.update().values(version=t.SCHEMA_VERSION + 1))

    with pytest.raises(
        ProblemError,
        match=rf"has schema {t.SCHEMA_VERSION + 1}; this version knows {t.SCHEMA_VERSION}$",
    ):
        Store(workspace)

    with store.engine.connect() as connection:
        assert connection.scalars(sa.select(t.meta.c.version)).all() == [t.SCHEMA_VERSION + 1]


def test_a_file_that_is_no_database_is_unreachable_not_overwritten(workspace: Workspace) -> None:
    workspace.home.mkdir()
    file = workspace.home / "automl.db"
    file.write_bytes(b"not a database, but a text file" * 100)
    before = file.read_bytes()

    with pytest.raises(UnreachableError, match="file is not a database"):
        Store(workspace)

    assert file.read_bytes() == before


def test_the_password_of_a_database_that_does_not_answer_is_not_shown(workspace: Workspace) -> None:
    url = "postgresql+psycopg://me:secret@127.0.0.1:9/automl"
    pytest.importorskip("psycopg")

    with pytest.raises(UnreachableError, match=r"me:\*\*\*@127.0.0.1:9") as caught:
        Store(replace(workspace, database_url=url))

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["duckdb:///store.db", "mysql://me:secret@host/db", "me:secret@host/db", "postgres",
     "postgresql+asyncpg://me:secret@host/db", "sqlite+aiosqlite:///store.db"],
)  # fmt: skip
def test_a_store_in_another_database_is_refused(url: str, workspace: Workspace) -> None:
    wanted = r"AUTOML_DATABASE_URL: found .*; wanted sqlite:///FILE or postgresql://USER@HOST/DATAB"
    with pytest.raises(ProblemError, match=wanted) as caught:
        Store(replace(workspace, database_url=url))
    assert "secret" not in str(caught.value)


def test_a_store_without_its_driver_names_the_package(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ProblemError, match="AUTOML_DATABASE_URL postgresql://me@host/db") as caught:
        Store(replace(workspace, database_url="postgresql://me@host/db"))
    assert caught.value.next_step == "Install its driver: pip install 'automl-retrain[postgres]'"


# ---------------------------------------------------------------- lock and fence


def test_a_second_process_is_refused_with_the_holder_of_the_lock(
    store: Store, tmp_path: Path
) -> None:
    with holder(tmp_path) as (process, _):
        with (
            pytest.raises(
                BusyError, match=rf"parcels: held by process {process.pid} on .* since 20"
            ),
            store.hold(NAME),
        ):
            pass
        with store.hold("another-problem") as other:  # locks are per problem
            assert other.fence == 1


def test_the_lock_goes_with_its_holder_when_that_is_killed(store: Store, tmp_path: Path) -> None:
    with holder(tmp_path) as (process, fence):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

        with store.hold(NAME) as hold:
            assert hold.fence == fence + 1


def test_one_process_cannot_hold_a_problem_twice(store: Store, workspace: Workspace) -> None:
    with (
        store.hold(NAME),
        pytest.raises(BusyError, match=f"held by process {os.getpid()}"),
        Store(workspace).hold(NAME),
    ):
        pass
    with store.hold(NAME) as again:
        assert again.fence == 2  # the refused attempt took no fence


def test_the_lock_is_released_when_its_holder_raises(store: Store) -> None:
    with pytest.raises(ValueError, match="open_cycle"), store.hold(NAME):
        raise ValueError("open_cycle")

    with store.hold(NAME) as hold:
        assert hold.fence == 2


def test_another_lock_that_times_out_inside_is_not_called_ours(store: Store) -> None:
    with pytest.raises(filelock.Timeout, match="elsewhere"), store.hold(NAME):
        raise filelock.Timeout("elsewhere")


@pytest.mark.parametrize("name", ["schema", "mlflow"])
def test_a_problem_may_have_the_name_of_any_other_lock(
    store: Store, workspace: Workspace, name: str
) -> None:
    with store.hold(name), filelock.FileLock(workspace.lock(name), timeout=0) as other:
        assert other.is_locked


def test_a_holder_that_was_overtaken_cannot_commit(store: Store) -> None:
    stale = Hold(NAME, 1)
    with store.hold(NAME) as first:
        assert first == stale
    with store.hold(NAME) as current:
        with (
            pytest.raises(BusyError, match="another run has taken over; nothing was committed"),
            store.commit(stale) as connection,
        ):
            connection.execute(t.fence.delete())
        with store.commit(current) as connection:
            connection.execute(t.meta.update().values(version=t.SCHEMA_VERSION))

    with store.hold(NAME) as next_one:
        assert next_one.fence == 3  # nothing of the stale one reached the store


def add_and_fail(store: Store) -> None:
    with store.hold(NAME) as hold, store.commit(hold) as connection:
        store.add_evidence(connection, NAME, [make_loss()])
        raise ValueError("power cut")


def test_a_commit_that_fails_half_way_leaves_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="power cut"):
        add_and_fail(store)

    assert store.evidence(NAME) == []


def test_readers_do_not_wait_for_a_writer(store: Store, workspace: Workspace) -> None:
    insert_release(store, make_release(MONDAY, 1))

    with store.hold(NAME) as hold, store.commit(hold) as connection:
        connection.execute(t.release.update().values(model_version=2))
        started = time.monotonic()
        found = Store(workspace).champion(NAME)
        seconds = time.monotonic() - started

    assert found is not None
    assert found.model_version == 1  # what is committed
    assert seconds < 2


# ---------------------------------------------------------------- cycles


@pytest.mark.parametrize("status", ["running", "failed", "dry-run"])
def test_a_cycle_that_did_not_end_well_goes_on_where_it_was(store: Store, status: str) -> None:
    cycle = open_one(store)
    store.note(cycle, snapshot={"rows": 7})
    store.note(cycle, run_id="r1")
    store.save_trial(cycle, "recipe", {"losses": [0.5]})
    store.end_cycle(cycle, status, "why")

    again = open_one(store)

    assert (again.id, again.status, again.reason) == (cycle.id, "running", "")
    assert again.receipts == {"snapshot": {"rows": 7}, "run_id": "r1"}
    assert len(store.trials(again)) == 1
    assert not again.ended


@pytest.mark.parametrize(
    ("status", "digest"),
    [
        ("refused", "digest"),
        ("refused", "another"),
        ("failed", "another"),
        ("running", "another"),
        ("dry-run", "another"),
    ],
)
def test_mended_data_or_a_changed_problem_starts_from_nothing(
    store: Store, status: str, digest: str
) -> None:
    cycle = open_one(store)
    store.note(cycle, snapshot={"rows": 7})
    store.save_trial(cycle, "recipe", {"losses": [0.5]})
    store.end_cycle(cycle, status, "why")

    again = store.open_cycle(NAME, "retrain", MONDAY, 1, digest)

    assert (again.id, again.status, again.problem_digest) == (cycle.id, "running", digest)
    assert again.receipts == {}
    assert store.trials(again) == []


@pytest.mark.parametrize("status", ["published", "released", "kept", "waiting"])
def test_a_cycle_that_ended_stays_as_it_ended(store: Store, status: str) -> None:
    cycle = open_one(store)
    store.end_cycle(cycle, status, "because")

    store.open_cycle(NAME, "retrain", MONDAY, 1, "another digest")

    found = store.find_cycle(NAME, "retrain", MONDAY)
    assert found is not None
    assert found.ended
    assert (found.status, found.reason, found.problem_digest) == (status, "because", "digest")


def test_a_new_attempt_supersedes_and_keeps_the_one_that_ended(store: Store) -> None:
    first = open_one(store)
    store.end_cycle(first, "published", "first answer")

    second = open_one(store, attempt=2)

    assert second.id != first.id
    assert second.receipts == {}
    assert store.find_cycle(NAME, "retrain", MONDAY) == second
    assert [(c.attempt, c.status) for c in store.cycles(NAME)] == [(2, "running"), (1, "published")]


def test_cycles_of_other_verbs_moments_and_problems_are_others(store: Store) -> None:
    ids = {
        open_one(store).id,
        open_one(store, verb="score").id,
        open_one(store, as_of=MONDAY + WEEK).id,
        store.open_cycle("other", "retrain", MONDAY, 1, "digest").id,
    }

    assert len(ids) == 4
    assert [c.as_of for c in store.cycles(NAME)] == [MONDAY + WEEK, MONDAY, MONDAY]


def test_the_newest_as_of_counts_only_cycles_that_ended_well(store: Store) -> None:
    assert store.newest_as_of(NAME, "retrain") is None
    for weeks, status in enumerate(["published", "kept", "failed", "refused", "running"]):
        store.end_cycle(open_one(store, as_of=MONDAY + weeks * WEEK), status, "")

    assert store.newest_as_of(NAME, "retrain") == MONDAY + WEEK
    assert store.newest_as_of(NAME, "score") is None


def test_cycles_whose_process_died_are_closed_by_the_next_holder(store: Store) -> None:
    dead, open_cycle = open_one(store), open_one(store, as_of=MONDAY + WEEK)
    ended = open_one(store, as_of=MONDAY + 2 * WEEK)
    store.end_cycle(ended, "published", "well")
    foreign = store.open_cycle("other", "retrain", MONDAY, 1, "digest")
    promoted = {"tags": {"decision": "promoted"}}
    for cycle in (dead, open_cycle):
        store.note(cycle, run_id="r1", **{RECORD: promoted})

    with store.hold(NAME) as hold:
        store.close_dead(hold, [open_cycle.id])

    status = {c.id: (c.status, c.reason) for c in [*store.cycles(NAME), *store.cycles("other")]}
    assert status == {
        dead.id: ("failed", "its process died"),
        open_cycle.id: ("running", ""),
        ended.id: ("published", "well"),
        foreign.id: ("running", ""),
    }
    closed, resumed = (
        store.find_cycle(NAME, "retrain", as_of) for as_of in (MONDAY, MONDAY + WEEK)
    )
    assert closed is not None
    assert resumed is not None
    assert not closed.unrecorded, "a decision that was not committed is never shown"
    assert closed.receipts["run_id"] == "r1"
    assert resumed.receipts[RECORD] == promoted


def test_moments_come_back_in_utc_whatever_zone_they_were_given_in(store: Store) -> None:
    zoned = datetime.fromisoformat("2026-03-02T05:00+02:00")

    cycle = store.open_cycle(NAME, "retrain", zoned, 1, "digest")

    assert cycle.as_of == zoned
    assert cycle.as_of.tzinfo is UTC
    assert store.find_cycle(NAME, "retrain", MONDAY) == cycle
