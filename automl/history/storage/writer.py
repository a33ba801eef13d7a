"""Rows written as parts while they are fetched; rows out of order are merged in at the end."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from automl.files import replacing
from automl.history.rows.names import UPDATED
from automl.history.storage.parts import Part, day_digests, in_order, plain, read_parts

__all__ = ["PART_ROWS", "PartWriter"]

PART_ROWS = 64_000  # about 1 % of 10 million rows is rewritten when one part changes
SPILL_ROWS = 500_000  # most rows out of order in memory
COMPRESSION = "zstd"


@dataclass(slots=True, kw_only=True)
class PartWriter:
    """Takes rows in any order and makes parts in time order; a thread writes while rows are fetched.

    Rows in order of days, as most sources return them, are written once. Rows of days that are already
    written wait, on disk if they are many, and are merged in at the end.
    """

    folder: Path
    schema: pa.Schema
    time: str
    key: tuple[str, ...]
    parts: list[Part] = field(default_factory=list)
    written: int = 0  # bytes of new files
    _pending: list[pa.Table] = field(default_factory=list)
    _deferred: list[pa.Table] = field(default_factory=list)
    _spilled: list[Path] = field(default_factory=list)
    _edge: np.datetime64 | None = None
    _jobs: list[Future[list[tuple[Part, int]]]] = field(default_factory=list)
    _pool: ThreadPoolExecutor | None = None
    _slots: Semaphore = field(default_factory=lambda: Semaphore(3))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.parts:  # a part may grow at its end only
            self._edge = _day(self.parts[-1].last) + np.timedelta64(1, "D")

    def add(self, table: pa.Table) -> None:
        """Take rows."""
        if not len(table):
            return
        days = _days(table[self.time])
        if self._edge is not None and days.min() < self._edge:
            early = days < self._edge
            self._defer(table.filter(pa.array(early)))
            table, days = table.filter(pa.array(~early)), days[~early]
            if not len(table):
                return
        self._pending.append(table)
        if sum(map(len, self._pending)) >= 2 * PART_ROWS:
            self._flush(last=False)

    def finish(self) -> list[Part]:
        """Write the remaining rows; returns all parts in time order."""
        self._flush(last=True)
        self._collect()
        if self._deferred or self._spilled:
            self._merge_deferred()
        for file in self._spilled:
            file.unlink(missing_ok=True)
        self.close()
        self.parts.sort(key=lambda p: p.first)
        return self.parts

    def close(self) -> None:
        """Stop the writing thread and remove temporary files."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        for file in self._spilled:
            file.unlink(missing_ok=True)

    def take_out(self, parts: Iterable[Part]) -> None:
        """Forget parts; the caller adds the rows that stay."""
        gone = {p.name for p in parts}
        self.parts = [p for p in self.parts if p.name not in gone]
        self._edge = _day(self.parts[-1].last) + np.timedelta64(1, "D") if self.parts else None

    def over(self, parts: Iterable[Part]) -> PartWriter:
        """A writer of the same rows that starts with `parts`."""
        return PartWriter(
            folder=self.folder, schema=self.schema, time=self.time, key=self.key, parts=list(parts)
        )

    # ------------------------------------------------------------ in order

    def _flush(self, *, last: bool) -> None:
        if not self._pending:
            return
        table = pa.concat_tables(self._pending)
        self._pending.clear()
        days = _days(table[self.time])
        newest = days.max()
        if not last:
            if days.min() == newest:  # one long day: it must end first
                self._pending.append(table)
                return
            stays = days == newest
            self._pending.append(table.filter(pa.array(stays)))
            table = table.filter(pa.array(~stays))
            self._edge = newest
        else:
            self._edge = newest + np.timedelta64(1, "D")
        self._submit(table)

    def _submit(self, table: pa.Table) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="parts")
        self._slots.acquire()
        job = self._pool.submit(self._write, table)
        job.add_done_callback(lambda _: self._slots.release())
        self._jobs.append(job)
        done = [j for j in self._jobs if j.done()]
        if any(j.exception() for j in done):
            self._collect()

    def _collect(self) -> None:
        for job in self._jobs:
            for part, size in job.result():
                self.parts.append(part)
                self.written += size
        self._jobs.clear()

    def _write(self, table: pa.Table) -> list[tuple[Part, int]]:
        ordered = in_order(table, self.time, self.key)
        days = _days(ordered[self.time])
        cuts = _cuts(days)
        return [self._write_part(ordered.slice(a, b - a), days[a:b]) for a, b in pairwise(cuts)]

    def _write_part(self, table: pa.Table, days: NDArray[np.datetime64]) -> tuple[Part, int]:
        table = table.combine_chunks()
        digests = day_digests(table, days)
        path = self.folder / f"{self._content_name(table, digests)}.parquet"
        size = 0
        if not path.exists():
            with replacing(path) as aside:
                pq.write_table(table, aside, compression=COMPRESSION, use_dictionary=_texts(table))
                size = aside.stat().st_size
        changed = pc.max(table[UPDATED]).as_py() if UPDATED in self.schema.names else None
        times = table[self.time]
        part = Part(
            name=path.stem,
            rows=len(table),
            size=size or path.stat().st_size,
            first=times[0].as_py().isoformat(),
            last=times[-1].as_py().isoformat(),
            days=digests,
            keys=self._key_range(table),
            changed=changed.isoformat() if changed else "",
            rising=self._rises(table),
        )
        return part, size

    def _content_name(self, table: pa.Table, digests: Mapping[str, str]) -> str:
        sha = hashlib.sha256(json.dumps(digests).encode())
        sha.update(str(self.schema).encode())
        if UPDATED in self.schema.names:
            sha.update(np.ascontiguousarray(plain(table[UPDATED])[0]).tobytes())
        return sha.hexdigest()[:24]

    def _key_range(self, table: pa.Table) -> tuple[Any, Any] | None:
        if not self.key:
            return None
        low, high = (v.as_py() for v in pc.min_max(table[self.key[0]]).values())
        return None if isinstance(low, datetime) else (low, high)

    def _rises(self, table: pa.Table) -> bool:
        if len(self.key) != 1 or not pa.types.is_integer(table[self.key[0]].type):
            return False
        return bool((np.diff(np.asarray(table[self.key[0]].to_numpy())) > 0).all())

    # ------------------------------------------------------------ out of order

    def _defer(self, table: pa.Table) -> None:
        self._deferred.append(table)
        if sum(map(len, self._deferred)) >= SPILL_ROWS:
            handle, name = tempfile.mkstemp(f".{os.getpid()}.tmp", "deferred-", dir=self.folder)
            os.close(handle)
            self._spilled.append(Path(name))
            # in time order, so that a span of days is found in few row groups
            ordered = pa.concat_tables(self._deferred).sort_by(self.time)
            pq.write_table(ordered, name, compression="lz4", row_group_size=PART_ROWS // 4)
            self._deferred.clear()

    def _deferred_rows(self, low: np.datetime64, high: np.datetime64) -> pa.Table:
        """Rows out of order of the days from `low` to before `high`."""
        tables = list(self._deferred)
        if self._spilled:
            start, end = (
                pa.scalar(d.astype("datetime64[us]").item(), pa.timestamp("us"))
                for d in (low, high)
            )
            time = ds.field(self.time)
            spilled = ds.dataset([str(f) for f in self._spilled], schema=self.schema)
            wanted = (time >= start) & (time < end)
            tables.append(spilled.to_table(filter=wanted, fragment_readahead=1, batch_readahead=2))
        table = pa.concat_tables([self.schema.empty_table(), *tables])
        days = _days(table[self.time])
        return table.filter(pa.array((days >= low) & (days < high)))

    def _merge_deferred(self) -> None:
        """Merge rows out of order into the parts of their days, a bounded number of rows at a time."""
        counts: dict[np.datetime64, int] = {}
        for table in [*self._deferred, *_tables(self._spilled, self.time)]:
            days, found = np.unique(_days(table[self.time]), return_counts=True)
            for day, count in zip(days, found, strict=True):
                counts[day] = counts.get(day, 0) + int(count)
        self._scatter(counts)
        self.parts.sort(key=lambda p: p.first)
        for low, high, touched in _groups(self.parts, counts):
            rows = pa.concat_tables(
                [read_parts(self.folder, touched, self.schema), self._deferred_rows(low, high)]
            )
            gone = {p.name for p in touched}
            self.parts = [p for p in self.parts if p.name not in gone]
            for part, size in self._write(rows):
                self.parts.append(part)
                self.written += size

    def _scatter(self, counts: dict[np.datetime64, int]) -> None:
        """Defer all rows of a part with too many rows out of order in its span: its source is shuffled."""
        for part in list(self.parts):
            low, high = _day(part.first), _day(part.last)
            if (
                sum(n for day, n in counts.items() if low <= day <= high) <= SPILL_ROWS
                or low == high
            ):
                continue
            table = read_parts(self.folder, [part], self.schema)
            for day, found in zip(
                *np.unique(_days(table[self.time]), return_counts=True), strict=True
            ):
                counts[day] = counts.get(day, 0) + int(found)
            self.parts = [p for p in self.parts if p != part]
            self._defer(table)


def _texts(table: pa.Table) -> list[str]:
    """Columns whose values repeat; a dictionary of measured numbers would only cost time."""
    return [f.name for f in table.schema if pa.types.is_string(f.type)]


def _days(times: pa.ChunkedArray) -> NDArray[np.datetime64]:
    return np.asarray(times.to_numpy()).astype("datetime64[D]")


def _day(iso: str) -> np.datetime64:
    return np.datetime64(iso, "D")


def _cuts(days: NDArray[np.datetime64]) -> list[int]:
    """Where to cut rows into parts: at the ends of days, about PART_ROWS apart."""
    ends = [*(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    cuts = [0]
    for end in ends:
        if end - cuts[-1] >= PART_ROWS or end == len(days):
            cuts.append(end)
    if len(cuts) > 2 and cuts[-1] - cuts[-2] < PART_ROWS // 4:  # no small last part
        del cuts[-2]
    return cuts


def _groups(
    parts: Sequence[Part], counts: Mapping[np.datetime64, int]
) -> Iterator[tuple[np.datetime64, np.datetime64, list[Part]]]:
    """Spans of days with rows out of order and the parts that they touch, each small enough for memory."""
    day = np.timedelta64(1, "D")
    cells = [(_day(p.first), _day(p.last) + day, p.rows, [p]) for p in parts]
    spans = [(start, end) for start, end, _, _ in cells]
    for first in sorted(counts):
        if not any(start <= first < end for start, end in spans):
            cells.append((first, first + day, 0, []))
    group: tuple[np.datetime64, np.datetime64, int, list[Part]] | None = None
    for start, end, rows, touched in sorted(cells, key=lambda c: c[0]):
        deferred_rows = sum(count for d, count in counts.items() if start <= d < end)
        if group and (not deferred_rows or group[2] >= SPILL_ROWS // 2):
            yield group[0], group[1], group[3]
            group = None
        if deferred_rows:
            before = group or (start, end, 0, [])
            total = before[2] + rows + deferred_rows
            group = (before[0], end, total, [*before[3], *touched])
    if group:
        yield group[0], group[1], group[3]


def _tables(files: Sequence[Path], time: str) -> Iterator[pa.Table]:
    for file in files:
        yield pq.read_table(file, columns=[time])
