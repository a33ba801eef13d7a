"""Rows of a DuckDB file, or of a query over parquet files without one: read-only, as Arrow streams.

Relative paths in views and queries are those of the problem file's folder. Nothing is downloaded: an
extension must be installed before.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from automl.errors import AutomlError, HistoryError, ProblemError, UnreachableError
from automl.history.rows.layout import Chunk
from automl.history.sources import base, databases
from automl.history.sources.base import once
from automl.history.sources.databases import Bounds, Database
from automl.history.sources.postgres import PARAMETER
from automl.redaction import redact
from automl.workspace import driver_package

__all__ = ["DuckDatabase"]

# types that Arrow returns as numbers, texts, times or bytes, or that are refused by name
_AS_THEY_ARE = re.compile(
    r"BOOLEAN|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL.*|VARCHAR|DATE|TIMESTAMP.*|BLOB|UUID"
    r"|TIME.*|INTERVAL|.*\[\d*\]|(STRUCT|MAP|UNION)\(.*"
)

_NANOSECONDS = (datetime(1678, 1, 1), datetime(2262, 1, 1))  # noqa: DTZ001  naive: the years that TIMESTAMP_NS counts


@dataclass(slots=True, kw_only=True)
class DuckDatabase(Database):
    """One query of a DuckDB database as a source of chunks."""

    folder: Path  # of the problem file
    _duck: Any = None  # the connection
    _timer: threading.Timer | None = None

    @property
    def connected(self) -> bool:
        """Whether the file was opened."""
        return self._duck is not None

    def open(self) -> None:
        """Connect without the right to write, in one transaction."""
        try:
            import duckdb  # noqa: PLC0415  an extra
        except ImportError as error:
            raise ProblemError(
                f"history.source {redact(self.problem.history.source)}: {error}",
                code="url",
                next_step=f"Install its driver: {driver_package(error, 'duckdb')}",
            ) from error
        database = self.url.database or ":memory:"
        try:
            self._duck = duckdb.connect(database, read_only=database != ":memory:")
        except duckdb.Error as error:
            raise self._not_opened(error) from error
        with self._reported():
            folder, zone = str(self.folder).replace("'", "''"), self.problem.history.timezone
            self._duck.execute("set autoinstall_known_extensions = false")
            self._duck.execute(f"set file_search_path = '{folder}'")
            self._duck.execute(f"set TimeZone = '{zone}'")
            self._duck.execute("begin")
        self._timer = threading.Timer(databases.STATEMENT_SECONDS, self._duck.interrupt)
        self._timer.daemon = True
        self._timer.start()

    def names(self) -> list[str]:
        """Columns of the query."""
        with self._reported():
            probe = self._run_arrow(f"select * from (\n{self.query}\n) as q where 1 = 0", {})  # noqa: S608
            self._types = {d[0]: str(d[1]) for d in probe.description}
            names = once([d[0] for d in probe.description])
        self._expressions = {
            n: "{}::varchar" for n, t in self._types.items() if not _AS_THEY_ARE.fullmatch(t)
        }
        return names

    def close(self) -> None:
        """End the transaction and disconnect."""
        if self._timer is not None:
            self._timer.cancel()
        if self._duck is not None:
            self._duck.close()
        self._duck = self._timer = None

    def quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def _value(self, name: str, value: Any) -> Any:
        bound = Database._value(self, name, value)
        if isinstance(bound, datetime) and "TIMESTAMP_NS" in self._types.values():
            return min(max(bound, _NANOSECONDS[0]), _NANOSECONDS[1])
        return bound

    def _read(self, sql: str, edges: Bounds, names: Sequence[str]) -> Iterator[Chunk]:
        result = self._run_arrow(sql, edges)
        for batch in result.fetch_record_batch(base.CHUNK_ROWS):
            if len(batch):
                yield dict(zip(names, batch.columns, strict=True))

    def _run_arrow(self, sql: str, edges: Bounds) -> Any:
        values = self._values(edges)
        used: dict[str, Any] = {}

        def bound(match: re.Match[str]) -> str:
            if match[1] not in values:
                return match[0]
            used[match[1]] = self._value(match[1], values[match[1]])
            return f"${match[1]}"

        text = PARAMETER.sub(bound, sql)
        if len(self._duck.extract_statements(text)) != 1:
            raise HistoryError(
                "history.query: found several statements; wanted one select",
                code="query_failed",
                next_step="Put one select into history.query; a view of the database can hold the rest.",
            )
        return self._duck.execute(text, used)

    def _not_opened(self, error: Exception) -> AutomlError:
        source, text = redact(self.problem.history.source), str(error).strip().splitlines()[0]
        locked = re.search(r"lock is held in (.*?\(PID \d+\))", text)
        if locked is None:
            return UnreachableError(
                f"history.source {source} cannot be opened: {text}",
                code="source_unreachable",
                next_step="Check that the file is a DuckDB database of this version, then run the same command again.",
            )
        return UnreachableError(
            f"history.source {source} is locked: {locked[1]} has it open for writing",
            code="source_locked",
            next_step="Close that connection, or give a copy of the file; then run the same command again.",
        )
