"""Where rows come from: databases, parquet and CSV files, Python callables; all only read.

A source says which columns it has and hands over chunks of rows. `Since` asks for what is new; a source
that cannot tell hands over everything, and says so with `incremental = False`.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from automl.errors import HistoryError, ProblemError, UnreachableError
from automl.history.rows.casting import Column, as_times, utc_naive
from automl.history.rows.personal import words
from automl.history.rows.shaping import Chunk
from automl.problem import Problem
from automl.workspace import Workspace

__all__ = ["CHUNK_ROWS", "Since", "Source", "open_source"]

CHUNK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Since:
    """What is new: rows with time from `time` on, or changed (or labelled) from `changed` on.

    `until` closes the window for an audit of older rows; then `changed` does not count.
    """

    time: datetime
    changed: datetime | None = None
    until: datetime | None = None


class Source(Protocol):
    """One place of rows, opened for one pull."""

    incremental: bool  # whether `chunks(since=...)` brings less than everything
    loose: bool  # whether everything is written as text
    state: dict[str, Any]  # what the next pull must know about this one

    def names(self) -> list[str]:
        """All columns on offer, in the source's order."""

    def chunks(self, names: Sequence[str], since: Since | None = None) -> Iterator[Chunk]:
        """The rows, those columns only."""

    def close(self) -> None:
        """Give everything back."""


def open_source(
    problem: Problem,
    workspace: Workspace,
    query: str,
    bound: Mapping[str, datetime],
    before: Mapping[str, Any] | None = None,
) -> Source:
    """The source of a problem; `bound` are the parameters of its query, `before` the last pull's state.

    Raises
    ------
    UnreachableError, ProblemError
        The source is not there; the URL or callable is wrong.
    """
    h = problem.history
    if h.source:
        from automl.history.sources.databases import open_database  # noqa: PLC0415  only where there is one

        return open_database(problem, workspace, query, bound)
    if h.files:
        return FileSource(problem, workspace, before or {})
    return CallableSource(problem, workspace, bound)


def once(names: Sequence[str], where: str = "source") -> list[str]:
    """The names; raises HistoryError when one comes twice, or cannot be told from another."""
    twice = sorted({n for n in names if list(names).count(n) > 1})
    if twice:
        raise HistoryError(
            f"{where}: found column {twice[0]!r} twice; wanted unique names", code="column_twice"
        )
    return list(names)


# ---------------------------------------------------------------- files


@dataclass(slots=True)
class FileSource:
    """Parquet and CSV files; a file that has not changed since the last pull is not read again."""

    problem: Problem
    workspace: Workspace
    before: Mapping[str, Any]
    incremental: bool = False
    loose: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    _files: list[Path] = field(default_factory=list)
    _base: Path = Path()

    def __post_init__(self) -> None:
        pattern = self.problem.history.files
        path = Path(pattern)
        self._base, rest = (
            (Path("/"), str(path.relative_to("/")))
            if path.is_absolute()
            else (self.workspace.root, pattern)
        )
        found = sorted(p for p in self._base.glob(rest))
        files = [
            f for p in found for f in (sorted(p.rglob("*")) if p.is_dir() else [p]) if f.is_file()
        ]
        self._files = [f for f in files if f.suffix.lower() in (".parquet", ".csv")]
        if not self._files:
            raise UnreachableError(
                f"history.files {pattern!r}: no parquet or CSV file matches below {self._base}",
                code="source_unreachable",
                next_step="Check the path; it is relative to the problem file.",
            )
        self.loose = any(f.suffix.lower() == ".csv" for f in self._files)
        known = self.before.get("files", {})
        self.state = {"files": {self._name(f): {"stamp": self._stamp(f)} for f in self._files}}
        now = self.state["files"]
        self.incremental = bool(known) and all(
            name in now and now[name]["stamp"] == told["stamp"] for name, told in known.items()
        )

    def names(self) -> list[str]:
        """Columns of all files; they must agree."""
        first: list[str] = []
        for file in self._files:
            names = once(self._names(file), str(file))
            missing = set(first) ^ set(names) if first else set()
            if missing:
                raise HistoryError(
                    f"{file}: column {min(missing)!r} is not in every file; wanted the same columns in all",
                    code="files_differ",
                    next_step="Rewrite the files with one schema, or name those that agree.",
                )
            first = first or names
        return first

    def chunks(self, names: Sequence[str], since: Since | None = None) -> Iterator[Chunk]:
        """Rows of the files; with `since`, all rows of new files and of known ones what was not ripe."""
        known = self.before.get("files", {}) if since else {}
        for file in self._files:
            entry = self.state["files"][self._name(file)]
            told = known.get(self._name(file))
            if told and since and not self._may_hold(told, since):
                entry["last"], entry["changed"] = told["last"], told.get("changed")
                continue
            yield from self._read(file, names, entry, since if told else None)
            if self._stamp(file) != entry["stamp"]:
                raise HistoryError(
                    f"{file}: was changed while it was read; nothing of it is used",
                    code="source_changed",
                    next_step="Write files aside and rename them into place, then run the same command again.",
                )

    def close(self) -> None:
        """Nothing is held open."""

    def _may_hold(self, told: Mapping[str, Any], since: Since) -> bool:
        last, changed = told.get("last"), told.get("changed")
        if last is None or datetime.fromisoformat(last) >= utc_naive(since.time):
            return True
        return bool(
            since.changed
            and changed
            and datetime.fromisoformat(changed) >= utc_naive(since.changed)
        )

    def _read(
        self, file: Path, names: Sequence[str], entry: dict[str, Any], since: Since | None
    ) -> Iterator[Chunk]:
        h = self.problem.history
        try:
            for table in _file_tables(file, names):
                chunk = {name: _plain(table[name]) for name in names}
                times = _stamps(chunk[h.time], h.timezone)
                changes = [
                    _stamps(chunk[n], h.timezone)
                    for n in (h.updated_at, h.label_time)
                    if n in chunk
                ]
                entry["last"] = _newest(entry.get("last"), times)
                for change in changes:
                    entry["changed"] = _newest(entry.get("changed"), change)
                if since is not None:
                    fresh = times >= np.datetime64(utc_naive(since.time), "us")
                    if since.until is not None:
                        fresh &= times < np.datetime64(utc_naive(since.until), "us")
                    elif since.changed is not None:
                        edge = np.datetime64(utc_naive(since.changed), "us")
                        for change in changes:
                            fresh |= change >= edge
                    if not fresh.any():
                        continue
                    chunk = {
                        n: c.filter(pa.array(fresh)) if isinstance(c, pa.Array) else c[fresh]
                        for n, c in chunk.items()
                    }
                yield chunk
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError) as error:
            raise self._refused(file, error) from (None if h.personal else error)

    def _names(self, file: Path) -> list[str]:
        try:
            return _file_names(file)
        except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
            cause = None if self.problem.history.personal else error
            raise self._refused(file, error) from cause

    def _refused(self, file: Path, error: Exception) -> HistoryError:
        told = _bad_file(file, error)
        if not self.problem.history.personal:
            return told
        return HistoryError(
            f"{file}: cannot be read: {words(error, self.problem)}",
            code=told.code,
            next_step=told.next_step,
        )

    def _name(self, file: Path) -> str:
        return str(file.relative_to(self._base))

    @staticmethod
    def _stamp(file: Path) -> list[int]:
        try:
            stat = file.stat()
        except OSError as error:
            raise _bad_file(file, error) from error
        return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _plain(column: pa.ChunkedArray) -> Column:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _stamps(column: Column, zone: str) -> np.ndarray:
    cells = as_times(column, zone).cells
    return np.asarray(cells.to_numpy(zero_copy_only=False)).astype("datetime64[us]")


def _newest(told: str | None, stamps: np.ndarray) -> str | None:
    known = stamps[~np.isnat(stamps)]
    if not len(known):
        return told
    newest = str(known.max())
    return newest if told is None else max(told, newest)


def _file_names(file: Path) -> list[str]:
    if file.suffix.lower() == ".parquet":
        schema = pq.read_schema(file)
        index = [i["name"] for i in _range_indexes(schema)]
        return [*index, *(n for n in schema.names if not re.fullmatch(r"__index_level_\d+__", n))]
    return list(pa.csv.open_csv(file, parse_options=_CSV).schema.names)


def _range_indexes(schema: pa.Schema) -> list[dict[str, Any]]:
    """Named indexes that pandas wrote down as a range instead of a column."""
    told = (schema.pandas_metadata or {}).get("index_columns", [])
    return [i for i in told if isinstance(i, dict) and i.get("kind") == "range" and i.get("name")]


_CSV = pa.csv.ParseOptions(newlines_in_values=True)


def _file_tables(file: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    if file.suffix.lower() == ".parquet":
        index = {i["name"]: i for i in _range_indexes(pq.read_schema(file)) if i["name"] in names}
        stored, row = [n for n in names if n not in index], 0
        for batch in ds.dataset(file).to_batches(columns=stored, batch_size=CHUNK_ROWS):
            table = pa.Table.from_batches([batch])
            for name, told in index.items():
                numbers = told["start"] + told["step"] * np.arange(row, row + len(batch))
                table = table.append_column(name, pa.array(numbers))
            row += len(batch)
            yield table
        return
    # everything as text: kinds are decided later, from the rows that stay
    options = pa.csv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        include_columns=list(names),
        strings_can_be_null=True,
        null_values=[""],
    )
    read = pa.csv.ReadOptions(block_size=8 << 20)
    with pa.csv.open_csv(
        file, read_options=read, parse_options=_CSV, convert_options=options
    ) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _bad_file(file: Path, error: Exception) -> HistoryError:
    denied = isinstance(error, PermissionError)
    return HistoryError(
        f"{file}: cannot be read: {str(error).splitlines()[0]}",
        code="no_right" if denied else "bad_file",
        next_step="Give this user the right to read the file."
        if denied
        else "Replace the file by a whole one, then run the same command again.",
    )


# ---------------------------------------------------------------- callables


@dataclass(slots=True)
class CallableSource:
    """A Python function of (as_of, until[, since]) that returns a DataFrame."""

    problem: Problem
    workspace: Workspace
    bound: Mapping[str, datetime]
    incremental: bool = False
    loose: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    _frame: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        self.incremental = "since" in self._parameters() and bool(self.problem.history.key)

    def names(self) -> list[str]:
        """Columns of the frame."""
        frame = self._call(None) if self._frame is None else self._frame
        self._frame = frame
        return once([str(c) for c in frame.columns])

    def chunks(self, names: Sequence[str], since: Since | None = None) -> Iterator[Chunk]:
        """Rows of the frame."""
        frame = self._frame if since is None and self._frame is not None else self._call(since)
        self._frame = frame
        frame = frame.reset_index(drop=True).set_axis(list(map(str, frame.columns)), axis=1)
        missing = [n for n in names if n not in frame.columns]
        if missing:
            raise HistoryError(
                f"history.python: column {missing[0]!r} comes and goes; wanted the same columns at every call",
                code="missing_column",
            )
        for start in range(0, len(frame), CHUNK_ROWS):
            part = frame.iloc[start : start + CHUNK_ROWS].reset_index(drop=True)
            yield {name: _object_column(part[name]) for name in names}

    def close(self) -> None:
        """Forget the frame."""
        self._frame = None

    def _parameters(self) -> list[str]:
        return list(inspect.signature(self._function()).parameters)

    def _function(self) -> Any:
        entry = self.problem.history.python
        module_name, _, function = entry.partition(":")
        sys.path.insert(0, str(self.workspace.root))
        try:
            return getattr(importlib.import_module(module_name), function)
        except (ImportError, AttributeError) as error:
            raise ProblemError(
                f"history.python {entry!r}: {error}; wanted module:function beside the problem file",
                code="python",
            ) from error
        finally:
            sys.path.remove(str(self.workspace.root))

    def _call(self, since: Since | None) -> pd.DataFrame:
        entry = self.problem.history.python
        given: dict[str, Any] = {"as_of": self.bound["as_of"], "until": self.bound.get("until")}
        if self.incremental:
            edges = (
                [] if since is None else [e for e in (since.time, since.changed) if e is not None]
            )
            given["since"] = min(edges) if edges else None
        function, said = self._function(), partial(words, problem=self.problem)
        sys.path.insert(0, str(self.workspace.root))
        try:
            frame = function(**given)
        except Exception as error:
            cause = None if self.problem.history.personal else error  # it may quote a cell
            if isinstance(error, ProblemError) and cause:
                raise
            if isinstance(error, ImportError):
                raise ProblemError(
                    f"history.python {entry!r}: {said(error)}; wanted module:function beside the problem "
                    "file",
                    code="python",
                ) from cause
            if isinstance(error, OSError):
                raise UnreachableError(
                    f"history.python {entry!r}: {said(error)}", code="source_unreachable"
                ) from cause
            named = "" if cause is None else f"{type(error).__name__}: "
            raise HistoryError(
                f"history.python {entry!r} raised {named}{said(error)}", code="source_raises"
            ) from cause
        finally:
            sys.path.remove(str(self.workspace.root))
        if not isinstance(frame, pd.DataFrame):
            raise HistoryError(
                f"history.python {entry!r} returned {type(frame).__name__}; wanted a DataFrame",
                code="python",
            )
        return frame.copy()


def _object_column(column: pd.Series) -> Column:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("object")
    return column
