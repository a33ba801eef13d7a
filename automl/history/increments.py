"""What a pull fetches besides everything: rows of some windows, and the keys that they speak of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from automl.history.rows.casting import Kind, unread
from automl.history.rows.local_time import FIRST, LAST, utc_naive
from automl.history.rows.shaping import UPDATED, Rows, Shaper, Window
from automl.history.rows.versions import Delta, resolve
from automl.history.sources.base import Since, Source
from automl.history.storage.parts import identities

__all__ = ["DELTA_ROWS", "FullPullError", "Tally", "elsewhere", "fetch", "wanted"]

DELTA_ROWS = 1_500_000  # more changed rows than this are pulled as a whole


class FullPullError(Exception):
    """Why everything is pulled after all."""


@dataclass(slots=True)
class Tally:
    """What a pull has counted, and what it warns of, so far."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("fetched", "new", "updated", "late", "deleted", "verified", "repaired"), 0
        )
    )
    warnings: list[str] = field(default_factory=list)
    audited: str = ""  # end of the older window that was compared last, in turn

    def clear(self) -> None:
        """Forget counts and warnings: everything is pulled anew."""
        self.warnings.clear()
        self.counts = dict.fromkeys(self.counts, 0)


def wanted(shaper: Shaper) -> list[str]:
    """Columns that leave the source: all allowed ones until kinds are known."""
    h = shaper.problem.history
    updated = [h.updated_at] if h.updated_at and h.updated_at in shaper.names else []
    if shaper.layout is not None:
        return list(dict.fromkeys([*shaper.layout.names, *updated]))
    left_out = unread(shaper.problem)
    return [name for name in shaper.names if name not in left_out]


def fetch(
    source: Source,
    asked: Sequence[tuple[Shaper, Since]],
    aside: list[pa.Table],
    tally: Tally,
) -> Delta:
    """Rows of some windows, each shaped by its own shaper; those that do not fit join `aside`.

    Raises
    ------
    AnewError
        So many rows have changed that pulling everything costs less.
    """
    kept: list[pa.Table] = []
    unlabelled: list[pa.Table] = []
    changed: list[pa.Table] = []
    count = 0
    for shaper, since in asked:
        every = _every_key(shaper) if since.until is None else None
        for chunk in source.chunks(wanted(shaper), since):
            if every is not None:
                changed += _changed(every.shape(chunk), since)
            rows = shaper.shape(chunk)
            if rows is None:
                continue
            aside.append(rows.aside)
            if len(rows.unlabelled):
                unlabelled.append(rows.unlabelled)
            if rows.kept.column_names:
                kept.append(rows.kept)
                count += len(rows.kept)
            if count > DELTA_ROWS:
                raise FullPullError(f"more than {DELTA_ROWS} rows have changed")
        tally.counts["fetched"] += shaper.seen
    first = asked[0][0]
    fresh = resolve(first.problem, first, kept, unlabelled, aside)
    return replace(fresh, changed=pa.concat_tables(changed)) if changed else fresh


def elsewhere(shaper: Shaper, fresh: Delta) -> tuple[pa.Table, np.ndarray]:
    """Keys whose known version is no row of this history, and keys that changed after as_of.

    Of the latter the version that was known stays, although the source no longer shows it.
    """
    changed = fresh.changed
    if not len(changed):
        return changed, np.array([], dtype="int64")
    key = shaper.problem.history.key
    stamps = np.asarray(changed[UPDATED].to_numpy()).astype("datetime64[us]")
    after = stamps >= np.datetime64(utc_naive(shaper.window.known_before), "us")
    ids = identities(changed, key)
    moved = ~after & ~np.isin(ids, identities(fresh.keys, key))
    return changed.filter(pa.array(moved)).select(list(key)), ids[after]


def _every_key(shaper: Shaper) -> Shaper | None:
    """Tells the keys of all versions, also of those that are not kept; None if none can change."""
    h = shaper.problem.history
    if not h.key or not h.updated_at or shaper.layout is None:
        return None
    kinds: dict[str, Kind] = {k: shaper.layout.kinds[k] for k in (*h.key, h.time)}
    always = Window(FIRST.to_pydatetime(), LAST.to_pydatetime(), LAST.to_pydatetime())
    layout = replace(shaper.layout, kinds=kinds)
    return Shaper(shaper.problem, always, shaper.names, batch=True, layout=layout)


def _changed(rows: Rows | None, since: Since) -> list[pa.Table]:
    """Key and change of the rows that changed, if any."""
    if rows is None or since.changed is None or not len(rows.kept):
        return []
    stamps = np.asarray(rows.kept[UPDATED].to_numpy()).astype("datetime64[us]")
    return [rows.kept.filter(pa.array(stamps >= np.datetime64(utc_naive(since.changed), "us")))]
