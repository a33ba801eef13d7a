"""One row per key: the newest version wins, equal rows count once, and rows that conflict are set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from automl.history.limits import first_reason, within_limit
from automl.history.rows.local_time import AMBIGUOUS, FIRST, first_pass
from automl.history.rows.names import UPDATED
from automl.history.rows.quarantine import Reason, aside_table
from automl.history.rows.shaping import Shaper
from automl.history.storage.parts import Part, all_differ, identities, in_order, read_parts
from automl.history.storage.writer import PartWriter
from automl.problem import Problem

__all__ = ["Delta", "one_row_per_key", "resolve"]


@dataclass(frozen=True, slots=True)
class Delta:
    """Rows of an increment, one per key, and every key that the increment contains."""

    rows: pa.Table
    keys: pa.Table
    # key and time of change of all versions
    changed: pa.Table = field(default_factory=lambda: pa.table({}))


def resolve(
    problem: Problem,
    shaper: Shaper,
    kept: list[pa.Table],
    unlabelled: list[pa.Table],
    aside: list[pa.Table],
    taken: np.ndarray | None = None,
) -> Delta:
    """Of several versions of a key the newest; equal rows count once; others that tie are set aside.

    `taken` are the identities of all keys; default: those of `kept`.
    """
    h = problem.history
    assert shaper.layout is not None
    updated = bool(h.updated_at) and h.updated_at in shaper.names
    schema = shaper.layout.schema(updated=updated)
    rows = pa.concat_tables(kept) if kept else schema.empty_table()
    key = list(h.key)
    if not key:
        return Delta(rows, pa.table({}))
    if not updated:
        rows = _two_passes(problem, shaper, rows, taken)
    names = [*key, *([UPDATED] if updated else [])]
    frame = rows.select(list(dict.fromkeys(names))).to_pandas()
    frame["__row"] = np.arange(len(frame))
    if unlabelled:
        without = pa.concat_tables(unlabelled).select(list(dict.fromkeys(names))).to_pandas()
        frame = pd.concat([frame, without.assign(__row=-1)], ignore_index=True)
    keys = pa.concat_tables(t.select(list(dict.fromkeys(names))) for t in [rows, *unlabelled])
    if not frame.duplicated(key).any():
        return Delta(rows, keys)
    changed = frame[UPDATED].fillna(FIRST) if updated else pd.Series(FIRST, index=frame.index)
    newest = changed.groupby([frame[k] for k in key], sort=False, dropna=False).transform("max")
    old = (changed < newest).to_numpy()
    shaper.dropped["older_version"] += int((old & (frame["__row"] >= 0)).sum())
    winners = frame.loc[~old & (frame["__row"] >= 0).to_numpy(), "__row"].to_numpy()
    rows = rows.take(pa.array(np.sort(winners)))
    return Delta(_one_each(problem, shaper, rows, aside), keys)


def one_row_per_key(
    writer: PartWriter,
    problem: Problem,
    shaper: Shaper,
    aside: list[pa.Table],
    unlabelled: Sequence[pa.Table] = (),
    *,
    batch: bool = False,
) -> list[Part]:
    """All parts with one row per key; only parts with a repeated key are read and written again.

    `unlabelled` are keys and changes of versions without a label: newer than a row, they withdraw it.
    """
    parts = writer.finish()
    key = list(problem.history.key)
    if not key or not parts:
        return parts
    withdrawn = pa.concat_tables(list(unlabelled)) if unlabelled else pa.table({})
    if UPDATED not in writer.schema.names or not len(withdrawn):
        withdrawn = None
    if withdrawn is None and all_differ(parts):
        return parts
    ids = [identities(_keys(writer, p, key), key) for p in parts]
    every = np.concatenate(ids)
    repeated = _repeated(every)
    versions: list[pa.Table] = []
    if withdrawn is not None:
        withdrawn_ids = identities(withdrawn, key)
        repeated = np.union1d(repeated, withdrawn_ids[np.isin(withdrawn_ids, every)])
        versions = [withdrawn.filter(pa.array(np.isin(withdrawn_ids, repeated)))]
    if not len(repeated):
        return parts
    before = sum(map(len, aside))
    hit = [p for p, i in zip(parts, ids, strict=True) if np.isin(i, repeated).any()]
    candidates, rests = _split(writer, hit, key, repeated)
    resolved = resolve(problem, shaper, candidates, versions, aside, every)
    rewritten = _replaced(writer, parts, hit, [*rests, resolved.rows])
    if sum(map(len, aside)) > before and batch:
        raise first_reason(problem, shaper, "duplicate_key")
    within_limit(problem, shaper, sum(map(len, aside)))
    return rewritten


def _split(
    writer: PartWriter, parts: Sequence[Part], key: list[str], repeated: np.ndarray
) -> tuple[list[pa.Table], list[pa.Table]]:
    """Of each part the rows with a repeated key, and the others."""
    candidates, rests = [], []
    for part in parts:
        table = read_parts(writer.folder, [part], writer.schema)
        mask = np.isin(identities(table, key), repeated)
        candidates.append(table.filter(pa.array(mask)))
        rests.append(table.filter(pa.array(~mask)))
    return candidates, rests


def _replaced(
    writer: PartWriter, parts: list[Part], old: Sequence[Part], tables: Sequence[pa.Table]
) -> list[Part]:
    """All parts, `old` ones replaced by parts of these rows."""
    again = writer.over(parts)
    again.written = writer.written
    again.take_out(old)
    for table in tables:
        again.add(in_order(table, writer.time, writer.key) if len(table) else table)
    try:
        return again.finish()
    finally:
        again.close()
        writer.written = again.written


def _two_passes(
    problem: Problem, shaper: Shaper, rows: pa.Table, taken: np.ndarray | None
) -> pa.Table:
    """Of two rows that share a key and its repeated local time, the first is moved to the first pass.

    Assumes that the source returns the first pass first, in the order of writing. Equal rows may be one row
    that was delivered twice and are not moved.
    """
    h = problem.history
    key, zone = list(h.key), h.timezone
    if h.time not in key or not shaper.corrections[AMBIGUOUS, h.time]:
        return rows
    frame = rows.to_pandas()
    frame = frame[~frame.duplicated()]
    frame = frame[frame.duplicated(key, keep=False)]
    groups = frame.groupby(key, sort=False, dropna=False)
    first = frame[(groups.cumcount() == 0) & (groups[h.time].transform("size") == 2)]
    earlier = {t: first_pass(t.to_pydatetime(), zone) for t in first[h.time].unique()}
    moved = first[first[h.time].map(lambda t: earlier[t] is not None).astype(bool)]
    times = rows[h.time].to_pylist()
    for row in moved.index:
        times[row] = earlier[pd.Timestamp(times[row])]
    place = rows.column_names.index(h.time)
    shifted = rows.set_column(place, h.time, pa.array(times, rows.schema.field(h.time).type))
    others = identities(rows, key) if taken is None else taken
    if (
        not len(moved)
        or np.isin(identities(shifted.take(moved.index.to_numpy()), key), others).any()
    ):
        return rows  # times with and without offsets are mixed: the rows conflict
    shaper.corrections["two_passes", h.time] += 2 * len(moved)
    return shifted


def _one_each(problem: Problem, shaper: Shaper, rows: pa.Table, aside: list[pa.Table]) -> pa.Table:
    """One row per key: equal rows count once, rows that differ are all set aside."""
    key = list(problem.history.key)
    names = [n for n in rows.column_names if n != UPDATED]
    frame = rows.select(names).to_pandas()
    if not frame.duplicated(key).any():
        return rows
    first = ~frame.duplicated(names).to_numpy()
    shaper.corrections["same_row", ""] += int((~first).sum())
    clash = frame[first].duplicated(key, keep=False)
    positions = np.flatnonzero(first)
    keep = positions[~clash.to_numpy()]
    if clash.any():
        losers = frame[first][clash]
        example = losers[key].head(1).to_dict("records")[0]
        reason = Reason(
            "duplicate_key",
            f"history.key {key}",
            f"found {len(losers)} rows that share a key but differ, for example {example}; "
            f"wanted one row per key{_off_the_clock(problem, shaper)}",
        )
        shaper.reasons[reason] += len(losers)
        aside.append(aside_table(problem, reason, rows.take(pa.array(positions[clash.to_numpy()]))))
    return rows.take(pa.array(keep))


def _off_the_clock(problem: Problem, shaper: Shaper) -> str:
    """A hint for keys with a time: the source may not follow the clock changes of its zone."""
    h = problem.history
    skipped = shaper.corrections["skipped_time", h.time] if h.time in h.key else 0
    if not skipped:
        return ""
    return (
        f". {skipped} local times do not exist in {h.timezone}: if the source ignores clock changes, set "
        "history.timezone to the zone that it uses, for example UTC or Etc/GMT-1"
    )


def _keys(writer: PartWriter, part: Part, key: list[str]) -> pa.Table:
    return pq.read_table(part.path(writer.folder), columns=key)


def _repeated(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "iu" and (np.diff(values) > 0).all():
        return values[:0]
    ordered = np.sort(values)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
