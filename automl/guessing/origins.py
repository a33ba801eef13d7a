"""Where a new problem's rows come from, as typed: a file, a folder, or a database URL with a table or a query."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from automl.errors import ProblemError
from automl.guessing.frames import Table, as_table
from automl.guessing.times import choose_time
from automl.history import (
    Sampled,
    quoted,
    reads_as_times,
    sample_files,
    sample_query,
    table_names,
)
from automl.problem import did_you_mean
from automl.redaction import redact

__all__ = ["Line", "Origin", "open_origin"]

DATABASES = {
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".duckdb": "duckdb",
}  # files
READERS = {"csv": "read_csv", "tsv": "read_csv", "parquet": "read_parquet"}
CONVERTED = '''"""Rows of {name} with times that a pull reads; `history.python` in problem.toml names `rows`."""

from pathlib import Path

import pandas as pd

from automl.guessing import as_times

FILE = Path(__file__).parent / {file!r}


def rows(as_of, until):
    """All rows; the caller keeps those that it needs."""
    frame = pd.{reader}(FILE{options})
    frame[{time!r}], _ = as_times(frame[{time!r}])  # {note}
    return frame
'''
Line = tuple[str, object, str]  # key, value, comment


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """A source of rows and a sample of them; `script` converts times that a pull does not read."""

    sampled: Sampled
    files: str = ""
    url: str = ""
    query: str = ""
    time: str = ""  # as the query spells it
    script: str = ""

    @property
    def lines(self) -> list[Line]:
        """The first keys of the section [history]."""
        if self.script:
            return [("python", "rows:rows", "the function in rows.py; it converts the times")]
        if self.files:
            return [("files", self.files, f"{self.counted}; new files that match are read too")]
        return [
            ("source", self.url, self.counted),
            ("query", f"{self.query} where {self.time} < :as_of", ""),
        ]

    @property
    def batch_lines(self) -> list[Line]:
        """The keys of the section [batch] that say where the rows to predict come from."""
        if not self.url:
            return []
        where = f"where {self.time} >= :as_of and {self.time} < :until"
        return [("query", f"{self.query} {where}", "")]

    @property
    def counted(self) -> str:
        """How many rows there are, and which were looked at."""
        rows, every = self.sampled.rows, self.sampled.every
        if rows is None:
            return f"guessed from the newest {len(self.sampled.frame):,} rows"
        seen = f", of which every {every}th was looked at" if every > 1 else ""
        return f"{rows:,} rows{seen}"

    def with_time(self, time: str, root: Path) -> tuple[Origin, Table]:
        """The origin with its column of times, and its sample as a table.

        Raises
        ------
        ProblemError
            Times cannot be read, or only by a conversion that the source does not allow.
        """
        table = as_table(self.sampled.frame, time)
        plain = reads_as_times(self.sampled.frame[time])
        if self.url:
            if not plain:
                raise _unreadable(time, self.sampled.frame[time], redact(self.url))
            return replace(self, time=quoted(self.url, time, root)), table
        if plain:
            return self, table
        return replace(self, script=self._converting(time, table)), table

    def _converting(self, time: str, table: Table) -> str:
        """A function that reads the one file and converts its times."""
        kind = Path(self.files).suffix.lstrip(".").lower()
        if kind not in READERS:
            raise _unreadable(time, self.sampled.frame[time], self.files)
        options = ""
        if self.sampled.delimiter not in ("", ","):
            options = f", sep={self.sampled.delimiter!r}"
        if self.sampled.decimal == ",":
            options += ', decimal=","'
        note = next((n for n in table.notes if repr(time) in n), "times as this project reads them")
        return CONVERTED.format(
            name=Path(self.files).name,
            file=self.files,
            reader=READERS[kind],
            options=options,
            time=time,
            note=note.partition(": ")[2] or note,
        )


def open_origin(source: str, table: str, root: Path, *, time: str = "", target: str = "") -> Origin:
    """Read a sample of a file, folder, or table of a database; `root` is the problem file's folder.

    Raises
    ------
    ProblemError
        There is no such file, or the table is missing or not named.
    UnreachableError, HistoryError
        The source does not respond, or cannot be read.
    """
    path = Path(source).expanduser()
    if "://" not in source and path.suffix.lower() in DATABASES:
        source = f"{DATABASES[path.suffix.lower()]}:///{path}"
    if "://" in source:
        return _of_database(_placed(source, root), table, root, (time, target))
    if table:
        raise ProblemError(
            f"found the table {table!r} after {source!r}, which is no database URL; wanted a file, a folder, or a "
            "URL and a table",
            code="usage",
            next_step="automl init FILE --target COLUMN",
        )
    if not path.exists() and not any(c in source for c in "*?["):
        raise _no_file(path)
    files = _relative(path, root)
    return Origin(sampled=sample_files(files, root), files=files)


def _of_database(url: str, table: str, root: Path, known: tuple[str, str]) -> Origin:
    time, target = known
    if not table:
        names = table_names(url, root)
        raise ProblemError(
            f"{redact(url)}: found no table name; wanted one of {', '.join(names) or '(there is none)'}, or a query",
            code="no_table",
            next_step=f"automl init {redact(url)} {names[0] if names else 'TABLE'}",
        )
    query = table.strip().rstrip(";")
    if query.lower().startswith(("select ", "select\n", "with ")):
        query = f"select * from ({query}) as t"  # noqa: S608  the user's own query
    else:
        _refuse_missing(url, table, root)
        query = f"select * from {quoted(url, table, root)}"  # noqa: S608  a table of that database

    def choose(frame: pd.DataFrame) -> str:
        return choose_time(frame, time, target=target)[0]

    return Origin(sampled=sample_query(url, query, root, choose), url=url, query=query)


def _refuse_missing(url: str, table: str, root: Path) -> None:
    names = table_names(url, root)
    known = {*names, *(n.rpartition(".")[2] for n in names)}
    if table not in known:
        raise ProblemError(
            f"{redact(url)}: has no table {table!r}; found {', '.join(names) or 'none'}"
            f"{did_you_mean(table, sorted(known))}",
            code="no_table",
            next_step=f"automl init {redact(url)} {names[0] if names else 'TABLE'}",
        )


def _placed(url: str, root: Path) -> str:
    """A URL of a database file with its path as the problem file will read it."""
    scheme, mark, path = url.partition(":///")
    if not mark or scheme.partition("+")[0] not in ("sqlite", "duckdb") or not path:
        return url
    if path.startswith(":memory:"):
        return url
    return f"{scheme}:///{_relative(Path(path), root)}"


def _relative(path: Path, root: Path) -> str:
    """A path from the problem file's folder, if it is below it; else absolute."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  links stay: a pattern may hold stars
    if absolute == root:
        return "*"
    return str(absolute.relative_to(root) if absolute.is_relative_to(root) else absolute)


def _no_file(path: Path) -> ProblemError:
    folder = path.parent
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    return ProblemError(
        f"{path}: is not there; wanted a file, a folder, or a database URL and a table"
        f"{did_you_mean(path.name, names)}",
        code="no_file",
        next_step="automl init FILE --target COLUMN",
    )


def _unreadable(time: str, column: pd.Series, where: str) -> ProblemError:
    example = column.dropna().tolist()[0]
    return ProblemError(
        f"{where}: time {time!r} holds values such as {example!r}; wanted dates or times as 2026-03-02T06:00, typed "
        "or as text",
        code="time_unreadable",
        next_step='Convert them in a query: automl init URL "select ..., CONVERTED as time from TABLE". Files: write '
        "one CSV or parquet file, which is converted for you.",
    )
