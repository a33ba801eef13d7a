"""What a disk did is recognised in whatever a library raised, and in nothing else."""

from __future__ import annotations

import errno
import re
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from automl.disk import disk_error, full_disk, naming_disk_errors
from automl.errors import DiskError, HistoryError


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EROFS, "no_right"),
        (errno.EACCES, "no_right"),
        (errno.EMFILE, "disk"),
        (errno.EIO, "disk"),
        (errno.EFBIG, "disk"),
    ],
)
def test_an_error_number_is_named(number: int, code: str, tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"model\.pickle") as caught, naming_disk_errors(tmp_path):
        raise OSError(number, "words of the system", str(tmp_path / "model.pickle"))

    assert caught.value.code == code
    assert caught.value.exit_code == 6
    assert "run the same command again" in caught.value.next_step


def test_a_database_that_may_not_grow_is_a_full_disk(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'store.db'}")
    with pytest.raises(DiskError, match="database or disk is full") as caught:
        fill(engine, tmp_path)

    assert caught.value.code == "disk_full"
    assert str(tmp_path) in str(caught.value)
    engine.dispose()


def fill(engine: sa.Engine, folder: Path) -> None:
    with naming_disk_errors(folder), engine.begin() as connection:
        connection.execute(sa.text("create table t (x text)"))
        connection.execute(sa.text("pragma max_page_count = 3"))
        connection.execute(sa.text("insert into t values (:x)"), {"x": "x" * 100_000})


def test_a_database_without_rights_is_named(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "store.db").execute("create table t (x)").connection.close()
    engine = sa.create_engine(f"sqlite:///file:{tmp_path / 'store.db'}?mode=ro&uri=true")

    with (
        pytest.raises(sa.exc.OperationalError, match="readonly") as raised,
        engine.begin() as connection,
    ):
        connection.execute(sa.text("insert into t values (1)"))

    found = disk_error(raised.value, tmp_path)
    assert found is not None
    assert found.code == "no_right"
    engine.dispose()


def test_the_cause_of_another_librarys_error_is_found() -> None:
    cause = sqlite3.OperationalError("disk I/O error")
    wrapped = RuntimeError("first line\nSQLAlchemy database error")
    wrapped.__cause__ = cause

    assert str(disk_error(wrapped)) == "the workspace: disk I/O error"
    part = disk_error(OSError("2215 requested and 496 written"), Path("/data"))
    assert str(part) == "/data cannot be written: no space left on device"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bad value"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        sqlite3.OperationalError("no such table: t"),
        type("RestException", (Exception,), {})("500: database or disk is full"),
        HistoryError("refused", code="single_class"),
    ],
)
def test_other_errors_are_left_alone(error: Exception, tmp_path: Path) -> None:
    assert disk_error(error, tmp_path) is None
    with (
        pytest.raises(type(error), match=re.escape(str(error))) as caught,
        naming_disk_errors(tmp_path),
    ):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("OSError: [Errno 28] No space left on device: 'a.npy'", True),
        ("OSError: 8000 requested and 0 written", True),
        ("ValueError: predictions are not finite numbers", False),
        ("", False),
    ],
)
def test_a_full_disk_is_recognised_in_the_text_of_a_worker(text: str, *, full: bool) -> None:
    assert (full_disk(text) is not None) == full
