"""Fetch only some windows of a source: their rows, and all keys that occur in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from automl import progress
from automl.history.rows.kinds import ColumnKind
from automl.history.rows.local_time import FIRST, LAST, utc_naive
from automl.history.rows.names import UPDATED
from automl.history.rows.roles import unread
from automl.history.rows.shaping import Rows, Shaper, Window
from automl.history.rows.versions import Delta, resolve
from automl.history.sources import Since, Source
from automl.history.storage.parts import identities, stamps

__all__ = ["DELTA_ROWS", "FullPullError", "Tally", "elsewhere", "fetch", "wanted"]

DELTA_ROWS = 1_500_000  # if more rows have changed, everything is pulled


class FullPullError(Exception):
    """An increment is not possible; the message is the reason for pulling everything."""


@dataclass(slots=True)
class Tally:
    """Counts and warnings of a pull so far."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("fetched", "new", "updated", "late", "deleted", "verified", "repaired"), 0
        )
    )
    warnings: list[str] = field(default_factory=list)
    audited: str = ""  # end of the older window that was compared last, in rotation

    def clear(self) -> None:
        """Forget counts and warnings, before everything is pulled."""
        self.warnings.clear()
        self.counts = dict.fromkeys(self.counts, 0)


def wanted(shaper: Shaper) -> list[str]:
    """Columns to read: those with a kind, or all allowed ones until kinds are known."""
    h = shaper.problem.history
    updated = [h.updated_at] if h.updated_at and h.updated_at in shaper.names else []
    if shaper.layout is not None:
        return list(dict.fromkeys([*shaper.layout.names, *updated]))
    left_out = unread(shaper.problem)
    return [name for name in shaper.names if name not in left_out]


def fetch(
    source: Source,
    windows: Sequence[tuple[Shaper, Since]],
    aside: list[pa.Table],
    tally: Tally,
) -> Delta:
    """Rows of some windows, each shaped by its own shaper; rows that do not fit are added to `aside`.

    Raises
    ------
    FullPullError
        So many rows have changed that pulling everything costs less.
    """
    tables: list[pa.Table] = []
    unlabelled: list[pa.Table] = []
    changed: list[pa.Table] = []
    count = 0
    for shaper, since in windows:
        keys_only = _key_shaper(shaper) if since.until is None else None
        for chunk in source.chunks(wanted(shaper), since):
            if keys_only is not None:
                changed += _changed(keys_only.shape(chunk), since)
            rows = shaper.shape(chunk)
            progress.show(f"{tally.counts['fetched'] + shaper.seen:,} new and changed rows")
            if rows is None:
                continue
            aside.append(rows.aside)
            if len(rows.unlabelled):
                unlabelled.append(rows.unlabelled)
            if rows.kept.column_names:
                tables.append(rows.kept)
                count += len(rows.kept)
            if count > DELTA_ROWS:
                raise FullPullError(f"more than {DELTA_ROWS} rows have changed")
        tally.counts["fetched"] += shaper.seen
    first = windows[0][0]
    fresh = resolve(first.problem, first, tables, unlabelled, aside)
    return replace(fresh, changed=pa.concat_tables(changed)) if changed else fresh


def elsewhere(shaper: Shaper, fresh: Delta) -> tuple[pa.Table, np.ndarray]:
    """Keys whose row no longer belongs to this history, and keys that changed after as_of.

    The stored version of a key that changed after as_of stays, although the source no longer has it.
    """
    changed = fresh.changed
    if not len(changed):
        return changed, np.array([], dtype="int64")
    key = shaper.problem.history.key
    after = stamps(changed[UPDATED]) >= np.datetime64(utc_naive(shaper.window.known_before), "us")
    ids = identities(changed, key)
    moved = ~after & ~np.isin(ids, identities(fresh.keys, key))
    return changed.filter(pa.array(moved)).select(list(key)), ids[after]


def _key_shaper(shaper: Shaper) -> Shaper | None:
    """A shaper for the keys of all versions, also of unwanted ones; None if no key can change."""
    h = shaper.problem.history
    if not h.key or not h.updated_at or shaper.layout is None:
        return None
    kinds: dict[str, ColumnKind] = {k: shaper.layout.kinds[k] for k in (*h.key, h.time)}
    all_time = Window(FIRST.to_pydatetime(), LAST.to_pydatetime(), LAST.to_pydatetime())
    layout = replace(shaper.layout, kinds=kinds)
    return Shaper(shaper.problem, all_time, shaper.names, batch=True, layout=layout)


def _changed(rows: Rows | None, since: Since) -> list[pa.Table]:
    """Key and time of change of the rows that changed."""
    if rows is None or since.changed is None or not len(rows.kept):
        return []
    recent = stamps(rows.kept[UPDATED]) >= np.datetime64(utc_naive(since.changed), "us")
    return [rows.kept.filter(pa.array(recent))]
