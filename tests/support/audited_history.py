"""A history of twenty days, pulled in small parts."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from automl.history import Snapshot, read
from automl.history.sources import base
from automl.history.storage import writer as part_writer
from automl.problem import Problem
from tests.support.changing_source import (
    HOUR,
    START,
    Row,
    folders,
    insert,
    pulled,
    some_row,
    write_problem,
)

ROOT = Path(__file__).parents[2]
ROWS = 480  # every hour for twenty days
APPEND = {"ignore": '["changed", "known_at"]'}
CHANGED = {"updated_at": '"changed"', "ignore": '["known_at"]'}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts and chunks of a few rows, for every test of a module that imports this."""
    monkeypatch.setattr(part_writer, "PART_ROWS", 50)
    monkeypatch.setattr(base, "CHUNK_ROWS", 37)


def hours(count: int = ROWS, first: int = 0) -> list[Row]:
    return [some_row(first + i, START + (first + i) * HOUR) for i in range(count)]


def moment(hour: int) -> datetime:
    return START + hour * HOUR


def begun(folder: Path, **lines: str) -> Problem:
    """A history of 480 rows in ten parts, pulled once."""
    insert(folder, hours(), replace=True)
    problem = write_problem(folder, **(lines or APPEND))
    pulled(problem, moment(ROWS))
    return problem


def files(problem: Problem) -> dict[str, tuple[int, int]]:
    return {
        f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in folders(problem).parts.iterdir()
    }


def keys(snapshot: Snapshot) -> set[int]:
    return set(read(snapshot)["id"])
