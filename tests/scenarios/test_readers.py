"""Readers that share no code with the product poll while generations are published, undone and removed.

Every row says how many rows its generation has, and all of a generation say the same number: so a
program that knows only SQL, or only parquet and the commit files, can tell a whole answer from a torn one.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl import predictions
from automl.modeling.recipes import Blend, Recipe
from automl.problem import Problem
from automl.store import Release, Store
from automl.workspace import Workspace
from tests.support.observer import look, violations
from tests.support.postgres import PostgresServer
from tests.support.workspaces import DATABASES, NOW, Worlds

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = timedelta(weeks=1)
PUBLISH = 'origins = 2\n\n[publish]\nparquet = "copies"\nkeep = 4'

# what every reader does: read until a stop file exists, count reads, values and torn reads
LOOP = """
import json, sys, time
from pathlib import Path
place, stop, ready = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
{look}
observed = {{"polls": 0, "torn": [], "seen": []}}
while not stop.exists():
    for rows in look():
        # (count, generations, versions, fewest and most rows that rows speak of, values that differ)
        whole = rows[1] == rows[2] == rows[5] == 1 and rows[0] == rows[3] == rows[4]
        if not whole:
            observed["torn"].append([str(x) for x in rows])
        observed["seen"].append(int(rows[3] or 0))
    observed["polls"] += 1
    ready.touch()
observed["seen"] = len(set(observed["seen"]))
print(json.dumps(observed))
"""
COUNT = """count(*), count(distinct generation), count(distinct model_version), min(low), max(low),
    count(distinct probability)"""
SQLITE = f"""
import sqlite3
connection = sqlite3.connect(place, isolation_level=None, timeout=20)
def look():
    yield connection.execute('''select {COUNT} from parcels''').fetchone()
    connection.execute("begin")
    one, two = (connection.execute('''select {COUNT}, max(generation) from parcels''').fetchone() for _ in "12")
    connection.execute("commit")
    yield one if one == two else (0,) * 6
"""
POSTGRES = f"""
import psycopg
plain = psycopg.connect(place, autocommit=True)
steady = psycopg.connect(place, autocommit=True)
def look():
    yield plain.execute('''select {COUNT} from parcels''').fetchone()
    steady.execute("begin isolation level repeatable read")
    one = steady.execute('''select {COUNT}, max(generation) from parcels''').fetchone()
    time.sleep(0.01)
    two = steady.execute('''select {COUNT}, max(generation) from parcels''').fetchone()
    steady.execute("commit")
    yield one if one == two else (0,) * 6
"""
PARQUET = """
import pandas as pd, pyarrow.dataset as ds
def newest():
    commit = sorted(Path(place, "_commits").glob("*.json"))[-1]
    return [str(Path(place, name)) for name in json.loads(commit.read_text())["files"]]
def look():
    for read in (lambda files: pd.concat(map(pd.read_parquet, files)),
                 lambda files: ds.dataset(files).to_table().to_pandas()):
        try:
            rows = read(newest())
        except FileNotFoundError:  # retention has gone past it while it was being opened
            continue
        yield (len(rows), rows["generation"].nunique(), rows["model_version"].nunique(), rows["low"].min(),
               rows["low"].max(), rows["probability"].nunique())
"""
DUCKDB = f"""
import duckdb
{PARQUET.partition("def look")[0]}
def look():
    try:
        yield duckdb.execute('''select {COUNT} from read_parquet(?)''', [newest()]).fetchone()
    except (FileNotFoundError, duckdb.IOException):  # retention has gone past it
        pass
"""
# rows that a command has published say nothing of their number; the store and the commit file do
ROWS_SEEN = "(select g.rows from automl_generation g where g.id = parcels.generation)"
GROWING = f"""count(*), count(distinct generation), count(distinct model_version), min({ROWS_SEEN}),
    max({ROWS_SEEN}), 1"""
COPY_GROWING = """
import pandas as pd
def look():
    commit = json.loads(sorted(Path(place, "_commits").glob("*.json"))[-1].read_text())
    rows = pd.concat([pd.read_parquet(Path(place, name)) for name in commit["files"]])
    yield (len(rows), rows["generation"].nunique(), rows["model_version"].nunique(), commit["rows"],
           commit["rows"], 1)
"""
DUCKDB_GROWING = """
import duckdb
def look():
    commit = json.loads(sorted(Path(place, "_commits").glob("*.json"))[-1].read_text())
    files = [str(Path(place, name)) for name in commit["files"]]
    count = "select count(*), count(distinct generation), count(distinct model_version) from read_parquet(?)"
    yield (*duckdb.execute(count, [files]).fetchone(), commit["rows"], commit["rows"], 1)
"""


class Publisher:
    """Publishes weeks of different length, goes back to the one before, removes what is old."""

    def __init__(self, store: Store, problem: Problem, rows: int) -> None:
        self.store, self.problem, self.rows = store, problem, rows
        self.made = 0

    def publish(self, week: int) -> int:
        """One generation for that week, in three pieces; every second time by another version."""
        self.made += 1
        rows = self.rows + self.made
        start = MONDAY + week * WEEK
        frame = pd.DataFrame(
            {
                "parcel": np.random.default_rng(self.made).permutation(rows),
                "sent_at": pd.date_range(start.replace(tzinfo=None), periods=rows, freq="s"),
                "prediction": 1,
                "probability": 1 / (1 + self.made),
                "low": float(rows),
                "high": np.nan,
            }
        )
        cut = [0, rows // 3, rows // 2, rows]
        pieces = [(frame.iloc[a:b], None) for a, b in pairwise(cut)]
        release = Release(
            id=self.made,
            as_of=start,
            model_version=self.made,
            run_id="r",
            digests={},
            fingerprint="",
            blend=Blend.single(Recipe("x", {})),
            labels_until=start,
            projected=True,
        )
        provenance = predictions.Provenance(
            release=release, window=(start, start + WEEK), batch="b", attempt=1
        )
        with self.store.hold("parcels") as hold:
            generation = predictions.stage_pieces(
                self.store, hold, self.problem, provenance, pieces
            )
            predictions.audit(self.store, self.problem, generation)
        self.point(generation)
        self.store.record_realised(generation, rows, {})
        return generation

    def point(self, generation: int) -> None:
        """Let readers see it, bring the copy up, clean."""
        with self.store.hold("parcels") as hold:
            with self.store.commit(hold) as connection:
                predictions.point(connection, self.store, hold, self.problem, generation)
            predictions.export(self.store, self.problem)
            predictions.clean(self.store, hold, self.problem)

    def live(self, weeks: int) -> None:
        """Weeks of two publications each, every third undone at once."""
        for week in range(weeks):
            first, _ = self.publish(week), self.publish(week)
            if week % 3 == 0:
                self.point(first)


@contextmanager
def reading(folder: Path, *readers: tuple[str, str]) -> Iterator[dict[str, Any]]:
    """Run readers until the end of the block; yields their observations."""
    stop, observed = folder / "stop", {}
    running = []
    for number, (text, place) in enumerate(readers):
        ready = folder / f"ready{number}"
        command = [sys.executable, "-c", LOOP.format(look=text), place, str(stop), str(ready)]
        running.append(
            (text, ready, subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder))
        )
    try:
        deadline = time.monotonic() + 60
        while not all(r.exists() for _, r, _ in running) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield observed
        stop.touch()
        observed |= {text: json.loads(p.communicate(timeout=60)[0]) for text, _, p in running}
    finally:
        for _, _, process in running:
            process.kill()


def check(observed: dict[str, Any], least: int) -> None:
    """No reader saw a torn read, and every reader read while generations changed."""
    assert observed
    for what, saw in observed.items():
        assert saw["torn"] == [], what
        assert saw["polls"] >= least
        assert saw["seen"] > 2, "it did look while generations changed"


def test_a_torn_read_would_be_seen(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "torn.db") as database:
        database.execute("create table parcels (generation, model_version, probability, low)")
        database.executemany("insert into parcels values (?, 1, 0.5, 2)", [(1,), (2,)])

    with reading(tmp_path, (SQLITE, str(tmp_path / "torn.db"))) as observed:
        pass

    assert ["2", "2", "1", "2", "2", "1"] in observed[SQLITE]["torn"]


LENGTHS = [
    pytest.param(8, 500, id="short"),
    pytest.param(60, 5_000, id="long", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("weeks", "rows"), LENGTHS)
def test_no_reader_of_sqlite_or_of_the_copy_sees_a_torn_read(
    make_problem: Callable[..., Problem], workspace: Workspace, weeks: int, rows: int
) -> None:
    problem = make_problem(replace={"origins = 2": PUBLISH})
    publisher = Publisher(Store(workspace), problem, rows)
    publisher.publish(0)

    database, copies = str(workspace.home / "automl.db"), str(workspace.root / "copies")
    with reading(workspace.root, (SQLITE, database), (PARQUET, copies)) as observed:
        publisher.live(weeks)

    check(observed, weeks)


@pytest.mark.parametrize(("weeks", "rows"), LENGTHS)
def test_no_reader_of_postgres_sees_a_torn_read(
    postgres: PostgresServer,
    make_problem: Callable[..., Problem],
    workspace: Workspace,
    weeks: int,
    rows: int,
) -> None:
    problem, url = make_problem(replace={"origins = 2": PUBLISH}), postgres.new_database()
    publisher = Publisher(Store(replace(workspace, database_url=url)), problem, rows)
    publisher.publish(0)

    with reading(workspace.root, (POSTGRES, url.replace("+psycopg", ""))) as observed:
        publisher.live(weeks)

    check(observed, weeks)


def test_no_reader_with_duckdb_sees_a_torn_read(
    make_problem: Callable[..., Problem], workspace: Workspace
) -> None:
    problem = make_problem(replace={"origins = 2": PUBLISH})
    publisher = Publisher(Store(workspace), problem, 500)
    publisher.publish(0)

    with reading(workspace.root, (DUCKDB, str(workspace.root / "copies"))) as observed:
        publisher.live(8)

    check(observed, 8)


@pytest.mark.slow
@pytest.mark.parametrize("database", DATABASES)
def test_no_reader_sees_a_torn_read_while_commands_are_killed(
    worlds: Worlds, database: str
) -> None:
    world = worlds.of(database, "cycle")
    folder, typed, before = world.file.parent, ("cycle", "--as-of", NOW), look(world)
    store = (POSTGRES.replace(COUNT, GROWING), world.url.replace("+psycopg", ""))
    if not world.url:
        store = (SQLITE.replace(COUNT, GROWING), str(folder / ".automl" / "automl.db"))

    copy = str(folder / "out")
    with reading(folder, store, (COPY_GROWING, copy), (DUCKDB_GROWING, copy)) as observed:
        for point in ("stage.piece", "release.in_commit", "release.committed", "export.copied"):
            killed = worlds.run(world, *typed, AUTOML_FAULT=point)
            assert killed.code == -9, f"{point}: {killed.err}"
        for last in (typed, ("rollback", "--reason", "why")):
            done = worlds.run(world, *last)
            assert done.code == 0, done.err

    assert violations(world, settled=True) == []
    assert len(look(world)["releases"]) == len(before["releases"]) + 2
    for what, saw in observed.items():
        assert saw["torn"] == [], what
        assert saw["polls"] > 20, "it did look while commands were killed"
