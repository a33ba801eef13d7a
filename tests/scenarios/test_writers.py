"""Six writers with open transactions, and a history that is pulled all the while: nothing gets lost."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from automl.history import audit, continuation
from automl.history.storage import writer as part_writer
from automl.problem import Problem
from tests.support.changing_source import NONE, differences, newest, pulled, truth, write_problem
from tests.support.postgres import PostgresServer

WRITERS = 6
COLUMNS = (
    "id bigint, code text, at timestamp, changed timestamp, known_at timestamp, "
    "x double precision, kind text, y bigint"
)
LINES = {"updated_at": '"changed"', "ignore": '["known_at"]'}
SECONDS = [2, pytest.param(10, marks=pytest.mark.slow)]


def utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def write(engine: sa.Engine, writer: int, stop: threading.Event, failed: list[Exception]) -> None:
    """New, late, updated and unlabelled rows of one writer; a transaction stays open up to 0.3 s."""
    rng, count = random.Random(writer), 0
    try:
        while not stop.is_set():
            with engine.connect() as connection:
                connection.exec_driver_sql(
                    "begin immediate" if engine.dialect.name == "sqlite" else "select 1"
                )
                for _ in range(rng.randint(1, 4)):
                    stamp = utc_now()
                    at = stamp - timedelta(days=rng.choice([0, 0, 0, 1, 4]))
                    values = {
                        "id": count * WRITERS + writer,
                        "at": at,
                        "now": stamp,
                        "x": count / 8,
                    }
                    if count and rng.random() < 0.4:
                        values |= {"id": rng.randrange(count) * WRITERS + writer, "x": rng.random()}
                        sql = "update rows set x = :x, changed = :now, y = 1 - y where id = :id"
                    else:
                        count += 1
                        sql = "insert into rows values (:id, 'k', :at, :now, :at, :x, 'ant', 1)"
                    connection.execute(sa.text(sql), values)
                if rng.random() < 0.3:
                    time.sleep(rng.uniform(0, 0.3))
                connection.commit()
            time.sleep(rng.uniform(0, 0.02))
    except Exception as error:  # noqa: BLE001  reported by the test
        failed.append(error)


@contextmanager
def writers(engine: Callable[[], sa.Engine]) -> Iterator[None]:
    """Six writers until the end of the block."""
    stop, failed = threading.Event(), []
    threads = [
        threading.Thread(target=write, args=(engine(), number, stop, failed))
        for number in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []


def rows_of(engine: sa.Engine) -> list[dict[str, Any]]:
    frame = pd.read_sql("select * from rows", engine)
    return frame.to_dict("records")


def pull_all_the_while(problem: Problem, seconds: float) -> int:
    """Pulls with the present as as_of; returns how many."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        time.sleep(0.02)
        pulled(problem, datetime.now(UTC))
        count += 1
    return count


def lost(problem: Problem, engine: sa.Engine) -> dict[str, int]:
    """What a last, ordinary pull leaves wrong."""
    as_of = datetime.now(UTC)
    snapshot = pulled(problem, as_of)
    assert newest(problem).full == ""
    return differences(snapshot, truth(rows_of(engine), problem, as_of), ["id"])


@pytest.fixture
def _unaudited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watermark alone must do: nothing is compared with the source."""
    monkeypatch.setattr(part_writer, "PART_ROWS", 500)
    monkeypatch.setattr(audit.Audit, "parts", lambda *given: given[1].finish())


def postgres_rows(postgres: PostgresServer, folder: Path) -> tuple[Problem, sa.Engine]:
    url = postgres.new_database()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(f"create table rows ({COLUMNS})"))
        connection.execute(sa.text("insert into rows values (-1, 'k', now() - interval '2 days')"))
        connection.execute(sa.text("update rows set y = 1"))
    return write_problem(folder, f'source = "{url}"\nquery = "select * from rows"', **LINES), engine


@pytest.mark.usefixtures("_unaudited")
@pytest.mark.parametrize("seconds", SECONDS)
def test_no_writer_of_postgresql_is_lost_by_the_watermark_of_open_transactions(
    seconds: float, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuation, "CLOCKS", timedelta(0))
    problem, engine = postgres_rows(postgres, tmp_path)
    pulled(problem, datetime.now(UTC))
    with writers(lambda: sa.create_engine(engine.url, poolclass=sa.NullPool)):
        count = pull_all_the_while(problem, seconds)
    assert count > 3
    assert lost(problem, engine) == NONE
    engine.dispose()


@pytest.mark.slow
@pytest.mark.usefixtures("_unaudited")
def test_a_watermark_that_sees_no_open_transaction_does_lose_rows(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above can fail."""
    monkeypatch.setattr(continuation, "CLOCKS", timedelta(0))
    monkeypatch.setattr(continuation, "OVERLAP", timedelta(0))
    edges = continuation.edges
    monkeypatch.setattr(
        continuation,
        "edges",
        lambda problem, last: edges(problem, replace(last, state={}, at=last.as_of)),
    )
    problem, engine = postgres_rows(postgres, tmp_path)
    pulled(problem, datetime.now(UTC))
    with writers(lambda: sa.create_engine(engine.url, poolclass=sa.NullPool)):
        pull_all_the_while(problem, 5)
    assert lost(problem, engine) != NONE
    engine.dispose()


@pytest.mark.usefixtures("_unaudited")
@pytest.mark.parametrize("seconds", SECONDS)
def test_no_writer_of_sqlite_is_lost_by_the_overlap(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuation, "OVERLAP", timedelta(seconds=2))
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"create table rows ({COLUMNS})")
        old = utc_now() - timedelta(days=2)
        connection.execute("insert into rows (id, code, at, y) values (-1, 'k', ?, 1)", [str(old)])
    connection.close()
    engine = sa.create_engine(
        f"sqlite:///{tmp_path / 'rows.db'}", connect_args={"timeout": 30}, poolclass=sa.NullPool
    )
    problem = write_problem(tmp_path, **LINES)
    pulled(problem, datetime.now(UTC))
    with writers(lambda: engine):
        count = pull_all_the_while(problem, seconds)
    assert count > 3
    assert lost(problem, engine) == NONE


def test_a_role_that_cannot_see_others_transactions_falls_back_to_the_overlap(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    problem, engine = postgres_rows(postgres, tmp_path)
    with postgres.superuser.connect() as connection:
        connection.execute(sa.text("drop role if exists narrow"))
        connection.execute(sa.text("create role narrow login"))
    with engine.begin() as connection:
        connection.execute(sa.text("grant select on rows to narrow"))
    pulled(problem, datetime.now(UTC))
    assert "watermark" in newest(problem).state
    url = engine.url.set(username="narrow").render_as_string(hide_password=False)
    (tmp_path / "other").mkdir()
    narrow = write_problem(
        tmp_path / "other", f'source = "{url}"\nquery = "select * from rows"', **LINES
    )
    pulled(narrow, datetime.now(UTC))
    assert newest(narrow).state == {}
    engine.dispose()
    with engine.begin() as connection:
        connection.execute(sa.text("drop owned by narrow"))
        connection.execute(sa.text("drop role narrow"))
    engine.dispose()
