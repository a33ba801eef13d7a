"""Quarantine: rows that do not fit are written to a file with their reason, key and content as text.

What fits is decided elsewhere. A quarantined row returns only when the source delivers it again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from automl.files import replacing
from automl.history.rows.casting import as_kind
from automl.history.rows.kinds import Column
from automl.history.rows.local_time import utc_naive
from automl.history.rows.names import UPDATED
from automl.history.rows.personal import hashed
from automl.problem import Problem

__all__ = [
    "REASON",
    "Reason",
    "Refused",
    "aside_table",
    "keep_aside",
    "key_text",
    "keys_aside",
    "refused_table",
    "still_aside",
    "untimed_table",
]

REASON = "__reason"  # a column of a chunk until its rows are set aside


class Reason(NamedTuple):
    """Why a row was set aside."""

    code: str
    column: str
    detail: str = ""

    def describe(self, count: int) -> str:
        """The reason as text, for `count` rows."""
        if self.code == "kind_changed":
            return f"column {self.column!r}: found {count} {self.detail}"
        if self.code == "null_time":
            return f"{self.column}: found {count} rows without a time"
        if self.code == "null_key":
            return f"history.key {self.column!r}: found {count} rows without a value"
        if self.code == "infinite_target":
            return f"target {self.column!r}: found {count} infinite values; wanted numbers"
        return f"{self.column}: {self.detail}"


@dataclass(slots=True)
class Refused:
    """Rows of a chunk that are set aside, each for its first reason."""

    bad: NDArray[np.bool_]
    counts: Counter[Reason]
    reasons: dict[int, Reason] = field(default_factory=dict)

    def add(self, mask: NDArray[np.bool_], reason: Reason) -> None:
        """Set rows aside; rows that already are keep their first reason."""
        fresh = np.flatnonzero(mask & ~self.bad)
        if len(fresh):
            self.counts[reason] += len(fresh)
            self.reasons.update(dict.fromkeys(fresh.tolist(), reason))
            self.bad[fresh] = True

    def column(self) -> pa.Array:
        """The reasons by row, as JSON."""
        reasons = (self.reasons.get(i) for i in range(len(self.bad)))
        return pa.array([None if r is None else json.dumps(r) for r in reasons], pa.string())


def refused_table(problem: Problem, cells: Mapping[str, pa.Array]) -> pa.Table:
    """Rows of a chunk to set aside, each for the reason in its `REASON` column."""
    reasons = [Reason(*json.loads(v)) for v in cells[REASON].to_pylist()]
    shown = {n: c for n, c in cells.items() if n not in (REASON, UPDATED)}
    rows = pa.table(shown).to_pylist()
    h = problem.history
    return _aside(
        reasons,
        [{k: row.get(k) for k in h.key} for row in rows],
        [row[h.time] for row in rows],
        rows,
    )


def untimed_table(problem: Problem, reason: Reason, chunk: Mapping[str, Column]) -> pa.Table:
    """Rows whose time cannot be read; `chunk` holds only their keys and their time as written."""
    h = problem.history
    shown = {n: as_kind(column, "text").cells for n, column in chunk.items()}
    for name in {*h.personal} & {*shown}:
        shown[name] = hashed(shown[name])
    rows = pa.table(shown).to_pylist()
    keys = [{k: row[k] for k in h.key if k in row} for row in rows]
    return _aside([reason] * len(rows), keys, [None] * len(rows), rows)


def aside_table(problem: Problem, reason: Reason, rows: pa.Table) -> pa.Table:
    """Rows to set aside, all for one reason."""
    h = problem.history
    content = rows.select([n for n in rows.column_names if n != UPDATED]).to_pylist()
    keys = [{k: row.get(k) for k in h.key} for row in content]
    return _aside([reason] * len(content), keys, [row[h.time] for row in content], content)


def still_aside(
    file: Path,
    key: Sequence[str],
    delivered: Sequence[pa.Table],
    since: datetime | None,
    aside: Sequence[pa.Table],
) -> pa.Table:
    """Rows of `file`, set aside by earlier pulls, that remain set aside.

    Left out are rows whose key this pull has `delivered`, rows that it set `aside` itself, and rows before
    `since`.
    """
    table = pq.read_table(file)
    keys = {key_text(k) for t in delivered if len(t) for k in t.select(list(key)).to_pylist()}
    again = {
        (row["reason"], row["column"], row["key"], row["row"])
        for t in aside
        for row in (t.to_pylist() if key else [])
    }
    keep = np.array(
        [
            row["key"] not in keys
            and (row["reason"], row["column"], row["key"], row["row"]) not in again
            for row in table.to_pylist()
        ],
        dtype=bool,
    )
    if since is not None:
        times = table["time"].to_pandas()
        keep &= ~(times < utc_naive(since)).to_numpy(bool)
    return table.filter(pa.array(keep))


def keep_aside(folder: Path, name: str, aside: Sequence[pa.Table]) -> str:
    """Write the rows set aside to one file; return its name, or "" without rows."""
    tables = [t for t in aside if t.column_names and len(t)]
    if not tables:
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    with replacing(path) as staged:
        pq.write_table(pa.concat_tables(tables), staged)
    return path.name


def keys_aside(aside: Sequence[pa.Table]) -> set[str]:
    """The keys of rows set aside, as text."""
    return {k for t in aside if t.column_names for k in t["key"].to_pylist()}


def key_text(key: Mapping[str, Any]) -> str:
    """A key, or a whole row, as it is written in the quarantine file."""
    return json.dumps(key, default=str, ensure_ascii=False, sort_keys=True)


def _aside(
    reasons: Sequence[Reason],
    keys: Sequence[Mapping[str, object]],
    times: Sequence[datetime | None],
    rows: Sequence[Mapping[str, object]],
) -> pa.Table:
    return pa.table(
        {
            "reason": pa.array([r.code for r in reasons], pa.string()),
            "column": pa.array([r.column for r in reasons], pa.string()),
            "detail": pa.array([r.describe(1) for r in reasons], pa.string()),
            "key": pa.array([key_text(k) for k in keys], pa.string()),
            "time": pa.array(times, pa.timestamp("us")),
            "row": pa.array([key_text(r) for r in rows], pa.string()),
        }
    )
