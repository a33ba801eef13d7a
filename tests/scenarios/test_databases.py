"""Databases with types and manners of their own: PostgreSQL's types without a kind, and DuckDB."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest
import sqlalchemy as sa

from automl.errors import AutomlError, HistoryError, ProblemError, UnreachableError
from automl.history import ColumnKinds, pull, pull_batch, read
from automl.history.sources import databases
from automl.problem import load_problem
from automl.workspace import open_workspace
from tests.scenarios.test_warehouses import (
    AS_OF,
    TYPES,
    frozen,
    in_postgres,
    in_sqlite,
    problem_on,
    rows,
)
from tests.support.postgres import PostgresServer

# ---------------------------------------------------------------- PostgreSQL

# column: type, cell of row i, and what is read in row 1
OPAQUE = {
    "address": ("inet", "('10.0.0.' || i % 5)::inet", "10.0.0.1"),
    "net": ("cidr", "'10.1.0.0/16'", "10.1.0.0/16"),
    "card": ("macaddr", "'08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
    "card8": ("macaddr8", "'08:00:2b:01:02:03:04:05'", "08:00:2b:01:02:03:04:05"),
    "grade": ("grade", "(i % 4)::grade", 1.0),
    "zip": ("zip", "'0123'", "0123"),
    "bits": ("bit(3)", "(i % 3)::bit(3)", "001"),
    "flags": ("varbit", "B'011'", "011"),
    "paper": ("xml", "'<a/>'::xml", "<a/>"),
    "spot": ("point", "point(i % 2, 2)", "(1,2)"),
    "area": ("polygon", "'((0,0),(1,1),(2,0))'", "((0,0),(1,1),(2,0))"),
    "words": ("tsvector", "'fat cat'::tsvector", "'cat' 'fat'"),
    "span": ("int4range", "int4range(1, 5)", "[1,5)"),
    "days": ("daterange", "daterange('2026-01-01', null)", "[2026-01-01,)"),
    "doc": ("jsonb", """jsonb_build_object('a', 1)""", '{"a": 1}'),
    "mood": ("mood", "'sad'::mood", "sad"),
    "code": ("varchar(3)", "'ab'", "ab"),
    "initial": ('"char"', "'x'", "x"),
    "label": ("name", "'n'", "n"),
    "number": ("oid", "(i % 4)::oid", 1.0),
    "fee": ("money", "(i % 4 + 0.5)::numeric::money", 1.5),
    "odd": ("numeric", "case when i % 4 = 1 then 'NaN'::numeric else 2.5 end", None),
    "until": ("timestamptz", "case when i % 2 = 1 then 'infinity' end::timestamptz", None),
    "born": ("date", "case when i % 2 = 1 then '0044-03-15 BC' else '2026-01-01' end::date", None),
    "ends": ("timestamp", "case when i % 2 = 1 then '12000-01-01' end::timestamp", None),
    "noon": ("timestamp", "'2026-01-01 12:00'::timestamp", pd.Timestamp("2026-01-01 12:00")),
}


def with_opaque_types(postgres: PostgresServer, *columns: str) -> str:
    """The parcels with a column of each of these types, as `OPAQUE` lists them."""
    url = in_postgres(postgres)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(
            "set lc_monetary = 'C'; create type mood as enum ('sad', 'glad'); "
            "create domain grade as int; create domain zip as text"
        )
        for name in columns:
            kind, cell, _ = OPAQUE[name]
            cursor.execute(f'alter table parcels add column "{name}" {kind}')
            cursor.execute(f'update parcels set "{name}" = {cell.replace("i %", "id %")}')
    return url


def test_types_without_a_kind_are_read_as_their_text(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = with_opaque_types(postgres, *OPAQUE)
    folders = [tmp_path / "fast", tmp_path / "slow"]
    frames = []
    for folder in folders:
        problem = problem_on(url, folder, lines='group = ["address"]')
        snapshot = pull(problem, open_workspace(problem.file), AS_OF)
        frame = read(snapshot).set_index("id")
        wanted = {name: row for name, (_, _, row) in OPAQUE.items()}
        found = {n: None if pd.isna(v) else v for n, v in frame.loc[1, list(OPAQUE)].items()}
        assert found == wanted
        frames.append(frame)
        monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
        monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
    pd.testing.assert_frame_equal(*frames)


# ---------------------------------------------------------------- DuckDB


QUERY = 'select * from parcels where "at" < :as_of'  # a reserved word of DuckDB
BATCH = 'select * from parcels where "at" >= :as_of and "at" < :until'


def in_duckdb(folder: Path, name: str = "world.duckdb", kinds: dict[str, str] | None = None) -> str:
    quoted = ['"{}"'.format(n.replace('"', '""')) for n in TYPES]
    kinds = TYPES | (kinds or {})
    columns = ", ".join(f"{n} {t}" for n, t in zip(quoted, kinds.values(), strict=True))
    folder.mkdir(exist_ok=True)
    with duckdb.connect(str(folder / name)) as connection:
        connection.execute(f"create table parcels ({columns})")
        marks = ", ".join("?" * len(TYPES))
        cells = [[row[n] for n in TYPES] for row in rows()]
        connection.executemany(f"insert into parcels values ({marks})", cells)
    return f"duckdb:///{name}"


@pytest.mark.parametrize(
    ("kind", "zone"),
    [("timestamp", "Europe/Berlin"), ("timestamp_ns", "UTC"), ("timestamp_s", "America/New_York")],
)
def test_a_duckdb_file_is_the_same_history_as_sqlite(
    kind: str, zone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases.base, "CHUNK_ROWS", 37)
    (tmp_path / "lite").mkdir()
    lite = problem_on(in_sqlite(tmp_path / "lite"), tmp_path / "lite", zone=zone)
    url = in_duckdb(tmp_path / "duck", kinds={"at": kind})
    duck = problem_on(url, tmp_path / "duck", zone=zone, query=QUERY, batch=BATCH)
    for as_of in (AS_OF, AS_OF + pd.Timedelta("3d")):  # the second pull brings what is new
        assert [s.digest for s in frozen(duck, as_of)] == [s.digest for s in frozen(lite, as_of)]


def test_a_duckdb_view_reads_parquet_next_to_the_problem_file(tmp_path: Path) -> None:
    folder = tmp_path / "p 'q'"
    frame = pd.DataFrame(rows())
    folder.mkdir()
    frame.to_parquet(folder / "parcels.parquet", index=False)
    with duckdb.connect(str(folder / "views.duckdb")) as connection:
        connection.execute(f"set file_search_path = '{str(folder).replace(chr(39), chr(39) * 2)}'")
        connection.execute("create view parcels as select * from 'parcels.parquet'")
    of_view = frozen(problem_on("duckdb:///views.duckdb", folder, query=QUERY, batch=BATCH))
    queries = {"query": QUERY, "batch": BATCH}
    queries = {n: q.replace("parcels", '"parcels.parquet"') for n, q in queries.items()}
    of_file = frozen(problem_on("duckdb://", folder, **queries))
    assert [s.digest for s in of_file] == [s.digest for s in of_view]
    assert [s.rows for s in of_file] == [160, 56]


def test_types_of_duckdb_without_a_kind_are_text_or_refused(tmp_path: Path) -> None:
    in_duckdb(tmp_path)
    cells = (
        "'101'::bit as bits, 'a'::enum('a', 'b') as mood, id::hugeint as huge, '[]'::json as doc"
    )
    query = f'select parcels.*, {cells}{{}} from parcels where "at" < :as_of'
    problem = problem_on("duckdb:///world.duckdb", tmp_path, query=query.format(""))
    frame = read(pull(problem, open_workspace(problem.file), AS_OF))
    assert frame.loc[1, ["bits", "mood", "huge", "doc"]].tolist() == [101.0, "a", 1.0, "[]"]
    for cell in ("[1]", "{'a': 1}", "interval 1 day", "time '10:00'"):
        bad = problem_on("duckdb:///world.duckdb", tmp_path, query=query.format(f", {cell} as odd"))
        with pytest.raises(ProblemError, match="column 'odd': found"):
            pull(bad, open_workspace(bad.file), AS_OF)


@pytest.mark.parametrize(
    ("query", "error", "code"),
    [
        ("select * from parcels) as q; drop table parcels; select * from (select 1", HistoryError, "query_failed"),
        ("select * from nowhere", HistoryError, "query_failed"),
        ("copy parcels to 'out.csv'", HistoryError, "query_failed"),
    ],
)  # fmt: skip
def test_a_query_of_duckdb_that_is_no_select_is_refused(
    query: str, error: type[AutomlError], code: str, tmp_path: Path
) -> None:
    problem = problem_on(in_duckdb(tmp_path), tmp_path, query=query)
    with pytest.raises(error) as caught:
        pull(problem, open_workspace(problem.file), AS_OF)
    assert caught.value.code == code
    assert not (tmp_path / "out.csv").exists()


def test_a_query_of_duckdb_that_takes_too_long_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "STATEMENT_SECONDS", 0.3)
    endless = "select p.* from parcels p, range(1000000000) r(i), range(1000) s(j) where i * j = -1"
    problem = problem_on(in_duckdb(tmp_path), tmp_path, query=endless)
    with pytest.raises(HistoryError, match="took longer than") as caught:
        pull(problem, open_workspace(problem.file), AS_OF)
    assert caught.value.code == "source_slow"


def test_a_duckdb_file_that_another_process_writes_is_locked(tmp_path: Path) -> None:
    problem = problem_on(in_duckdb(tmp_path), tmp_path)
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    file = str(tmp_path / "world.duckdb")
    command = [sys.executable, "-c", code, file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(UnreachableError, match=rf"is locked: .*PID {writer.pid}") as caught:
            pull_batch(problem, open_workspace(problem.file), AS_OF, kinds={"at": "time"})
        assert caught.value.code == "source_locked"
        writer.communicate(b"\n", timeout=60)


def test_a_missing_duckdb_names_file_or_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_on("duckdb:///nothing.db", tmp_path)
    with pytest.raises(UnreachableError, match=re.escape(f"no file at {tmp_path}")):
        pull(problem, open_workspace(problem.file), AS_OF)
    problem = problem_on(in_duckdb(tmp_path), tmp_path)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ProblemError, match="duckdb") as caught:
        pull(problem, open_workspace(problem.file), AS_OF)
    assert caught.value.next_step == "Install its driver: pip install 'automl-retrain[duckdb]'"


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M", "%Y%m%dT%H%M"])
def test_every_pull_finds_text_times_that_do_not_sort(tmp_path: Path, form: str) -> None:
    start, hour = datetime(2026, 1, 5, tzinfo=UTC), timedelta(hours=1)
    with duckdb.connect(str(tmp_path / "rows.duckdb")) as connection:
        connection.execute("create table visits (id bigint, ts varchar, late bigint)")
        connection.executemany(
            "insert into visits values (?, ?, ?)",
            [(i, f"{start + i * hour:{form}}", i % 3 % 2) for i in range(24 * 14)],
        )
    (tmp_path / "problem.toml").write_text(
        """
        name = "visits"
        task = "binary"
        [history]
        source = "duckdb:///rows.duckdb"
        query = "select * from visits"
        time = "ts"
        key = ["id"]
        target = "late"
        [metric]
        name = "roc_auc"
        [sweep]
        trials = 1
        [validation]
        block = "1d"
        """,
        encoding="utf-8",
    )
    problem = load_problem(tmp_path / "problem.toml")
    kinds: ColumnKinds = {"id": "whole", "ts": "time", "late": "whole"}
    for days in (9, 11, 13):
        as_of = start + days * 24 * hour
        snapshot = pull(problem, open_workspace(problem.file), as_of, kinds=kinds)
        assert snapshot.rows == days * 24
