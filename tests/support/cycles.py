"""Whole cycles in this process, and what they leave in the store."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

from automl.cycles.options import CycleResult, RunOptions
from automl.problem import load_problem
from automl.score.pipeline import cycle
from automl.workspace import open_workspace


def run_cycle(file: Path, as_of: datetime, **options: Any) -> CycleResult:
    """`automl cycle`, as asked."""
    return cycle(load_problem(file), open_workspace(file), RunOptions(as_of=as_of, **options))


def rows(file: Path, query: str) -> list[Any]:
    """Rows of the store beside a problem file."""
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        return database.execute(query).fetchall()
