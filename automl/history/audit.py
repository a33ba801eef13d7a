"""Windows of a history, compared with the source: those a pull touched, and an older one in turn.

A window that differs is pulled again. What its source lost, and what came later than the overlap, follows
the policies of the problem file; nothing is repaired without being counted.
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
from automl.history.increments import Tally, elsewhere, fetch
from automl.history.rows.casting import utc_naive
from automl.history.rows.quarantine import key_text, keys_aside
from automl.history.rows.shaping import Layout, Shaper, Window
from automl.history.rows.versions import Delta, resolve
from automl.history.sources.base import Since, Source
from automl.history.storage.parts import (
    Part,
    day_after,
    identities,
    read_parts,
    remove_keys,
)
from automl.history.storage.snapshots import Pull
from automl.history.storage.upserts import compared, place, upsert
from automl.history.storage.writer import PartWriter

__all__ = ["Audit"]

EARLIEST = datetime(2, 1, 1, tzinfo=UTC)  # times before it are no times
TOUCHED = 8  # windows that a pull touched and compares with the source, newest first


class _Tile(NamedTuple):
    """A part and the window that it stands for, up to where the next one starts."""

    part: Part
    low: datetime
    high: datetime


@dataclass(frozen=True, slots=True)
class Audit:
    """The comparison that ends one pull of what is new."""

    source: Source
    shaper: Shaper
    tally: Tally
    verify: bool  # every window, whole
    read_from: datetime  # rows from here on were all read just now, in the same transaction

    def parts(
        self,
        writer: PartWriter,
        last: Pull,
        held: Sequence[Part],
        fresh: Delta,
        aside: list[pa.Table],
    ) -> list[Part]:
        """Parts after comparing windows with the source: those touched, and an older one in turn.

        `held` are the parts of the last pull. Rows that are set aside anew replace theirs in `aside`.

        Raises
        ------
        HistoryError
            Rows are gone or late, and the problem file refuses that.
        AnewError
            More rows differ than are worth repairing.
        """
        h = self.shaper.problem.history
        parts = writer.finish()
        self.tally.audited = last.audited
        if not h.source or not parts:
            return parts
        names = {p.name for p in held}
        tiles = _tiles(parts, self.shaper.window)
        if self.verify:
            chosen = tiles
        else:
            turn = ([t for t in tiles if t.part.first >= last.audited] or tiles)[:1]
            self.tally.audited = f"{turn[0].high:%Y-%m-%d}"
            touched = [t for t in tiles if t.part.name not in names and t.high <= self.read_from]
            chosen = list(dict.fromkeys([*touched[-TOUCHED:], *turn]))
        moved, later = elsewhere(self.shaper, fresh)
        suspect = remove_keys(writer.folder, parts, writer.schema, h.key, moved)
        wrong = [t for t in tiles if t.part in suspect]
        wrong += [t for t in chosen if t.part not in suspect and not self._agrees(writer, t, aside)]
        self.tally.counts["verified"] = len({*chosen, *wrong})
        if not wrong:
            return parts
        self.tally.counts["repaired"] = len(wrong)
        repair = PartWriter(writer.folder, writer.schema, writer.time, writer.key, parts=parts)
        try:
            self._repair(repair, wrong, (moved, later), aside)
            repaired = repair.finish()
            writer.written += repair.written
            return repaired
        finally:
            repair.close()

    def _agrees(self, writer: PartWriter, tile: _Tile, aside: Sequence[pa.Table]) -> bool:
        """Whether the source has the part's keys in its window, with the same time, label and change.

        Rows that were read just now are not compared again.
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
        there = resolve(counter.problem, counter, [r.kept for r in rows], without, []).rows
        held = pq.read_table(tile.part.path(writer.folder), columns=there.column_names)
        if not self.verify:
            times = np.asarray(held[h.time].to_numpy()).astype("datetime64[us]")
            held = held.filter(pa.array(times < np.datetime64(utc_naive(tile.high), "us")))
        missing, extra, same = compared(held, there, h.key)
        # of a row that changed after as_of an older version may be held
        later = counter.dropped["updated_after_as_of"]
        if later and self.verify:
            return False
        known = keys_aside(aside)
        told = [
            key_text(k) in known
            for k in there.filter(pa.array(missing)).select(list(h.key)).to_pylist()
        ]
        return same and extra <= later and all(told)

    def _shaper(self, tile: _Tile, layout: Layout | None) -> Shaper:
        """Shapes the rows of a window, as far as they belong to this history."""
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
        """Pull windows again; what the source no longer has follows `history.deleted`."""
        h = self.shaper.problem.history
        key = list(h.key)
        asked = [(self._shaper(t, self.shaper.layout), Since(t.low, None, t.high)) for t in wrong]
        again: list[pa.Table] = []
        fresh = fetch(self.source, asked, again, self.tally)
        aside[:] = [*(_outside(table, wrong) for table in aside), *again]
        before = read_parts(writer.folder, [t.part for t in wrong], writer.schema)
        held = identities(before, key)
        gone = ~np.isin(held, identities(fresh.keys, key))
        moved = np.isin(held, _ids(moves[0], key))
        lost = gone & ~moved & ~np.isin(held, moves[1])
        if lost.any():
            self._lost(before.filter(pa.array(lost)))
        goes = gone & moved if h.deleted == "keep" else (gone & moved) | lost
        leave = before.filter(pa.array(goes)).select(key)
        spoken = pa.concat_tables([fresh.keys, leave], promote_options="default")
        found = upsert(
            writer.folder,
            writer.parts,
            writer.schema,
            (h.time, h.key),
            (fresh.rows, spoken),
            None,
        )
        if found.new.any():
            self._late(found.rows.filter(pa.array(found.new)))
        self.tally.counts["updated"] += found.updated
        self.tally.counts["deleted"] += found.removed
        place(writer, found)

    def _lost(self, rows: pa.Table) -> None:
        h = self.shaper.problem.history
        told = f"{len(rows)} rows of {_days_told(rows[h.time])} are gone from the source"
        if h.deleted == "refuse":
            raise HistoryError(
                f"history: {told}",
                code="rows_deleted",
                next_step='Bring them back, or set history.deleted = "drop" or "keep".',
            )
        self.tally.warnings.append(f"{told} ({h.deleted})")

    def _late(self, rows: pa.Table) -> None:
        h = self.shaper.problem.history
        told = f"{len(rows)} rows of {_days_told(rows[h.time])} came later than the overlap"
        if h.late == "refuse":
            raise HistoryError(
                f"history: {told}",
                code="late_rows",
                next_step='Raise history.overlap, or set history.late = "take".',
            )
        self.tally.counts["new"] += len(rows)
        self.tally.counts["late"] += len(rows)
        self.tally.warnings.append(f"{told}; their window was pulled again")


def _tiles(parts: Sequence[Part], window: Window) -> list[_Tile]:
    """All time up to the window's end, cut where parts start."""
    midnight = {"hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    starts = [datetime.fromisoformat(p.first).replace(tzinfo=UTC, **midnight) for p in parts]  # type: ignore[arg-type]
    lows = [window.since or EARLIEST, *starts[1:]]
    highs = [*starts[1:], max(window.until, day_after(parts[-1].last))]
    return [_Tile(*told) for told in zip(parts, lows, highs, strict=True)]


def _outside(aside: pa.Table, tiles: Sequence[_Tile]) -> pa.Table:
    """Rows set aside whose time lies in none of the windows."""
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


def _days_told(times: pa.ChunkedArray) -> str:
    days = np.asarray(times.to_numpy()).astype("datetime64[D]")
    low, high = days.min(), days.max()
    return f"{low}" if low == high else f"{low} to {high}"
