"""Rows of parquet and CSV files; a file that has not changed since the last pull is not read again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from automl.errors import HistoryError, UnreachableError
from automl.history.rows.casting import as_times
from automl.history.rows.kinds import Column
from automl.history.rows.layout import Chunk
from automl.history.rows.local_time import utc_naive
from automl.history.rows.personal import error_text
from automl.history.sources import base
from automl.history.sources.base import Since, once
from automl.problem import Problem
from automl.workspace import Workspace

__all__ = ["FileSource"]

CSV_BLOCK_BYTES = 8 << 20  # read at once
_CSV = pa.csv.ParseOptions(newlines_in_values=True)
_UNREADABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError)


@dataclass(slots=True, kw_only=True)
class FileSource:
    """The files that `history.files` matches; incremental as long as no file of the last pull changed."""

    problem: Problem
    workspace: Workspace
    before: Mapping[str, Any]
    incremental: bool = False
    loose: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    _files: list[Path] = field(default_factory=list)
    _base: Path = Path()

    def __post_init__(self) -> None:
        self._base, self._files = self._matching()
        self.loose = any(f.suffix.lower() == ".csv" for f in self._files)
        stamps = {self._name(f): {"stamp": self._stamp(f)} for f in self._files}
        self.state = {"files": stamps}
        earlier = self.before.get("files", {})
        self.incremental = bool(earlier) and all(
            name in stamps and stamps[name]["stamp"] == entry["stamp"]
            for name, entry in earlier.items()
        )

    def names(self) -> list[str]:
        """Columns of all files; they must agree."""
        first: list[str] = []
        for file in self._files:
            with self._readable(file):
                names = once(_file_names(file), str(file))
            differing = set(first) ^ set(names) if first else set()
            if differing:
                raise HistoryError(
                    f"{file}: column {min(differing)!r} is not in every file; wanted the same columns in all",
                    code="files_differ",
                    next_step="Rewrite the files with one schema, or match only files that agree.",
                )
            first = first or names
        return first

    def chunks(self, names: Sequence[str], since: Since | None = None) -> Iterator[Chunk]:
        """Rows of the files; with `since`, all rows of new files and the new rows of known files."""
        earlier = self.before.get("files", {}) if since else {}
        for file in self._files:
            entry = self.state["files"][self._name(file)]
            last = earlier.get(self._name(file))
            if last and since and not _may_have_new(last, since):
                entry["last"], entry["changed"] = last["last"], last.get("changed")
                continue
            yield from self._read(file, names, entry, since if last else None)
            if self._stamp(file) != entry["stamp"]:
                raise HistoryError(
                    f"{file}: was changed while it was read; nothing of it is used",
                    code="source_changed",
                    next_step="Write files under another name and rename them into place, then run the same command again.",
                )

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _matching(self) -> tuple[Path, list[Path]]:
        """The folder that names are relative to, and the files below it."""
        pattern = self.problem.history.files
        folder = self.workspace.root
        if Path(pattern).is_absolute():
            folder, pattern = Path("/"), str(Path(pattern).relative_to("/"))
        matches = sorted(folder.glob(pattern))
        files = [f for p in matches for f in (sorted(p.rglob("*")) if p.is_dir() else [p])]
        files = [f for f in files if f.is_file() and f.suffix.lower() in (".parquet", ".csv")]
        if not files:
            raise UnreachableError(
                f"history.files {self.problem.history.files!r}: no parquet or CSV file matches below {folder}",
                code="source_unreachable",
                next_step="Check the path; it is relative to the problem file.",
            )
        return folder, files

    def _read(
        self, file: Path, names: Sequence[str], entry: dict[str, Any], since: Since | None
    ) -> Iterator[Chunk]:
        h = self.problem.history
        with self._readable(file):
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
                fresh = None if since is None else _fresh(times, changes, since)
                if fresh is None:
                    yield chunk
                elif fresh.any():
                    yield {n: _where(column, fresh) for n, column in chunk.items()}

    @contextmanager
    def _readable(self, file: Path) -> Iterator[None]:
        """Report a file that cannot be read; without values of personal columns."""
        try:
            yield
        except _UNREADABLE as error:
            refusal = _bad_file(file, error)
            if not self.problem.history.personal:
                raise refusal from error
            raise HistoryError(
                f"{file}: cannot be read: {error_text(error, self.problem)}",
                code=refusal.code,
                next_step=refusal.next_step,
            ) from None

    def _name(self, file: Path) -> str:
        return str(file.relative_to(self._base))

    @staticmethod
    def _stamp(file: Path) -> list[int]:
        try:
            stat = file.stat()
        except OSError as error:
            raise _bad_file(file, error) from error
        return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


# ---------------------------------------------------------------- what is new


def _may_have_new(last: Mapping[str, Any], since: Since) -> bool:
    """Whether an unchanged file may have rows that are new, by what the last pull saw in it."""
    newest, changed = last.get("last"), last.get("changed")
    if newest is None or datetime.fromisoformat(newest) >= utc_naive(since.time):
        return True
    return bool(
        since.changed and changed and datetime.fromisoformat(changed) >= utc_naive(since.changed)
    )


def _fresh(
    times: NDArray[np.datetime64], changes: Sequence[NDArray[np.datetime64]], since: Since
) -> NDArray[np.bool_]:
    fresh = times >= np.datetime64(utc_naive(since.time), "us")
    if since.until is not None:
        return np.asarray(fresh & (times < np.datetime64(utc_naive(since.until), "us")))
    if since.changed is not None:
        edge = np.datetime64(utc_naive(since.changed), "us")
        for change in changes:
            fresh = fresh | (change >= edge)
    return np.asarray(fresh)


def _where(column: Column, rows: NDArray[np.bool_]) -> Column:
    return column.filter(pa.array(rows)) if isinstance(column, pa.Array) else column[rows]


def _stamps(column: Column, zone: str) -> NDArray[np.datetime64]:
    cells = as_times(column, zone).cells
    return np.asarray(cells.to_numpy(zero_copy_only=False)).astype("datetime64[us]")


def _newest(before: str | None, stamps: NDArray[np.datetime64]) -> str | None:
    valid = stamps[~np.isnat(stamps)]
    if not len(valid):
        return before
    newest = str(valid.max())
    return newest if before is None else max(before, newest)


# ---------------------------------------------------------------- one file


def _file_names(file: Path) -> list[str]:
    if file.suffix.lower() == ".parquet":
        schema = pq.read_schema(file)
        index = [i["name"] for i in _range_indexes(schema)]
        return [*index, *(n for n in schema.names if not re.fullmatch(r"__index_level_\d+__", n))]
    return list(pa.csv.open_csv(file, parse_options=_CSV).schema.names)


def _file_tables(file: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    if file.suffix.lower() == ".parquet":
        yield from _parquet_tables(file, names)
        return
    # everything as text: kinds are decided later, from the rows that stay
    options = pa.csv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        include_columns=list(names),
        strings_can_be_null=True,
        null_values=[""],
    )
    read = pa.csv.ReadOptions(block_size=CSV_BLOCK_BYTES)
    with pa.csv.open_csv(
        file, read_options=read, parse_options=_CSV, convert_options=options
    ) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _parquet_tables(file: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    indexes = {i["name"]: i for i in _range_indexes(pq.read_schema(file)) if i["name"] in names}
    stored, row = [n for n in names if n not in indexes], 0
    for batch in ds.dataset(file).to_batches(columns=stored, batch_size=base.CHUNK_ROWS):
        table = pa.Table.from_batches([batch])
        for name, index in indexes.items():
            numbers = index["start"] + index["step"] * np.arange(row, row + len(batch))
            table = table.append_column(name, pa.array(numbers))
        row += len(batch)
        yield table


def _range_indexes(schema: pa.Schema) -> list[dict[str, Any]]:
    """Named indexes that pandas stored as a range instead of a column."""
    indexes = (schema.pandas_metadata or {}).get("index_columns", [])
    return [
        i for i in indexes if isinstance(i, dict) and i.get("kind") == "range" and i.get("name")
    ]


def _plain(column: pa.ChunkedArray) -> Column:
    """The column as one array, without a dictionary."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _bad_file(file: Path, error: Exception) -> HistoryError:
    denied = isinstance(error, PermissionError)
    return HistoryError(
        f"{file}: cannot be read: {str(error).splitlines()[0]}",
        code="no_right" if denied else "bad_file",
        next_step="Give this user the right to read the file."
        if denied
        else "Replace it with a complete file, then run the same command again.",
    )
