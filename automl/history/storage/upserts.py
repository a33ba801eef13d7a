"""Rows replaced by key: which parts change and which of their rows stay; knows no source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from automl.history.rows.local_time import FIRST, LAST, utc_naive
from automl.history.rows.names import UPDATED
from automl.history.storage import writer as part_writer
from automl.history.storage.parts import (
    Part,
    day_after,
    identities,
    in_order,
    read_parts,
    remove_keys,
    stamps,
)
from automl.history.storage.writer import PartWriter

__all__ = ["Change", "Upsert", "compared", "place", "upsert"]


@dataclass(frozen=True, slots=True)
class Change:
    """Rows to put into parts, one per key, and every key whose stored row may be outdated.

    Rows before `since` leave the history without being counted.
    """

    rows: pa.Table
    keys: pa.Table
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsert:
    """What a change does to parts. A part whose rows all stay is not listed."""

    rests: dict[Part, pa.Table]  # parts that change, with their rows that stay
    rows: pa.Table  # to add: rows that are new or differ from the stored ones
    new: NDArray[np.bool_]  # which of `rows` have a key that no part has
    updated: int  # stored rows that `rows` replace by different ones
    removed: int  # stored rows that nothing replaces


def upsert(writer: PartWriter, change: Change) -> Upsert:
    """What putting `change` into the writer's parts does; `place` does it.

    A stored row stays if it is equal to the new one, or if it was updated later than the version in
    `change`.
    """
    key, schema = writer.key, writer.schema
    edge = np.datetime64(FIRST if change.since is None else utc_naive(change.since), "us")
    hits = remove_keys(writer.folder, writer.parts, schema, key, change.keys)
    match = _Match.of(change, key)
    rests: dict[Part, pa.Table] = {}
    for part in writer.parts:
        old = bool(np.datetime64(part.first, "us") < edge)
        if old and np.datetime64(part.last, "us") < edge:
            rests[part] = schema.empty_table()
            continue
        if not old and part not in hits:
            continue
        table = read_parts(writer.folder, [part], schema)
        stays = match.staying(table) if part in hits else np.ones(len(table), dtype=bool)
        if old:
            stays &= stamps(table[writer.time]) >= edge
        if not stays.all():
            rests[part] = table.filter(pa.array(stays))
    return Upsert(
        rests=rests,
        rows=change.rows.filter(pa.array(match.wanted)),
        new=~match.stored[match.wanted],
        updated=match.updated,
        removed=match.removed,
    )


@dataclass(slots=True, kw_only=True)
class _Match:
    """The rows of a change matched with stored rows, part by part."""

    rows: pa.Table
    key: tuple[str, ...]
    index: pd.Index  # identities of the rows
    versions: pd.Series  # newest change of each key
    stored: NDArray[np.bool_]  # rows whose key some part has
    wanted: NDArray[np.bool_]  # rows that no part has as they are
    updated: int = 0
    removed: int = 0

    @classmethod
    def of(cls, change: Change, key: tuple[str, ...]) -> _Match:
        rows, keys = change.rows, change.keys
        return cls(
            rows=rows,
            key=key,
            index=pd.Index(identities(rows, key) if key and len(rows) else np.array([], "int64")),
            versions=_newest_change(keys, key)
            if key and len(keys)
            else pd.Series([], dtype="datetime64[us]"),
            stored=np.zeros(len(rows), dtype=bool),
            wanted=np.ones(len(rows), dtype=bool),
        )

    def staying(self, table: pa.Table) -> NDArray[np.bool_]:
        """Which rows of a part stay; counts the others."""
        ids = identities(table, self.key)
        place = self.index.get_indexer(ids)
        found = np.flatnonzero(place >= 0)
        same, later = _equal_or_later(table.take(found), self.rows.take(place[found]))
        self.stored[place[found]] = True
        self.wanted[place[found[same | later]]] = False
        replaced = found[~(same | later)]
        self.updated += _differing(table.take(replaced), self.rows.take(place[replaced]))
        gone = np.isin(ids, self.versions.index) & (place < 0)
        if UPDATED in table.column_names:
            gone &= ~(stamps(table[UPDATED]) > self.versions.reindex(ids).to_numpy())
        self.removed += int(gone.sum())
        stays = ~gone
        stays[replaced] = False
        return np.asarray(stays)


def place(writer: PartWriter, found: Upsert) -> None:
    """Apply a change; a small last part grows instead of being followed by another small one."""
    rests = dict(found.rests)
    tail = writer.parts[-1] if writer.parts else None
    if (
        tail is not None
        and tail not in rests
        and len(found.rows)
        and tail.rows < part_writer.PART_ROWS
    ):
        newest = np.asarray(found.rows[writer.time].to_numpy()).max()
        if newest >= np.datetime64(utc_naive(day_after(tail.last))):
            rests[tail] = read_parts(writer.folder, [tail], writer.schema)
    writer.take_out(rests)
    for rest in rests.values():
        writer.add(rest)
    if len(found.rows):
        writer.add(in_order(found.rows, writer.time, writer.key))


def compared(
    stored: pa.Table, rows: pa.Table, key: Sequence[str]
) -> tuple[NDArray[np.bool_], int, bool]:
    """Which of `rows` are not stored, how many stored rows `rows` lack, whether all others agree."""
    place = pd.Index(identities(rows, key)).get_indexer(identities(stored, key))
    found = np.flatnonzero(place >= 0)
    missing = np.ones(len(rows), dtype=bool)
    missing[place[found]] = False
    same = _contents(stored.take(found)) == _contents(rows.take(place[found]))
    return missing, len(stored) - len(found), bool(same.all())


def _equal_or_later(
    stored: pa.Table, rows: pa.Table
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which stored rows are equal to the new ones, and which were updated later than those."""
    same = _contents(stored) == _contents(rows)
    if UPDATED not in stored.column_names:
        return same, np.zeros(len(stored), dtype=bool)
    return same, stamps(stored[UPDATED]) > stamps(rows[UPDATED])  # a gap compares as False


def _newest_change(keys: pa.Table, key: Sequence[str]) -> pd.Series:
    """The newest change of each key; without a column for it every change is final."""
    if UPDATED not in keys.column_names:
        return pd.Series(LAST, index=np.unique(identities(keys, key)), dtype="datetime64[us]")
    changes = pd.Series(stamps(keys[UPDATED]), index=identities(keys, key)).fillna(LAST)
    return changes.groupby(level=0).max()


def _differing(stored: pa.Table, rows: pa.Table) -> int:
    names = [n for n in stored.column_names if n != UPDATED]
    return int((_contents(stored.select(names)) != _contents(rows.select(names))).sum())


def _contents(table: pa.Table) -> NDArray[np.uint64]:
    if not len(table):
        return np.array([], dtype=np.uint64)
    return np.asarray(pd.util.hash_pandas_object(table.to_pandas(), index=False).to_numpy())
