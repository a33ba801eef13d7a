"""What a failed connection or query means for the user."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import sqlalchemy as sa

from automl.errors import AutomlError, HistoryError, UnreachableError
from automl.history.rows.personal import error_text
from automl.problem import Problem
from automl.redaction import redact

__all__ = ["Failure", "from_driver"]

# a refused connection carries no SQLSTATE
_DENIED = re.compile(
    r'authentication failed|no pg_hba.conf entry|role "[^"]*" (does not exist|is not permitted)'
)
_STOPPED = re.compile(r"^interrupted$|^INTERRUPT Error")  # by our own timer: SQLite, DuckDB
_LOST = ("server closed the connection", "terminating connection", "connection to server was lost")
_DRIVERS = ("adbc_driver_manager", "psycopg", "sqlite3", "duckdb", "_duckdb")


def from_driver(error: BaseException) -> bool:
    """Whether the error comes from SQLAlchemy, a database driver or the system."""
    classes = (sa.exc.SQLAlchemyError, sqlite3.Error, pa.ArrowException, OSError)
    return isinstance(error, classes) or type(error).__module__.startswith(_DRIVERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error of a driver and where it happened; `as_error` says what it means."""

    problem: Problem
    error: BaseException
    user: str
    seconds: int  # how long a statement may take
    connected: bool

    def as_error(self) -> AutomlError:
        """The error to raise, with its next step."""
        source = f"history.source {redact(self.problem.history.source)}"
        text, shown = self._text, self._shown
        state = str(getattr(self.error, "sqlstate", "") or "")
        if state.startswith("28") or _DENIED.search(text):
            return HistoryError(
                f"{source}: the database refuses this user: {shown[-1]}",
                code="source_denied",
                next_step="Fix user or password. There was no second attempt, so the account is not locked.",
            )
        if state == "42501" or "permission denied" in text:
            match = re.search(r"permission denied for \w+ (\S+)", text)
            table = match[1] if match else "the table"
            return HistoryError(
                f"{source}: no right to read {table}",
                code="no_right",
                next_step=f"grant select on {table} to {self.user or 'this user'};",
            )
        if state == "57014" or "statement timeout" in text or _STOPPED.search(text):
            return HistoryError(
                f"{source}: the query took longer than {self.seconds} s and was stopped",
                code="source_slow",
                next_step="Put an index on the time column, or select less in history.query.",
            )
        if not self.connected or state.startswith("08") or any(t in text for t in _LOST):
            return UnreachableError(
                f"{source} does not respond: {shown[0] if text else type(self.error).__name__}",
                code="source_unreachable",
                next_step="Check that the database is up and the URL is right, then run the same command again.",
            )
        return HistoryError(
            f"{source}: the query failed: " + "\n".join(shown),
            code="query_failed",
            next_step="Run the query by hand; a table or column may have been renamed.",
        )

    @property
    def _text(self) -> str:
        return redact(str(self.error)).strip()

    @property
    def _shown(self) -> Sequence[str]:
        """Lines of the error; after a query they may quote a cell, so not with personal columns."""
        hidden = self.connected and self.problem.history.personal
        text = error_text(self.error, self.problem) if hidden else self._text
        return text.splitlines() or [""]
