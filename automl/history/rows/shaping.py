"""From what a source says to rows that may be learned from: known at as_of, of declared kinds, or set aside.

One chunk at a time. A row that cannot be known yet is never looked at, a row that does not fit is
quarantined with its reason, and nothing about a row depends on the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from automl.errors import ContractError, HistoryError
from automl.history.rows.casting import (
    ARROW,
    Cast,
    Column,
    Kind,
    Kinds,
    as_kind,
    as_times,
    infer_key,
    infer_kind,
    infer_label,
    learning_only,
    objects,
    unread,
    utc_naive,
)
from automl.history.rows.names import UPDATED, no_moment, refuse_type
from automl.history.rows.personal import hashed
from automl.history.rows.quarantine import REASON, Reason, Refused, refused_table, untimed_table
from automl.problem import Problem

__all__ = [
    "UPDATED",
    "Chunk",
    "Layout",
    "Rows",
    "Shaper",
    "Widen",
    "Window",
    "leave_out",
    "refuse_vanished",
]

Chunk = dict[str, Column]
MOST_DISTINCT = 0.5  # share of rows above which a text is an id or free text, not a category


class Window(NamedTuple):
    """Which rows of a source are looked at: `since <= time < until`, known before `known_before`."""

    since: datetime | None
    until: datetime
    known_before: datetime


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that are kept and their kinds.

    `inferring` is set at the first pull alone: kinds may still widen to text. `unused` says why an
    offered column is left out.
    """

    kinds: dict[str, Kind]
    nulls: tuple[str, ...] = ()
    inferring: bool = False
    unused: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Kept columns, in name order."""
        return sorted(self.kinds)

    def schema(self, *, updated: bool) -> pa.Schema:
        """The Arrow schema of kept rows."""
        fields = [pa.field(name, ARROW[self.kinds[name]]) for name in self.names]
        return pa.schema(fields + ([pa.field(UPDATED, ARROW["time"])] if updated else []))


class Widen(Exception):  # noqa: N818  not an error: the pull starts again with these kinds
    """A later chunk of the first pull shows that a column is text."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Rows(NamedTuple):
    """A chunk, sorted out: rows to keep, keys that must go, rows set aside."""

    kept: pa.Table
    unlabelled: pa.Table  # key columns alone
    aside: pa.Table  # reason, key, time and content as text


@dataclass(slots=True)
class Shaper:
    """Shapes chunks of one pull; counts what was left out and why."""

    problem: Problem
    window: Window
    names: Sequence[str]  # all that the source offers
    batch: bool = False
    loose: bool = False  # the source writes everything as text
    layout: Layout | None = None
    every: bool = False  # also columns that no feature should be made of
    dropped: Counter[str] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    mended: Counter[tuple[str, str]] = field(default_factory=Counter)  # (why, column) -> cells
    seen: int = 0
    taken: int = 0  # rows that may be used
    span: tuple[pd.Timestamp, pd.Timestamp] | None = None

    def shape(self, chunk: Chunk) -> Rows | None:
        """Rows of a chunk that may be used; None when nothing of it may be known.

        Raises
        ------
        Widen
            At a first pull: a column turned out to be text, start again.
        """
        h = self.problem.history
        self.seen += len(chunk[h.time])
        aside: list[pa.Table] = []
        chunk, times = self._known(chunk, aside)
        if len(times) == 0:
            return Rows(_no_rows(), _no_rows(), _joined(aside)) if aside else None
        if self.layout is None:
            self.layout = self._infer(chunk)
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
        """A shaper for the same pull, from its beginning, that takes the column for text."""
        assert self.layout is not None
        kinds: dict[str, Kind] = {**self.layout.kinds, name: "text"}
        return self.start(replace(self.layout, kinds=kinds))

    def start(self, layout: Layout | None) -> Shaper:
        """A shaper for the same pull, from its beginning, with another layout."""
        return Shaper(
            self.problem, self.window, self.names, self.batch, self.loose, layout, every=self.every
        )

    # ------------------------------------------------------------ rows that may be known

    def _known(self, chunk: Chunk, aside: list[pa.Table]) -> tuple[Chunk, pa.Array]:
        """The chunk without rows that lie outside the window or could not be known yet."""
        h = self.problem.history
        times = as_times(chunk[h.time], h.timezone)
        stamps = _stamps(times.cells)
        empty = _mask(times.cells.is_null()) & ~times.bad
        standing = no_moment(stamps, h.timezone)
        unreadable = times.bad | empty | standing
        if unreadable.any():
            self._untimed(
                chunk,
                {
                    Reason("bad_time", h.time, times.detail or "cannot be read"): times.bad,
                    Reason("bad_time", h.time, "found 1970-01-01 00:00 or the year 1"): standing,
                    Reason("null_time", h.time): empty,
                },
                aside,
            )
        if len(stamps) and not unreadable.all():
            low, high = stamps[~unreadable].min(), stamps[~unreadable].max()
            told = self.span or (pd.Timestamp(low), pd.Timestamp(high))
            self.span = (min(told[0], pd.Timestamp(low)), max(told[1], pd.Timestamp(high)))
        keep = ~unreadable
        for name, mask in self._too_late(stamps):
            self.dropped[name] += int((mask & keep).sum())
            keep &= ~mask
        # from here on no cell of a later row is looked at
        chunk = {name: _filter(column, keep) for name, column in chunk.items()}
        known = _filter(times.cells, keep)
        for name, mask in self._unknown(chunk, _stamps(known)):
            self.dropped[name] += int(mask.sum())
            chunk = {n: _filter(column, ~mask) for n, column in chunk.items()}
            known = _filter(known, ~mask)
        if times.mended:  # counted again, without the rows that are left out
            self._count(h.time, as_times(chunk[h.time], h.timezone))
        return chunk, known

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
                immature = immature | ~(known_at < as_of)  # without a time it is not known
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

    def _infer(self, chunk: Chunk) -> Layout:
        """Kinds from the first rows that may be known; a later contradiction widens them."""
        h = self.problem.history
        kinds: dict[str, Kind] = {}
        unused: dict[str, str] = {}
        left_out = unread(self.problem) | (
            {h.updated_at} - {h.target, h.time, h.label_time, *h.key}
        )
        for name in self.names:
            if name in left_out or name not in chunk:
                continue
            column = chunk[name]
            refuse_type(name, column)
            if name in h.key and name != h.time:
                kinds[name] = "text" if name in h.personal else infer_key(column, loose=self.loose)
            elif name in (h.time, h.label_time):
                kinds[name] = "time"
            elif name == h.weight:
                kinds[name] = "number"
            elif name == h.target:
                kinds[name] = (
                    "number" if _is_number_target(self.problem, column) else infer_label(column)
                )
            else:
                kinds[name] = infer_kind(column)
                roles = {*h.group, *self.problem.metric.slices}
                hidden = not self.every and name not in roles
                if hidden and kinds[name] == "text" and _nearly_unique(column):
                    unused[name] = "nearly unique text"
                    del kinds[name]
        return Layout(kinds, inferring=True, unused=unused)

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

    def _cast_one(self, name: str, given: Column, refused: Refused) -> pa.Array:
        assert self.layout is not None
        h, kind = self.problem.history, self.layout.kinds[name]
        refuse_type(name, given)
        column = self._without_nulls(given)
        if name == h.target and kind == "number":
            refused.add(_infinite(column), Reason("infinite_target", name))
        cast = as_kind(column, kind, h.timezone)
        if cast.bad.any():
            if self._may_widen(name, kind):
                raise Widen(name)
            detail = cast.detail or f"values that are no {kind}"
            refused.add(cast.bad, Reason("kind_changed", name, detail))
        if name != h.target:
            self._count(name, cast)
        if name not in h.key:
            return cast.cells
        refused.add(_mask(cast.cells.is_null()) & ~cast.bad, Reason("null_key", name))
        return hashed(cast.cells) if name in h.personal else cast.cells

    def _count(self, name: str, cast: Cast) -> None:
        self.mended.update({(why, name): count for why, count in cast.mended})

    def _may_widen(self, name: str, kind: Kind) -> bool:
        """Whether a cell that does not fit says that the column is text."""
        h = self.problem.history
        if not (self.layout and self.layout.inferring) or kind == "text":
            return False
        return kind == "whole" if name == h.target else name not in (h.weight, h.label_time)

    def _without_nulls(self, column: Column) -> Column:
        """The cells, without those that the contract declares to mean nothing."""
        assert self.layout is not None
        nulls = [token for token in self.layout.nulls if token]
        if not nulls:
            return column
        if isinstance(column, pa.Array):
            if pa.types.is_string(column.type):
                return pc.if_else(pc.is_in(column, pa.array(nulls)), None, column)
            return column
        return column.where(~column.isin(nulls), None)

    # ------------------------------------------------------------ quarantine

    def _untimed(
        self, chunk: Chunk, masks: Mapping[Reason, NDArray[np.bool_]], aside: list[pa.Table]
    ) -> None:
        """Rows without a usable time; of a whole history asked for a batch they are none of its rows."""
        for reason, mask in masks.items():
            if mask.any() and self.batch and not self.problem.batch.query:
                self.dropped["without_time"] += int(mask.sum())
            elif mask.any():
                self.reasons[reason] += int(mask.sum())
                h = self.problem.history
                named = [n for n in dict.fromkeys([*h.key, h.time]) if n in chunk]
                rows = {n: _filter(chunk[n], mask) for n in named}
                aside.append(untimed_table(self.problem, reason, rows))


def refuse_vanished(layout_kinds: Kinds, names: Sequence[str]) -> None:
    """Raise HistoryError if a declared column is not offered any more; names the likely new name."""
    from difflib import get_close_matches  # noqa: PLC0415

    missing = [name for name in layout_kinds if name not in names]
    if not missing:
        return
    fresh = [n for n in names if n not in layout_kinds]
    hints = [(n, get_close_matches(n, fresh, n=1, cutoff=0.6)) for n in missing]
    renamed = "".join(f". Was {old!r} renamed to {new[0]!r}?" for old, new in hints if new)
    raise HistoryError(
        f"column {', '.join(map(repr, missing))} vanished; found {', '.join(names)}{renamed}",
        code="missing_column",
        next_step="Bring the column back, or take the change: automl contract FILE --accept",
    )


def _is_number_target(problem: Problem, column: Column) -> bool:
    return problem.task == "regression" and infer_kind(column) == "number"


def _nearly_unique(column: Column) -> bool:
    count = len(column)
    distinct = (
        pc.count_distinct(column).as_py()
        if isinstance(column, pa.Array)
        else column.astype("str").nunique()
    )
    return bool(distinct > max(100, MOST_DISTINCT * count))


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


def leave_out(problem: Problem, kinds: Kinds, *, batch: bool) -> dict[str, Kind]:
    """Of declared kinds those that this pull brings; a batch has neither target nor label columns.

    Raises
    ------
    ContractError
        The contract declares a column that the problem file keeps from being read.
    """
    hidden = sorted({*kinds} & {*problem.history.personal} - {*problem.history.key})
    if hidden:
        raise ContractError(
            f"column {', '.join(map(repr, hidden))}: found in the contract; history.personal keeps it from "
            "being read",
            code="contract",
            next_step=f"Take it out: automl contract {problem.file.name} --accept",
        )
    later = learning_only(problem) if batch else []
    return {name: kind for name, kind in kinds.items() if name not in later}
