"""Rows as immutable parquet parts under their own digest; unchanged parts are shared by all snapshots.

A part has whole days (UTC) in time and key order. The digest of a snapshot is made of the digests of
its days, so it does not depend on how rows are cut into parts, nor on the pulls that brought them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from automl.history.rows.names import UPDATED

__all__ = [
    "Part",
    "all_differ",
    "day_after",
    "day_digests",
    "digest_of",
    "identities",
    "in_order",
    "open_parts",
    "plain",
    "read_parts",
    "remove_keys",
    "stamps",
    "utc_moment",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One parquet file: `name` is its digest, `days` the digest of each day in it."""

    name: str
    rows: int
    size: int  # bytes
    first: str  # ISO times, UTC
    last: str
    days: Mapping[str, str]
    keys: tuple[Any, Any] | None = None  # smallest and largest first key column
    changed: str = ""  # newest updated_at
    rising: bool = False  # the key is one whole number and rises from row to row

    def __hash__(self) -> int:
        return hash(self.name)

    def path(self, folder: Path) -> Path:
        """The file of this part."""
        return folder / f"{self.name}.parquet"

    def to_json(self) -> dict[str, Any]:
        """As a document; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Part:
        """Read what `to_json` wrote."""
        keys = tuple(data["keys"]) if data["keys"] else None
        return cls(**{**data, "keys": keys})


def all_differ(parts: Sequence[Part]) -> bool:
    """Whether no key occurs twice, as far as the parts' key ranges show; False if they overlap."""
    limits = [p.keys for p in parts if p.rising and p.keys is not None]
    if len(limits) < len(parts):
        return False
    ordered = sorted(limits)
    return all(before[1] < after[0] for before, after in pairwise(ordered))


def digest_of(schema: pa.Schema, parts: Sequence[Part]) -> str:
    """sha256 of names, kinds and values of all rows; how they are cut into parts does not count."""
    sha = hashlib.sha256(
        json.dumps([[f.name, str(f.type)] for f in schema if f.name != UPDATED]).encode()
    )
    for part in parts:
        for day, digest in part.days.items():
            sha.update(f"{day} {digest}\n".encode())
    return sha.hexdigest()


def day_digests(table: pa.Table, days: NDArray[np.datetime64]) -> dict[str, str]:
    """sha256 per day, over each column in turn: gaps, then values in fixed width or length and bytes."""
    starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    names = [n for n in table.column_names if n != UPDATED]
    columns = [plain(table[name]) for name in names]
    digests = {}
    for a, b in pairwise(starts):
        sha = hashlib.sha256()
        for values, valid, text in columns:
            sha.update(valid[a:b].tobytes())
            sha.update(values[a:b].tobytes())
            if text is not None:
                offsets, data = text
                sha.update(data[offsets[a] : offsets[b]])
        digests[str(days[a])] = sha.hexdigest()[:32]
    return digests


def open_parts(folder: Path, parts: Sequence[Part], schema: pa.Schema) -> ds.Dataset:
    """The parts as one dataset, in time order, nothing read yet."""
    return ds.dataset([str(p.path(folder)) for p in parts], schema=schema, format="parquet")


def read_parts(folder: Path, parts: Sequence[Part], schema: pa.Schema) -> pa.Table:
    """The rows of some parts, in order."""
    tables = [pq.read_table(p.path(folder), schema=schema, memory_map=True) for p in parts]
    return pa.concat_tables(tables) if tables else schema.empty_table()


def remove_keys(
    folder: Path, parts: Sequence[Part], schema: pa.Schema, key: Sequence[str], gone: pa.Table
) -> dict[Part, pa.Table]:
    """Parts that have one of the keys, each with its other rows."""
    if not len(gone) or not key:
        return {}
    lead = gone[key[0]].combine_chunks()
    low, high = (v.as_py() for v in pc.min_max(lead).values())
    hits: dict[Part, pa.Table] = {}
    wanted = identities(gone, key)
    for part in parts:
        if part.keys is not None and (part.keys[0] > high or part.keys[1] < low):
            continue
        columns = pq.read_table(part.path(folder), columns=list(key))
        found = np.isin(identities(columns, key), wanted)
        if found.any():
            hits[part] = read_parts(folder, [part], schema).filter(pa.array(~found))
    return hits


def identities(table: pa.Table, key: Sequence[str]) -> NDArray[Any]:
    """One comparable value per row: the key itself if it is one whole number, else a hash of it."""
    if len(key) == 1 and pa.types.is_integer(table[key[0]].type):
        return np.asarray(table[key[0]].combine_chunks().to_numpy(zero_copy_only=False))
    frame = table.select(list(key)).to_pandas()
    return np.asarray(pd.util.hash_pandas_object(frame, index=False).to_numpy())


def in_order(table: pa.Table, time: str, key: Sequence[str]) -> pa.Table:
    """Rows by time, then key; without a key by every column, so that equal rows have one order."""
    names = [n for n in table.column_names if n not in (time, UPDATED)]
    rest = [k for k in key if k != time] or ([] if key else names)
    times = np.asarray(table[time].to_numpy()).astype("int64")
    steps = np.diff(times)
    if (steps > 0).all():
        return table
    if (steps >= 0).all() and len(rest) == 1 and pa.types.is_integer(table[rest[0]].type):
        keys = np.asarray(table[rest[0]].to_numpy())
        if ((steps > 0) | (np.diff(keys) >= 0)).all():
            return table
    order = pc.sort_indices(
        table, sort_keys=[(time, "ascending"), *((n, "ascending") for n in rest)]
    )
    return table.take(order)


def day_after(iso: str) -> datetime:
    """The midnight after a part's last row: the end of its window."""
    return (utc_moment(iso) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def utc_moment(iso: str) -> datetime:
    """The moment that a part's ISO time, naive UTC, stands for."""
    return datetime.fromisoformat(iso).replace(tzinfo=UTC)


def stamps(column: pa.ChunkedArray) -> NDArray[np.datetime64]:
    """The times of a column, naive UTC in microseconds; a gap is NaT."""
    return np.asarray(column.to_numpy()).astype("datetime64[us]")


def plain(
    column: pa.ChunkedArray,
) -> tuple[NDArray[Any], NDArray[np.uint8], tuple[NDArray[np.int64], memoryview] | None]:
    """Values with gaps filled by zero, validity, and for text its offsets and bytes."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    valid = (
        np.ones(len(array), dtype=np.uint8)
        if array.null_count == 0
        else array.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8)
    )
    if pa.types.is_string(array.type):
        array = array.fill_null("") if array.null_count else array
        _, offsets, data = array.buffers()
        place = np.frombuffer(offsets, dtype=np.int32)[array.offset : array.offset + len(array) + 1]
        lengths = np.diff(place).astype(np.int32)
        return lengths, valid, (place.astype(np.int64), memoryview(data or b""))
    whole = array.cast(pa.int64()) if pa.types.is_timestamp(array.type) else array
    values = np.asarray((whole.fill_null(0) if whole.null_count else whole).to_numpy(False))
    if values.dtype.kind == "f":
        values = values + 0.0  # -0.0 and 0.0 have one digest
    return np.ascontiguousarray(values), valid, None
