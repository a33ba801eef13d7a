"""Shape the chunks of one pull into rows that may be used: known at as_of, of known kinds, or set aside.

One chunk at a time. Cells of a row that is not yet known are never read, a row that does not fit is
quarantined with its reason, and each row is shaped independently of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from automl.history.rows.casting import Cast, as_kind, as_times
from automl.history.rows.gaps import find_gaps, without_texts
from automl.history.rows.kinds import Column, ColumnKind, objects
from automl.history.rows.layout import Chunk, Layout, Widen, infer_layout
from automl.history.rows.local_time import utc_naive
from automl.history.rows.names import UPDATED, placeholder_times, refuse_type
from automl.history.rows.personal import hashed
from automl.history.rows.quarantine import REASON, Reason, Refused, refused_table, untimed_table
from automl.problem import Problem

__all__ = ["Rows", "Shaper", "Window"]


class Window(NamedTuple):
    """Which rows of a source are used: `since <= time < until`, known before `known_before`."""

    since: datetime | None
    until: datetime
    known_before: datetime


class Rows(NamedTuple):
    """A chunk, sorted: rows to keep, keys whose label was withdrawn, rows set aside."""

    kept: pa.Table
    unlabelled: pa.Table  # key columns only
    aside: pa.Table  # reason, key, time and content as text


@dataclass(slots=True)
class Shaper:
    """Shapes chunks of one pull; counts what was left out and why."""

    problem: Problem
    window: Window
    names: Sequence[str]  # all columns of the source
    _: KW_ONLY
    batch: bool = False
    loose: bool = False  # the source returns only texts
    layout: Layout | None = None
    every: bool = False  # also nearly unique texts
    dropped: Counter[str] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    # (why, column) -> cells
    corrections: Counter[tuple[str, str]] = field(default_factory=Counter)
    # column -> texts that a first pull found to mean a gap
    gaps: dict[str, set[str]] = field(default_factory=dict)
    seen: int = 0
    taken: int = 0  # rows that may be used
    span: tuple[pd.Timestamp, pd.Timestamp] | None = None

    def shape(self, chunk: Chunk) -> Rows | None:
        """Rows of a chunk that may be used; None if none of its rows is known yet.

        Raises
        ------
        Widen
            At a first pull: a column turned out to be text, so the pull must start again.
        """
        h = self.problem.history
        self.seen += len(chunk[h.time])
        aside: list[pa.Table] = []
        chunk, times = self._known(chunk, aside)
        if len(times) == 0:
            return Rows(_no_rows(), _no_rows(), _joined(aside)) if aside else None
        if self.layout is None:
            self.layout = infer_layout(
                self.problem, chunk, self.names, loose=self.loose, every=self.every
            )
        cells, bad, updated = self._cast(chunk, times)
        if bad.any():
            keep = ~bad
            chunk = {name: _filter(column, keep) for name, column in chunk.items()}
            refused = {n: _filter(c, bad) for n, c in cells.items()}
            aside.append(refused_table(self.problem, refused))
            cells = {n: _filter(c, keep) for n, c in cells.items() if n != REASON}
        cells.pop(REASON, None)
        fields = list(self.layout.schema(updated=updated))
        table = pa.table([cells[f.name] for f in fields], schema=pa.schema(fields))
        unlabelled = _no_rows()
        if not self.batch:
            labelled = table[h.target].is_valid()
            missing = len(table) - int(pc.sum(labelled).as_py() or 0)
            if missing:
                self.dropped["no_label"] += missing
                names = list(dict.fromkeys([*h.key, *([UPDATED] if updated else [])]))
                unlabelled = table.filter(pc.invert(labelled)).select(names)
                table = table.filter(labelled)
        self.taken += len(table)
        return Rows(table, unlabelled, _joined(aside))

    def widened(self, name: str) -> Shaper:
        """A shaper for the same pull, from its beginning, that reads the column as text."""
        assert self.layout is not None
        kinds: dict[str, ColumnKind] = {**self.layout.kinds, name: "text"}
        return self.start(replace(self.layout, kinds=kinds))

    def start(self, layout: Layout | None) -> Shaper:
        """A shaper for the same pull, from its beginning, with another layout."""
        return Shaper(
            self.problem,
            self.window,
            self.names,
            batch=self.batch,
            loose=self.loose,
            layout=layout,
            every=self.every,
        )

    # ------------------------------------------------------------ rows that may be known

    def _known(self, chunk: Chunk, aside: list[pa.Table]) -> tuple[Chunk, pa.Array]:
        """The chunk without rows that lie outside the window or could not be known yet."""
        h = self.problem.history
        times = as_times(chunk[h.time], h.timezone)
        stamps = _stamps(times.cells)
        empty = _mask(times.cells.is_null()) & ~times.bad
        placeholder = placeholder_times(stamps, h.timezone)
        unreadable = times.bad | empty | placeholder
        if unreadable.any():
            self._untimed(
                chunk,
                {
                    Reason("bad_time", h.time, times.detail or "cannot be read"): times.bad,
                    Reason("bad_time", h.time, "found 1970-01-01 00:00 or the year 1"): placeholder,
                    Reason("null_time", h.time): empty,
                },
                aside,
            )
        if len(stamps) and not unreadable.all():
            low, high = stamps[~unreadable].min(), stamps[~unreadable].max()
            span = self.span or (pd.Timestamp(low), pd.Timestamp(high))
            self.span = (min(span[0], pd.Timestamp(low)), max(span[1], pd.Timestamp(high)))
        keep = ~unreadable
        for name, mask in self._too_late(stamps):
            self.dropped[name] += int((mask & keep).sum())
            keep &= ~mask
        # from here on no cell of a later row is read
        chunk = {name: _filter(column, keep) for name, column in chunk.items()}
        cells = _filter(times.cells, keep)
        for name, mask in self._unknown(chunk, _stamps(cells)):
            self.dropped[name] += int(mask.sum())
            chunk = {n: _filter(column, ~mask) for n, column in chunk.items()}
            cells = _filter(cells, ~mask)
        if times.corrections:  # counted again, without the rows that are left out
            self._count(h.time, as_times(chunk[h.time], h.timezone))
        return chunk, cells

    def _too_late(self, stamps: NDArray[np.datetime64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        since, until, as_of = self._limits()
        if self.batch:
            early = stamps < since if since is not None else np.zeros(len(stamps), dtype=bool)
            yield "outside", early | (stamps >= until)
        else:
            yield "not_before_as_of", stamps >= as_of

    def _unknown(
        self, chunk: Chunk, stamps: NDArray[np.datetime64]
    ) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Masks of rows to leave out; each is made after the rows of the mask before are gone."""
        h = self.problem.history
        since, until, as_of = self._limits()
        left = np.ones(len(stamps), dtype=bool)
        if not self.batch:
            immature = stamps >= until
            if h.label_time:
                known_at = _stamps(as_times(chunk[h.label_time], h.timezone).cells)
                immature = immature | ~(known_at < as_of)  # without a time the label is unknown
            yield "label_not_known_yet", immature
            left &= ~immature
            if since is not None:
                old = stamps < since
                yield "older_than_keep", old[left]
                left &= ~old
        if h.updated_at and h.updated_at in chunk:
            changed = _stamps(as_times(_filter(chunk[h.updated_at], left), h.timezone).cells)
            yield "updated_after_as_of", changed >= as_of

    def _limits(self) -> tuple[np.datetime64 | None, np.datetime64, np.datetime64]:
        window = self.window
        since = None if window.since is None else np.datetime64(utc_naive(window.since), "us")
        until = np.datetime64(utc_naive(window.until), "us")
        return since, until, np.datetime64(utc_naive(window.known_before), "us")

    # ------------------------------------------------------------ kinds

    def _cast(
        self, chunk: Chunk, times: pa.Array
    ) -> tuple[dict[str, pa.Array], NDArray[np.bool_], bool]:
        assert self.layout is not None
        h = self.problem.history
        refused = Refused(np.zeros(len(times), dtype=bool), self.reasons)
        cells: dict[str, pa.Array] = {
            name: times if name == h.time else self._cast_one(name, chunk[name], refused)
            for name in self.layout.names
        }
        updated = bool(h.updated_at) and h.updated_at in chunk
        if updated:
            changes = as_times(chunk[h.updated_at], h.timezone)
            if h.updated_at not in cells:
                self._count(h.updated_at, changes)
            cells[UPDATED] = changes.cells
        if refused.bad.any():
            cells[REASON] = refused.column()
        return cells, refused.bad, updated

    def _cast_one(self, name: str, column: Column, refused: Refused) -> pa.Array:
        assert self.layout is not None
        h, kind = self.problem.history, self.layout.kinds[name]
        refuse_type(name, column)
        column = self._without_nulls(name, column, kind)
        if name == h.target and kind == "number":
            refused.add(_infinite(column), Reason("infinite_target", name))
        cast = as_kind(column, kind, h.timezone)
        if cast.bad.any():
            if self._may_widen(name, kind):
                raise Widen(name)
            detail = cast.detail or f"values that are not of kind {kind}"
            refused.add(cast.bad, Reason("kind_changed", name, detail))
        if name != h.target:
            self._count(name, cast)
        if name not in h.key:
            return cast.cells
        refused.add(_mask(cast.cells.is_null()) & ~cast.bad, Reason("null_key", name))
        return hashed(cast.cells) if name in h.personal else cast.cells

    def _count(self, name: str, cast: Cast) -> None:
        self.corrections.update({(why, name): count for why, count in cast.corrections})

    def _may_widen(self, name: str, kind: ColumnKind) -> bool:
        """Whether a cell that does not fit shows that the column is text."""
        h = self.problem.history
        if not (self.layout and self.layout.inferring) or kind == "text":
            return False
        return kind == "whole" if name == h.target else name not in (h.weight, h.label_time)

    def _without_nulls(self, name: str, column: Column, kind: ColumnKind) -> Column:
        """The cells; texts that mean a gap become missing, by the contract or as a first pull finds them."""
        assert self.layout is not None
        h = self.problem.history
        known = {text for text in self.layout.nulls if text} | {*self.layout.gaps.get(name, ())}
        column = without_texts(column, known)
        if not self.layout.inferring or kind == "text" or name in (*h.key, *h.group):
            return column
        gaps = find_gaps(column)
        if gaps.any():
            found = {str(text) for text in objects(_filter(column, gaps)).unique()}
            self.gaps.setdefault(name, set()).update(found)
            self.corrections["gap_text", name] += int(gaps.sum())
            column = without_texts(column, found)
        return column

    # ------------------------------------------------------------ quarantine

    def _untimed(
        self, chunk: Chunk, masks: Mapping[Reason, NDArray[np.bool_]], aside: list[pa.Table]
    ) -> None:
        """Set aside rows without a usable time; in a batch read from the history query, drop them."""
        for reason, mask in masks.items():
            if mask.any() and self.batch and not self.problem.batch.query:
                self.dropped["without_time"] += int(mask.sum())
            elif mask.any():
                self.reasons[reason] += int(mask.sum())
                h = self.problem.history
                named = [n for n in dict.fromkeys([*h.key, h.time]) if n in chunk]
                rows = {n: _filter(chunk[n], mask) for n in named}
                aside.append(untimed_table(self.problem, reason, rows))


def _infinite(column: Column) -> NDArray[np.bool_]:
    values = objects(column)
    numbers = (
        pd.to_numeric(values, errors="coerce")
        if not pd.api.types.is_float_dtype(values)
        else values
    )
    return np.isinf(np.asarray(numbers.astype("Float64").to_numpy("float64", na_value=np.nan)))


def _filter(column: Column, mask: NDArray[np.bool_]) -> Column:
    if mask.all():
        return column
    if isinstance(column, pa.Array):
        return column.filter(pa.array(mask))
    return column[mask].reset_index(drop=True)


def _mask(array: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=bool)


def _stamps(times: pa.Array) -> NDArray[np.datetime64]:
    return np.asarray(times.to_numpy(zero_copy_only=False)).astype("datetime64[us]")


def _no_rows() -> pa.Table:
    return pa.table({})


def _joined(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables) if tables else _no_rows()
