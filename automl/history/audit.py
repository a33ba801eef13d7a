"""Compare windows of a history with the source: those that a pull touched, and one older in rotation.

A window that differs is pulled again. Rows that the source lost, and rows later than the overlap, are
handled as the problem file says; every repair is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from automl.errors import HistoryError
from automl.history.continuation import LastPull
from automl.history.increments import Tally, elsewhere, fetch
from automl.history.rows.layout import Layout
from automl.history.rows.local_time import utc_naive
from automl.history.rows.quarantine import key_text, keys_aside
from automl.history.rows.shaping import Shaper, Window
from automl.history.rows.versions import Delta, resolve
from automl.history.sources import Since, Source
from automl.history.storage.parts import (
    Part,
    day_after,
    identities,
    read_parts,
    remove_keys,
    stamps,
    utc_moment,
)
from automl.history.storage.upserts import Change, compared, place, upsert
from automl.history.storage.writer import PartWriter

__all__ = ["Audit"]

EARLIEST = datetime(2, 1, 1, tzinfo=UTC)  # earlier values are not times
TOUCHED = 8  # windows that a pull touched and compares with the source, newest first


class _Tile(NamedTuple):
    """A part and its window, which ends where the next part starts."""

    part: Part
    low: datetime
    high: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The comparison with the source that ends an incremental pull."""

    source: Source
    shaper: Shaper
    tally: Tally
    verify: bool  # compare every window, in full
    read_from: datetime  # rows from here on were all read just now, in the same transaction

    def parts(
        self, writer: PartWriter, last: LastPull, fresh: Delta, aside: list[pa.Table]
    ) -> list[Part]:
        """Parts after comparing windows with the source and repairing those that differ.

        Rows of a repaired window that do not fit replace the earlier ones in `aside`.

        Raises
        ------
        HistoryError
            Rows are gone or late, and the problem file refuses that.
        FullPullError
            So many rows differ that pulling everything costs less.
        """
        h = self.shaper.problem.history
        parts = writer.finish()
        self.tally.audited = last.record.audited
        if not h.source or not parts:
            return parts
        tiles = _tiles(parts, self.shaper.window)
        chosen = self._chosen(tiles, last)
        moved, later = elsewhere(self.shaper, fresh)
        suspect = remove_keys(writer.folder, parts, writer.schema, h.key, moved)
        wrong = [t for t in tiles if t.part in suspect]
        wrong += [t for t in chosen if t.part not in suspect and not self._agrees(writer, t, aside)]
        self.tally.counts["verified"] = len({*chosen, *wrong})
        if not wrong:
            return parts
        self.tally.counts["repaired"] = len(wrong)
        repair = writer.over(parts)
        try:
            self._repair(repair, wrong, (moved, later), aside)
            repaired = repair.finish()
            writer.written += repair.written
            return repaired
        finally:
            repair.close()

    def _chosen(self, tiles: list[_Tile], last: LastPull) -> list[_Tile]:
        """Windows to compare: all, or those that the pull touched and the next one in rotation."""
        if self.verify:
            return tiles
        rotation = ([t for t in tiles if t.part.first >= last.record.audited] or tiles)[:1]
        self.tally.audited = f"{rotation[0].high:%Y-%m-%d}"
        names = {p.name for p in last.parts}
        touched = [t for t in tiles if t.part.name not in names and t.high <= self.read_from]
        return list(dict.fromkeys([*touched[-TOUCHED:], *rotation]))

    def _agrees(self, writer: PartWriter, tile: _Tile, aside: Sequence[pa.Table]) -> bool:
        """Whether the source has the part's keys in its window, with equal time, label and change.

        Rows that this pull has read are not compared again.
        """
        layout = self.shaper.layout
        assert layout is not None
        h = self.shaper.problem.history
        if not self.verify and self.read_from < tile.high:
            if self.read_from <= tile.low:
                return True
            tile = tile._replace(high=self.read_from)
        layout = replace(layout, kinds={n: layout.kinds[n] for n in (*h.key, h.time, h.target)})
        counter = self._shaper(tile, layout)
        wanted = [n for n in (*layout.names, h.updated_at, h.label_time) if n]
        chunks = self.source.chunks(list(dict.fromkeys(wanted)), Since(tile.low, None, tile.high))
        rows = [r for r in map(counter.shape, chunks) if r is not None and r.kept.column_names]
        without = [r.unlabelled for r in rows if len(r.unlabelled)]
        offered = resolve(counter.problem, counter, [r.kept for r in rows], without, []).rows
        stored = pq.read_table(tile.part.path(writer.folder), columns=offered.column_names)
        if not self.verify:
            inside = stamps(stored[h.time]) < np.datetime64(utc_naive(tile.high), "us")
            stored = stored.filter(pa.array(inside))
        missing, extra, same = compared(stored, offered, h.key)
        # an older version of a row that changed after as_of may be stored
        later = counter.dropped["updated_after_as_of"]
        if later and self.verify:
            return False
        explained = keys_aside(aside)
        keys = offered.filter(pa.array(missing)).select(list(h.key)).to_pylist()
        return same and extra <= later and all(key_text(k) in explained for k in keys)

    def _shaper(self, tile: _Tile, layout: Layout | None) -> Shaper:
        """A shaper for the rows of a window that belong to this history."""
        since, until, known_before = self.shaper.window
        low = tile.low if since is None else max(tile.low, since)
        inside = Window(low, min(tile.high, until), known_before)
        return Shaper(self.shaper.problem, inside, self.shaper.names, layout=layout)

    def _repair(
        self,
        writer: PartWriter,
        wrong: Sequence[_Tile],
        moves: tuple[pa.Table, np.ndarray],
        aside: list[pa.Table],
    ) -> None:
        """Pull windows again; rows that the source no longer has follow `history.deleted`."""
        h = self.shaper.problem.history
        key = list(h.key)
        windows = [(self._shaper(t, self.shaper.layout), Since(t.low, None, t.high)) for t in wrong]
        refused: list[pa.Table] = []
        fresh = fetch(self.source, windows, refused, self.tally)
        aside[:] = [*(_outside(table, wrong) for table in aside), *refused]
        before = read_parts(writer.folder, [t.part for t in wrong], writer.schema)
        stored = identities(before, key)
        gone = ~np.isin(stored, identities(fresh.keys, key))
        moved = np.isin(stored, _ids(moves[0], key))
        lost = gone & ~moved & ~np.isin(stored, moves[1])
        if lost.any():
            self._lost(before.filter(pa.array(lost)))
        leaving = gone & moved if h.deleted == "keep" else (gone & moved) | lost
        left = before.filter(pa.array(leaving)).select(key)
        keys = pa.concat_tables([fresh.keys, left], promote_options="default")
        found = upsert(writer, Change(fresh.rows, keys))
        if found.new.any():
            self._late(found.rows.filter(pa.array(found.new)))
        self.tally.counts["updated"] += found.updated
        self.tally.counts["deleted"] += found.removed
        place(writer, found)

    def _lost(self, rows: pa.Table) -> None:
        h = self.shaper.problem.history
        text = f"{len(rows)} rows of {_day_range(rows[h.time])} are gone from the source"
        if h.deleted == "refuse":
            raise HistoryError(
                f"history: {text}",
                code="rows_deleted",
                next_step='Restore them, or set history.deleted = "drop" or "keep".',
            )
        self.tally.warnings.append(f"{text} ({h.deleted})")

    def _late(self, rows: pa.Table) -> None:
        h = self.shaper.problem.history
        text = f"{len(rows)} rows of {_day_range(rows[h.time])} came later than the overlap"
        if h.late == "refuse":
            raise HistoryError(
                f"history: {text}",
                code="late_rows",
                next_step='Raise history.overlap, or set history.late = "take".',
            )
        self.tally.counts["new"] += len(rows)
        self.tally.counts["late"] += len(rows)
        self.tally.warnings.append(f"{text}; their window was pulled again")


def _tiles(parts: Sequence[Part], window: Window) -> list[_Tile]:
    """All time up to the window's end, divided where parts start."""
    starts = [utc_moment(p.first[:10]) for p in parts]
    lows = [window.since or EARLIEST, *starts[1:]]
    highs = [*starts[1:], max(window.until, day_after(parts[-1].last))]
    return [_Tile(*tile) for tile in zip(parts, lows, highs, strict=True)]


def _outside(aside: pa.Table, tiles: Sequence[_Tile]) -> pa.Table:
    """Rows set aside with a time outside all windows."""
    if not aside.column_names or not len(aside):
        return aside
    times = aside["time"].to_pandas()
    keep = np.ones(len(aside), dtype=bool)
    for tile in tiles:
        low, high = utc_naive(tile.low), utc_naive(tile.high)
        keep &= ~((times >= low) & (times < high)).to_numpy(bool)
    return aside.filter(pa.array(keep))


def _ids(table: pa.Table, key: Sequence[str]) -> np.ndarray:
    return identities(table, key) if len(table) else np.array([], dtype="int64")


def _day_range(times: pa.ChunkedArray) -> str:
    days = np.asarray(times.to_numpy()).astype("datetime64[D]")
    low, high = days.min(), days.max()
    return f"{low}" if low == high else f"{low} to {high}"
