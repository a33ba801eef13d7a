"""Rows replaced by key: which parts change and what stays in them; nothing here knows a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from automl.history.rows.local_time import FIRST, LAST, utc_naive
from automl.history.rows.shaping import UPDATED
from automl.history.storage import writer as part_writer
from automl.history.storage.parts import (
    Part,
    day_after,
    identities,
    in_order,
    read_parts,
    remove_keys,
)
from automl.history.storage.writer import PartWriter

__all__ = ["Upsert", "compared", "place", "upsert"]


@dataclass(frozen=True, slots=True)
class Upsert:
    """What a change does to parts. A part whose rows all stay is not named."""

    rests: dict[Part, pa.Table]  # parts that change, with their rows that stay
    rows: pa.Table  # to add: rows that are new or differ from those held
    new: NDArray[np.bool_]  # which of `rows` no part held
    updated: int  # held rows that `rows` replace by others
    removed: int  # held rows that nothing replaces


def upsert(
    folder: Path,
    parts: Sequence[Part],
    schema: pa.Schema,
    names: tuple[str, tuple[str, ...]],
    change: tuple[pa.Table, pa.Table],
    since: datetime | None,
) -> Upsert:
    """Put `change` into parts: rows, one per key, and every key that must not stay as it was.

    `names` are time and key. A held row stays if it is equal to the new one, or was updated later than
    what is said of its key. Rows before `since` go without being counted.
    """
    time, key = names
    rows, spoken = change
    edge = np.datetime64(FIRST if since is None else utc_naive(since), "us")
    index = pd.Index(identities(rows, key) if key and len(rows) else np.array([], "int64"))
    told = _last_said(spoken, key) if key and len(spoken) else pd.Series([], dtype="datetime64[us]")
    hits = remove_keys(folder, parts, schema, key, spoken)
    rests: dict[Part, pa.Table] = {}
    held, wanted = np.zeros(len(rows), dtype=bool), np.ones(len(rows), dtype=bool)
    updated = removed = 0
    for part in parts:
        old = bool(np.datetime64(part.first, "us") < edge)
        if old and np.datetime64(part.last, "us") < edge:
            rests[part] = schema.empty_table()
            continue
        if not old and part not in hits:
            continue
        table = read_parts(folder, [part], schema)
        stays = np.ones(len(table), dtype=bool)
        if part in hits:
            ids = identities(table, key)
            place = index.get_indexer(ids)
            found = np.flatnonzero(place >= 0)
            same, later = _equal_or_later(table.take(found), rows.take(place[found]))
            held[place[found]] = True
            wanted[place[found[same | later]]] = False
            goes = found[~(same | later)]
            stays[goes] = False
            updated += _differing(table.take(goes), rows.take(place[goes]))
            gone = np.isin(ids, told.index) & (place < 0)
            if UPDATED in schema.names:
                gone &= ~(_stamps(table) > told.reindex(ids).to_numpy())
            stays &= ~gone
            removed += int(gone.sum())
        if old:
            stamps = np.asarray(table[time].to_numpy()).astype("datetime64[us]")
            stays &= stamps >= edge
        if not stays.all():
            rests[part] = table.filter(pa.array(stays))
    return Upsert(rests, rows.filter(pa.array(wanted)), ~held[wanted], updated, removed)


def place(writer: PartWriter, found: Upsert) -> None:
    """Give a change to the writer; a small last part grows instead of being followed by another."""
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
    held: pa.Table, rows: pa.Table, key: Sequence[str]
) -> tuple[NDArray[np.bool_], int, bool]:
    """Which of `rows` no held row has the key of, how many held rows are more, whether the others agree."""
    place = pd.Index(identities(rows, key)).get_indexer(identities(held, key))
    found = np.flatnonzero(place >= 0)
    missing = np.ones(len(rows), dtype=bool)
    missing[place[found]] = False
    same = _contents(held.take(found)) == _contents(rows.take(place[found]))
    return missing, len(held) - len(found), bool(same.all())


def _equal_or_later(held: pa.Table, rows: pa.Table) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which held rows are equal to the new ones, and which were updated later than those."""
    same = _contents(held) == _contents(rows)
    if UPDATED not in held.column_names:
        return same, np.zeros(len(held), dtype=bool)
    return same, _stamps(held) > _stamps(rows)  # a gap compares as False


def _last_said(spoken: pa.Table, key: Sequence[str]) -> pd.Series:
    """When each key was last spoken of; without a time the word is final."""
    if UPDATED not in spoken.column_names:
        return pd.Series(LAST, index=np.unique(identities(spoken, key)), dtype="datetime64[us]")
    said = pd.Series(_stamps(spoken), index=identities(spoken, key)).fillna(LAST)
    return said.groupby(level=0).max()


def _stamps(rows: pa.Table) -> NDArray[np.datetime64]:
    return np.asarray(rows[UPDATED].to_numpy()).astype("datetime64[us]")


def _differing(held: pa.Table, rows: pa.Table) -> int:
    names = [n for n in held.column_names if n != UPDATED]
    return int((_contents(held.select(names)) != _contents(rows.select(names))).sum())


def _contents(table: pa.Table) -> NDArray[np.uint64]:
    if not len(table):
        return np.array([], dtype=np.uint64)
    return np.asarray(pd.util.hash_pandas_object(table.to_pandas(), index=False).to_numpy())
