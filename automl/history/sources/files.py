"""Rows of files in many formats; a file that has not changed since the last pull is not read again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from automl.errors import HistoryError
from automl.history.rows.casting import as_kind, as_times
from automl.history.rows.kinds import Column
from automl.history.rows.layout import Chunk
from automl.history.rows.local_time import utc_naive
from automl.history.rows.personal import error_text
from automl.history.sources.base import Since, once
from automl.history.sources.dialects import Dialect, plain_numbers, recognise
from automl.history.sources.formats import UNREADABLE, bad_file, file_names, file_tables, read_head
from automl.history.sources.matching import READ, DataFile, find_files
from automl.problem import Problem
from automl.workspace import Workspace

__all__ = ["FileSource"]

NAMED = 3  # files that a warning names


@dataclass(slots=True, kw_only=True)
class FileSource:
    """The files that `history.files` matches; incremental as long as no file of the last pull changed."""

    problem: Problem
    workspace: Workspace
    before: Mapping[str, Any]
    incremental: bool = False
    loose: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _files: list[DataFile] = field(default_factory=list)
    _base: Path = Path()
    _dialects: dict[Path, Dialect] = field(default_factory=dict)  # of CSV files
    _partitions: dict[str, pa.Array] = field(default_factory=dict)  # column -> a cell per file

    def __post_init__(self) -> None:
        found = find_files(self.problem.history.files, self.workspace.root)
        self._base = found.base
        empty = [
            f for f in found.files if f.format in ("csv", "json") and not self._stamp(f.path)[0]
        ]
        # a file that is empty and alone is refused when it is read
        self._files = [f for f in found.files if f not in empty] or empty
        left_out = [f.path for f in found.files if f not in self._files]
        self._warn_of([*found.unread, *left_out])
        self.loose = any(f.format == "csv" for f in self._files)
        stamps = {self._name(f.path): {"stamp": self._stamp(f.path)} for f in self._files}
        self.state = {"files": stamps}
        earlier = self.before.get("files", {})
        self.incremental = bool(earlier) and all(
            name in stamps and stamps[name]["stamp"] == entry["stamp"]
            for name, entry in earlier.items()
        )

    def names(self) -> list[str]:
        """Columns of all files and of the folders they lie in; they must agree."""
        self._recognise_dialects()
        first: list[str] = []
        for file in self._files:
            with self._readable(file.path):
                stored = file_names(file.path, file.format, self._dialects.get(file.path))
            names = once(stored, str(file.path))
            names += [name for name in file.partitions if name not in names]
            differing = set(first) ^ set(names) if first else set()
            if differing:
                raise HistoryError(
                    f"{file.path}: column {min(differing)!r} is not in every file; wanted the same columns in all",
                    code="files_differ",
                    next_step="Rewrite the files with one schema, or match only files that agree.",
                )
            first = first or names
        self._partitions = {
            name: _cells_of_folders([f.partitions.get(name) for f in self._files])
            for name in dict.fromkeys(n for f in self._files for n in f.partitions)
        }
        return first

    def chunks(self, names: Sequence[str], since: Since | None = None) -> Iterator[Chunk]:
        """Rows of the files; with `since`, all rows of new files and the new rows of known files."""
        earlier = self.before.get("files", {}) if since else {}
        for place, file in enumerate(self._files):
            entry = self.state["files"][self._name(file.path)]
            last = earlier.get(self._name(file.path))
            if last and since and not _may_have_new(last, since):
                entry["last"], entry["changed"] = last["last"], last.get("changed")
                continue
            yield from self._read(place, names, entry, since if last else None)
            if self._stamp(file.path) != entry["stamp"]:
                raise HistoryError(
                    f"{file.path}: was changed while it was read; nothing of it is used",
                    code="source_changed",
                    next_step="Write files under another name and rename them into place, then run the same command again.",
                )

    @property
    def delimiter(self) -> str:
        """What stands between the columns of CSV files; empty if there are none."""
        return next((d.delimiter for d in self._dialects.values()), "")

    @property
    def decimal(self) -> str:
        """The mark that begins decimals in CSV files; empty if nothing shows it."""
        return next((d.decimal for d in self._dialects.values() if d.decimal), "")

    def stored(self, names: Sequence[str]) -> Iterator[Chunk]:
        """Rows of all files as they are stored, whatever their times."""
        for place, file in enumerate(self._files):
            with self._readable(file.path):
                yield from self._stored(place, names)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    # ------------------------------------------------------------ how files are written

    def _recognise_dialects(self) -> None:
        """How each CSV file is written; one that does not show its decimal mark is like the others."""
        h = self.problem.history
        known = [n for n in (h.time, h.target, *h.key) if n]
        for file in self._files:
            if file.format == "json":
                with self._readable(file.path):
                    read_head(file.path)
            if file.format != "csv":
                continue
            with self._readable(file.path):
                self._dialects[file.path] = recognise(
                    read_head(file.path),
                    str(file.path),
                    delimiter=h.delimiter,
                    decimal=h.decimal,
                    columns=known,
                )
        shown = {d.decimal for d in self._dialects.values() if d.delimiter != "," and d.decimal}
        if len(shown) == 1:
            for path, dialect in self._dialects.items():
                if dialect.delimiter != "," and not dialect.decimal:
                    self._dialects[path] = replace(dialect, decimal=min(shown))
        commas = [p for p, d in self._dialects.items() if d.decimal == ","]
        if commas and not h.decimal:
            self.warnings.append(
                f"{self._listed(commas)}: numbers are read with a decimal comma; declare it: "
                'decimal = "," under [history] [decimal_comma]'
            )

    def _warn_of(self, unread: Sequence[Path]) -> None:
        if unread:
            count = "1 file is" if len(unread) == 1 else f"{len(unread)} files are"
            self.warnings.append(
                f"history.files: {count} there but not read, because of the ending or without content: "
                f"{self._listed(unread)}; wanted {READ} [file_unread]"
            )

    def _listed(self, paths: Collection[Path]) -> str:
        names = sorted(map(self._name, paths))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return ", ".join(names[:NAMED]) + more

    def _cells(self, name: str, column: Column, dialect: Dialect | None) -> Column:
        """The cells; numbers of a CSV file are written as Python writes them."""
        h = self.problem.history
        declared = h.decimal or ("," if dialect and dialect.decimal == "," else "")
        roles = {h.time, h.label_time, h.updated_at, *h.key, *h.group}
        if dialect is None or not declared or name in roles:
            return column
        return plain_numbers(column, declared)

    # ------------------------------------------------------------ reading

    def _read(
        self, place: int, names: Sequence[str], entry: dict[str, Any], since: Since | None
    ) -> Iterator[Chunk]:
        h = self.problem.history
        file = self._files[place]
        with self._readable(file.path):
            for chunk in self._stored(place, names):
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

    def _stored(self, place: int, names: Sequence[str]) -> Iterator[Chunk]:
        """Chunks of one file, with the columns that its folders name."""
        file = self._files[place]
        dialect = self._dialects.get(file.path)
        inside = file_names(file.path, file.format, dialect) if file.partitions else names
        read = [n for n in names if n in inside or n not in file.partitions]
        # without a column of its own a file still has a number of rows
        counted = read or inside[:1]
        for table in file_tables(file.path, counted, file.format, dialect):
            chunk: Chunk = {n: self._cells(n, _plain(table[n]), dialect) for n in read}
            for name in file.partitions:
                if name not in names:
                    continue
                cell = self._partitions[name][place]
                if name in chunk:
                    _refuse_other(file, name, chunk[name])
                else:
                    chunk[name] = pa.repeat(cell, len(table))
            yield {name: chunk[name] for name in names}

    @contextmanager
    def _readable(self, file: Path) -> Iterator[None]:
        """Report a file that cannot be read; without values of personal columns."""
        try:
            yield
        except UNREADABLE as error:
            refusal = bad_file(file, error)
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
            raise bad_file(file, error) from error
        return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


# ---------------------------------------------------------------- columns of folders


def _cells_of_folders(values: Sequence[str | None]) -> pa.Array:
    """A cell per file: whole numbers if all are, as Spark and Arrow read them, else texts."""
    texts = pa.array(values, pa.string())
    whole = pc.match_substring_regex(texts, r"^(0|-?[1-9]\d{0,17})$")
    return texts.cast(pa.int64()) if pc.all(whole).as_py() else texts


def _refuse_other(file: DataFile, name: str, column: Column) -> None:
    """Refuse a file whose own column differs from what the name of its folder says."""
    cells = pc.unique(column) if isinstance(column, pa.Array) else pa.array(column.unique())
    said = pa.array([file.partitions[name]], pa.string())
    for kind in ("text", "number", "time"):
        read = as_kind(said, kind)
        here = as_kind(cells, kind)
        if not read.bad.any() and not here.bad.any() and here.cells.unique().equals(read.cells):
            return
    raise HistoryError(
        f"{file.path}: column {name!r} holds {cells[0].as_py()!r}, its folder says {file.partitions[name]!r}; "
        "wanted one value",
        code="partition_differs",
        next_step="Rename the column in the file, or the folder.",
    )


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


def _plain(column: pa.ChunkedArray) -> Column:
    """The column as one array, without a dictionary."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
