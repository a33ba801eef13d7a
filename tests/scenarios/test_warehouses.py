"""The same rows give the same history from every database and every driver."""

from __future__ import annotations

import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from automl.cycles.options import RunOptions
from automl.errors import HistoryError, UnreachableError
from automl.history import Snapshot, pull, pull_batch, read
from automl.history.contract import infer
from automl.history.sources import base, databases
from automl.predictions import read_predictions
from automl.problem import Problem, load_problem
from automl.score import cycle
from automl.workspace import open_workspace
from tests.scenarios import test_flights as flights
from tests.support.postgres import PostgresServer

START = datetime(2026, 2, 20, tzinfo=UTC)
AS_OF = datetime(2026, 3, 12, tzinfo=UTC)  # summer time starts on 8 March in New York
ZONES = ("UTC", "America/New_York")
KINDS: dict[str, Any] = {
    "id": "whole",
    "at": "time",
    "small": "number",
    "big": "text",
    "single": "number",
    "wide": "number",
    "price": "number",
    "flag": "number",
    "word": "text",
    "day": "time",
    "seen": "time",
    'x"; DROP TABLE y; --': "number",
    "share %": "number",
    "late": "whole",
}
TYPES = {
    "id": "integer",
    "at": "timestamp",
    "small": "smallint",
    "big": "bigint",
    "single": "real",
    "wide": "double precision",
    "price": "numeric(12, 4)",
    "flag": "boolean",
    "word": "text",
    "day": "date",
    "seen": "timestamptz",
    'x"; DROP TABLE y; --': "double precision",
    "share %": "double precision",
    "late": "bigint",
}
PROBLEM = """
name = "parcels"
task = "binary"
[history]
source = "{url}"
query = '''{query}'''
time = "at"
timezone = "{zone}"
key = ["id"]
target = "late"
{lines}
[batch]
query = '''{batch}'''
[metric]
name = "roc_auc"
[sweep]
trials = 1
[validation]
block = "7d"
"""
QUERY = "select * from parcels where at < :as_of"
BATCH = "select * from parcels where at >= :as_of and at < :until"
Row = dict[str, Any]


def rows() -> list[Row]:
    """Rows every three hours, gaps in every column that may have one."""
    rows = []
    for i in range(250):
        at = (START + i * timedelta(hours=3)).replace(tzinfo=None)
        gap = i % 5 == 2
        cells = {
            "small": i - 100,
            "big": 2**60 + i,
            "single": i / 8,
            "wide": i / 7,
            "price": Decimal(i) / 16,
            "flag": i % 3 == 0,
            "word": f"wörd {i % 9}",
            "day": at.date(),
            "seen": at.replace(tzinfo=UTC),
            'x"; DROP TABLE y; --': i / 3,
            "share %": i / 11,
        }
        rows.append({"id": i, "at": at, **(dict.fromkeys(cells) if gap else cells), "late": i % 2})
    return rows


def in_sqlite(folder: Path) -> str:
    def stored(value: Any) -> Any:
        if isinstance(value, Decimal):
            return float(value)
        return value if value is None or isinstance(value, (int, float)) else str(value)

    with sqlite3.connect(folder / "world.db") as connection:
        columns = ", ".join('"{}" {}'.format(n.replace('"', '""'), t) for n, t in TYPES.items())
        connection.execute(f"create table parcels ({columns})")
        marks = ", ".join("?" * len(TYPES))
        cells = [[stored(r[n]) for n in TYPES] for r in rows()]
        connection.executemany(f"insert into parcels values ({marks})", cells)
    connection.close()
    return "sqlite:///world.db"


def in_postgres(postgres: PostgresServer) -> str:
    url = postgres.new_database()
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    quoted = ['"{}"'.format(n.replace('"', '""')) for n in TYPES]
    columns = ", ".join(f"{n} {t}" for n, t in zip(quoted, TYPES.values(), strict=True))
    with engine.begin() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(f"create table parcels ({columns})")
        cursor.execute("create table y (z int)")
        cursor.executemany(
            f"insert into parcels values ({', '.join(['%s'] * len(TYPES))})",
            [[r[n] for n in TYPES] for r in rows()],
        )
    return url


def problem_on(url: str, folder: Path, *, lines: str = "", **parts: str) -> Problem:
    folder.mkdir(exist_ok=True)
    values = {"query": QUERY, "batch": BATCH, "zone": "UTC", **parts}
    (folder / "problem.toml").write_text(PROBLEM.format(url=url, lines=lines, **values))
    return load_problem(folder / "problem.toml")


def frozen(problem: Problem, as_of: datetime = AS_OF) -> tuple[Snapshot, Snapshot]:
    """History and batch."""
    workspace = open_workspace(problem.file)
    return (
        pull(problem, workspace, as_of, kinds=KINDS),
        pull_batch(problem, workspace, as_of, kinds=KINDS),
    )


@pytest.fixture(params=["adbc", "psycopg"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the fast driver and without it."""
    if request.param == "psycopg":
        monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
        monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    return str(request.param)


@pytest.mark.parametrize("zone", ZONES)
def test_the_same_rows_have_one_digest_in_both_databases(
    zone: str,
    driver: str,
    postgres: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "CHUNK_ROWS", 37)
    (tmp_path / "lite").mkdir()
    lite = problem_on(in_sqlite(tmp_path / "lite"), tmp_path / "lite", zone=zone)
    big = problem_on(in_postgres(postgres), tmp_path / "big", zone=zone)
    for as_of in (AS_OF, AS_OF + timedelta(days=3)):  # the second pull brings what is new
        small, large = frozen(lite, as_of), frozen(big, as_of)
        assert [s.digest for s in small] == [s.digest for s in large]
        assert [s.rows for s in small] == [s.rows for s in large]
    frame = read(large[0])
    assert frame["price"].iloc[1] == 1 / 16
    assert frame['x"; DROP TABLE y; --'].iloc[1] == 1 / 3


def test_both_databases_get_the_same_inferred_kinds(
    driver: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    (tmp_path / "lite").mkdir()
    lite = problem_on(in_sqlite(tmp_path / "lite"), tmp_path / "lite")
    big = problem_on(in_postgres(postgres), tmp_path / "big")
    small, large = (pull(p, open_workspace(p.file), AS_OF) for p in (lite, big))
    assert small.digest == large.digest


def test_numbers_of_single_precision_are_the_same_from_both_drivers(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = in_postgres(postgres)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("update parcels set single = single / 3, price = 'NaN'"))
    fast = frozen(problem_on(url, tmp_path / "fast"))
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
    assert [s.digest for s in frozen(problem_on(url, tmp_path / "slow"))] == [
        s.digest for s in fast
    ]


@pytest.mark.parametrize(
    "query",
    [
        f"{QUERY};",
        f"{QUERY} -- comment",
        f"{QUERY};\n-- comment",
        f"{QUERY} /* 50 % of all */",
        "select * from parcels where at < :as_of and (word like 'w%' or word is null)",
        "with recent as (select * from parcels) select * from recent where at < :as_of",
        "select * from parcels where at >= :since and at < :as_of",
    ],
)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_queries_may_be_written_in_many_ways(
    kind: str, query: str, driver: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    url = in_sqlite(tmp_path) if kind == "sqlite" else in_postgres(postgres)
    problem = problem_on(url, tmp_path, query=query)
    assert frozen(problem)[0].rows == 160


@pytest.mark.parametrize(
    "query",
    [
        "with gone as (delete from parcels returning *) select * from gone",
        "delete from parcels returning *",
        "select *, wipe() from parcels",
        "select * from parcels) as q; delete from parcels; --",
    ],
)
def test_a_query_that_writes_is_refused_and_nothing_changes(
    query: str, driver: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    url = in_postgres(postgres)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    body = "create function wipe() returns int language sql as 'delete from parcels; select 1'"
    with engine.begin() as connection:
        connection.execute(sa.text(body))
    with pytest.raises(HistoryError):
        frozen(problem_on(url, tmp_path, query=query))
    with engine.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from parcels")) == 250
        assert connection.scalar(sa.text("select count(*) from y")) == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_query_that_takes_too_long_is_stopped(
    kind: str,
    driver: str,
    postgres: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(databases, "STATEMENT_SECONDS", 1)
    endless = (
        "(with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n)"
    )
    wait = endless if kind == "sqlite" else "(select 1 from pg_sleep(30))"
    url = in_sqlite(tmp_path) if kind == "sqlite" else in_postgres(postgres)
    problem = problem_on(url, tmp_path, query=f"select * from parcels where id < {wait}")
    with pytest.raises(HistoryError, match="longer than 1 s") as caught:
        frozen(problem)
    assert caught.value.code == "source_slow"


@pytest.mark.parametrize("how", ["terminated", "stopped"])
def test_a_connection_lost_in_the_middle_is_unreachable_and_changes_nothing(
    how: str, driver: str, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = in_postgres(postgres)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    many = "insert into parcels (id, at, late, word) select i, '2026-02-21', 1, repeat(md5(i::text), 9) from "
    with engine.begin() as connection:
        connection.execute(sa.text(f"{many} generate_series(1000, 20000) as i"))
    problem = problem_on(url, tmp_path)
    before = frozen(problem, AS_OF - timedelta(days=10))
    stored = set((tmp_path / ".automl").rglob("*.json"))
    chunks = databases.Database.chunks

    def cut(self: Any, *given: Any) -> Any:
        for number, chunk in enumerate(chunks(self, *given)):
            if number == 0 and how == "stopped":
                postgres.stop_immediate()
            elif number == 0:
                with engine.connect() as connection:
                    connection.execute(
                        sa.text(
                            "select pg_terminate_backend(pid) from pg_stat_activity "
                            "where pid <> pg_backend_pid() and datname = current_database()"
                        )
                    )
            yield chunk

    monkeypatch.setattr(base, "CHUNK_ROWS", 100)
    monkeypatch.setattr(databases.Database, "chunks", cut)
    try:
        with pytest.raises(
            UnreachableError, match=r"sqlalchemy|source|server|connection"
        ) as caught:
            frozen(problem)
    finally:
        postgres.start()
    assert caught.value.exit_code == 5
    assert set((tmp_path / ".automl").rglob("*.json")) == stored
    assert not list((tmp_path / ".automl").rglob("*.tmp"))
    assert read(before[0]).shape[0] == before[0].rows


# ---------------------------------------------------------------- the flights


def flights_on(url: str, folder: Path, table: pd.DataFrame) -> Problem:
    """The example on a warehouse at `url`, with little to search."""
    folder.mkdir()
    flights.warehouse.write(url, table)
    text = (flights.FOLDER / "problem.toml").read_text(encoding="utf-8")
    for old, new in (
        ('"sqlite:///warehouse.db"', f'"{url}"'),
        ('budget      = "60s"', "trials = 2"),
        (', "lightgbm", "hist_gradient_boosting", "extra_trees", "mlp"]', "]"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "problem.toml").write_text(text, encoding="utf-8")
    return load_problem(folder / "problem.toml")


@pytest.fixture
def both(postgres: PostgresServer, tmp_path: Path) -> list[Problem]:
    """Generated flights in SQLite and in PostgreSQL."""
    table = flights.made_up().table()
    # something to learn, or the guards refuse the model: most of two airlines' flights are late
    seldom = table.index.to_series() % 7 == 0
    late = (table["carrier"].isin(["UA", "DL"]) ^ seldom).astype(int)
    table["late"] = late.where(table["late"].notna())
    lite = f"sqlite:///{tmp_path / 'lite' / 'warehouse.db'}"
    urls = {"lite": lite, "big": postgres.new_database()}
    return [flights_on(url, tmp_path / name, table) for name, url in urls.items()]


def test_flights_are_the_same_history_in_both_databases(both: list[Problem]) -> None:
    for week in (6, 13):
        as_of = datetime(2013, 5, week, tzinfo=UTC)
        spaces = [open_workspace(p.file) for p in both]
        first = [pull(p, w, as_of) for p, w in zip(both, spaces, strict=True)]
        assert first[0].digest == first[1].digest
        assert first[0].rows > 700
        kinds = infer(read(first[0]), both[0], first[0].unused).kinds(both[0])
        batches = [pull_batch(p, w, as_of, kinds=kinds) for p, w in zip(both, spaces, strict=True)]
        assert batches[0].digest == batches[1].digest


@pytest.mark.slow
def test_flights_get_the_same_predictions_from_both_databases(both: list[Problem]) -> None:
    predictions = []
    for problem in both:
        workspace = open_workspace(problem.file)
        cycle(problem, workspace, RunOptions(as_of=datetime(2013, 5, 6, tzinfo=UTC)))
        predictions.append(read_predictions(problem.file.parent / problem.publish.parquet))
    names = ["flight_id", "scheduled", "prediction", "probability"]
    small, large = (t.sort_values("flight_id")[names].reset_index(drop=True) for t in predictions)
    pd.testing.assert_frame_equal(small, large)
    assert len(small) == 56
