"""One row per key: of several versions the newest, of equal twins one, and rows that clash are set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from automl.history.limits import first_reason, within_limit
from automl.history.rows.local_time import AMBIGUOUS, FIRST, first_pass
from automl.history.rows.quarantine import Reason, aside_table
from automl.history.rows.shaping import UPDATED, Shaper
from automl.history.storage.parts import Part, all_differ, identities, in_order, read_parts
from automl.history.storage.writer import PartWriter
from automl.problem import Problem

__all__ = ["Delta", "resolve", "without_twins"]


@dataclass(frozen=True, slots=True)
class Delta:
    """Rows of an increment, one per key, and every key that the increment speaks of."""

    rows: pa.Table
    keys: pa.Table
    # key and change of all versions
    changed: pa.Table = field(default_factory=lambda: pa.table({}))


def resolve(
    problem: Problem,
    shaper: Shaper,
    kept: list[pa.Table],
    unlabelled: list[pa.Table],
    aside: list[pa.Table],
    taken: np.ndarray | None = None,
) -> Delta:
    """Of several versions of a key the newest; equal twins are one; others that tie are set aside.

    `taken` are the identities of all keys, if not those of `kept` alone.
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
    told = frame[UPDATED].fillna(FIRST) if updated else pd.Series(FIRST, index=frame.index)
    newest = told.groupby([frame[k] for k in key], sort=False, dropna=False).transform("max")
    old = (told < newest).to_numpy()
    shaper.dropped["older_version"] += int((old & (frame["__row"] >= 0)).sum())
    winners = frame.loc[~old & (frame["__row"] >= 0).to_numpy(), "__row"].to_numpy()
    rows = rows.take(pa.array(np.sort(winners)))
    return Delta(_one_each(problem, shaper, rows, aside), keys)


def without_twins(
    writer: PartWriter,
    problem: Problem,
    shaper: Shaper,
    aside: list[pa.Table],
    unlabelled: Sequence[pa.Table] = (),
    *,
    batch: bool = False,
) -> list[Part]:
    """All parts with one row per key; versions and twins are rare and looked at alone."""
    parts = writer.finish()
    key = list(problem.history.key)
    if not key or not parts:
        return parts
    without = pa.concat_tables(list(unlabelled)) if unlabelled else None
    versions = UPDATED in writer.schema.names and without is not None and len(without)
    if not versions and all_differ(parts):
        return parts
    ids = [identities(_keys(writer, p, key), key) for p in parts]
    every = np.concatenate(ids)
    twice = _repeated(every)
    if versions:
        assert without is not None
        taken_back = identities(without, key)
        twice = np.union1d(twice, taken_back[np.isin(taken_back, every)])
    if not len(twice):
        return parts
    before = sum(map(len, aside))
    hit = [p for p, i in zip(parts, ids, strict=True) if np.isin(i, twice).any()]
    again = writer.over(parts)
    again.written = writer.written
    candidates, rests = [], []
    for part in hit:
        table = read_parts(writer.folder, [part], writer.schema)
        mask = np.isin(identities(table, key), twice)
        candidates.append(table.filter(pa.array(mask)))
        rests.append(table.filter(pa.array(~mask)))
    told = (
        [without.filter(pa.array(np.isin(identities(without, key), twice)))]
        if versions and without
        else []
    )
    resolved = resolve(problem, shaper, candidates, told, aside, every)
    again.take_out(hit)
    for table in [*rests, resolved.rows]:
        again.add(in_order(table, writer.time, key) if len(table) else table)
    try:
        found = again.finish()
    finally:
        again.close()
        writer.written = again.written
    apart = sum(map(len, aside)) - before
    if apart and batch:
        raise first_reason(problem, shaper, "duplicate_key")
    within_limit(problem, shaper, sum(map(len, aside)))
    return found


def _two_passes(
    problem: Problem, shaper: Shaper, rows: pa.Table, taken: np.ndarray | None
) -> pa.Table:
    """Rows in the order they came; of two that share a key with its local time the first is the first pass.

    Assumes that a source brings the first pass first, as meters and tills write them. Equal rows may be one
    row that came twice and are left as they are.
    """
    h = problem.history
    key, zone = list(h.key), h.timezone
    if h.time not in key or not shaper.mended[AMBIGUOUS, h.time]:
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
        return rows  # times with and without offsets side by side: they clash
    shaper.mended["two_passes", h.time] += 2 * len(moved)
    return shifted


def _one_each(problem: Problem, shaper: Shaper, rows: pa.Table, aside: list[pa.Table]) -> pa.Table:
    """One row per key: equal ones are one, ones that differ are set aside together."""
    key = list(problem.history.key)
    names = [n for n in rows.column_names if n != UPDATED]
    frame = rows.select(names).to_pandas()
    if not frame.duplicated(key).any():
        return rows
    first = ~frame.duplicated(names).to_numpy()
    shaper.mended["same_row", ""] += int((~first).sum())
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
    """What may be behind it, where the time is part of the key and the source does not follow the zone's clock."""
    h = problem.history
    skipped = shaper.mended["skipped_time", h.time] if h.time in h.key else 0
    if not skipped:
        return ""
    return (
        f". {skipped} local times do not exist in {h.timezone}: if the source's clock is not set forward, "
        "history.timezone must name the zone that it shows, for example UTC or Etc/GMT-1"
    )


def _keys(writer: PartWriter, part: Part, key: list[str]) -> pa.Table:
    return pq.read_table(part.path(writer.folder), columns=key)


def _repeated(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "iu" and (np.diff(values) > 0).all():
        return values[:0]
    ordered = np.sort(values)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
