"""What every source of rows offers: its columns, and chunks of all rows or of new ones.

A source that cannot tell new rows from old ones has `incremental = False`: it returns every row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from automl.errors import HistoryError
from automl.history.rows.layout import Chunk

__all__ = ["CHUNK_ROWS", "Since", "Source", "once"]

CHUNK_ROWS = 65_536  # rows per chunk: the rows of one chunk are held in memory


@dataclass(frozen=True, slots=True)
class Since:
    """What is new: rows with time from `time` on, or changed (or labelled) from `changed` on.

    `until` closes the window, to compare older rows; then `changed` does not count.
    """

    time: datetime
    changed: datetime | None = None
    until: datetime | None = None


class Source(Protocol):
    """One table, query, set of files or function, opened for one pull."""

    incremental: bool  # whether `chunks(since=...)` returns less than everything
    loose: bool  # whether every value comes as text
    state: dict[str, Any]  # what the next pull must know about this one
    warnings: list[str]  # what the user should know about this source

    def names(self) -> list[str]:
        """All columns on offer, in the source's order."""

    def chunks(self, names: Sequence[str], since: Since | None = None) -> Iterator[Chunk]:
        """Rows with these columns only: all of them, or those that are new."""

    def close(self) -> None:
        """Release connections and memory."""


def once(names: Sequence[str], where: str = "source") -> list[str]:
    """Return the names; raise HistoryError if a name occurs twice.

    >>> once(["id", "at"])
    ['id', 'at']
    """
    repeated = sorted({n for n in names if list(names).count(n) > 1})
    if repeated:
        raise HistoryError(
            f"{where}: found column {repeated[0]!r} twice; wanted unique names",
            code="column_twice",
            next_step="Give each column a name of its own, in the source or in history.query.",
        )
    return list(names)
