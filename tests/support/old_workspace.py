"""A copy of the kept workspace that an earlier release made, with paths that lead to the copy."""

from __future__ import annotations

import sqlite3
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

KEPT = Path(__file__).parents[1] / "scenarios" / "old_workspace"
MADE_IN = "/srv/returns"
NEXT = datetime(2026, 5, 11, tzinfo=UTC)


def open_old_workspace(folder: Path) -> Path:
    """Unpack the kept workspace into a folder; returns its problem file."""
    with tarfile.open(KEPT / "returns.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    problem = folder / "returns" / "problem.toml"
    for name in ("automl", "mlflow"):
        with sqlite3.connect(problem.parent / ".automl" / f"{name}.db") as connection:
            _replace_everywhere(connection, MADE_IN, str(problem.parent))
            if name == "automl":
                connection.execute("update automl_waiting set expires_at = '2100-01-01 00:00:00'")
    return problem


def _replace_everywhere(connection: sqlite3.Connection, before: str, after: str) -> None:
    tables = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
    for (table,) in tables:
        for column in connection.execute(f'pragma table_info("{table}")').fetchall():
            connection.execute(
                f'update "{table}" set "{column[1]}" = replace("{column[1]}", ?, ?) '
                f'where typeof("{column[1]}") = \'text\' and instr("{column[1]}", ?)',
                (before, after, before),
            )


def add_week(orders: Path) -> None:
    """The orders of the week to predict."""
    lines = [
        f"{100_000 + hour},{NEXT + timedelta(hours=hour):%Y-%m-%d %H:%M:%S},shop {hour % 40:02d},{hour % 90}.5,0"
        for hour in range(168)
    ]
    with orders.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
