"""Convert naive local times to UTC, and moments to bounds of naive local times, across clock changes.

A time without an offset is read as PostgreSQL and DuckDB read it: a time that a clock change repeats gets the
offset after the change, a time that it skips the offset before. The result depends on that time and its zone
only.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

__all__ = [
    "AMBIGUOUS",
    "FIRST",
    "LAST",
    "SKIPPED",
    "Counts",
    "first_pass",
    "local_bound",
    "local_to_utc",
    "utc_naive",
]

# no offset moves these off the calendar
FIRST, LAST = pd.Timestamp("0001-01-02"), pd.Timestamp("9999-12-30")
AMBIGUOUS, SKIPPED = "ambiguous_time", "skipped_time"
DAY = timedelta(days=1)  # no clock was ever changed by more
Counts = tuple[tuple[str, int], ...]  # why cells were corrected, and how many


def utc_naive(moment: datetime) -> pd.Timestamp:
    """A moment as it is stored in frames: UTC without zone.

    Examples
    --------
    >>> str(utc_naive(datetime.fromisoformat("2026-03-02T01:00:00+01:00")))
    '2026-03-02 00:00:00'
    """
    stamp = pd.Timestamp(moment)
    return stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo else stamp


def local_to_utc(local: pd.Series, zone: str) -> tuple[pd.Series, Counts]:
    """Naive local times as UTC without zone, and how many of them a clock change repeats or skips.

    Times outside `FIRST` to `LAST` are clipped to those and not converted: they are placeholders such as 9999-12-31.
    """
    local = local.astype("datetime64[us]").clip(FIRST, LAST)
    if zone == "UTC":
        return local, ()
    stamps = local.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    stamps = stamps.dt.tz_convert("UTC").dt.tz_localize(None)
    counts: Counter[str] = Counter()
    changed = np.flatnonzero((stamps.isna() & local.notna()).to_numpy(bool))
    if len(changed):
        walls = local.iloc[changed]
        read = {wall: _at_clock_change(wall, ZoneInfo(zone)) for wall in walls.unique()}
        stamps.iloc[changed] = pd.Series([read[w][0] for w in walls]).astype("datetime64[us]")
        counts.update(read[wall][1] for wall in walls)
    for end in (FIRST, LAST):
        stamps = stamps.mask(local == end, end)
    return stamps, tuple(sorted(counts.items()))


def _at_clock_change(wall: pd.Timestamp, zone: ZoneInfo) -> tuple[datetime, str]:
    """UTC of a local time that exists twice or not at all, and which of the two cases it is."""
    at = wall.to_pydatetime()
    before, after = (
        (at.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta(0)) for fold in (0, 1)
    )
    return (at - after, AMBIGUOUS) if before > after else (at - before, SKIPPED)


def first_pass(utc: datetime, zone: str) -> datetime | None:
    """The first moment with the local time of `utc`; None unless `utc` is its second pass."""
    local = utc.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    if not local.fold:
        return None
    return local.replace(fold=0).astimezone(UTC).replace(tzinfo=None)


def local_bound(moment: datetime, zone: str, *, upper: bool) -> pd.Timestamp:
    """The earliest local time of the rows from `moment` on; `upper`: the latest of the rows before it.

    Between clock changes this is the local time of `moment`. Near a change, rows may have earlier (later)
    local times: the hour after the clock goes back repeats the hour before, and a skipped local time is
    read as later by the change.
    """
    utc = utc_naive(moment)
    before, now, after = (
        _offset(min(max(utc + way * DAY, FIRST), LAST), zone) for way in (-1, 0, 1)
    )
    local = utc + now
    if before == now == after:
        return local
    change = _change(utc - DAY if now != before else utc, zone)
    if before > after:
        if upper:
            return max(local, change + before) if change <= utc else local
        return min(local, change + after) if utc < change else local
    skipped = change <= utc < change + (after - before)
    return utc + before if skipped and not upper else local


def _change(low: pd.Timestamp, zone: str) -> pd.Timestamp:
    """The second of UTC at which the offset changes, within a day after `low`."""
    first, seconds = _offset(low, zone), (0, int(DAY.total_seconds()))
    while seconds[1] - seconds[0] > 1:
        middle = sum(seconds) // 2
        same = _offset(low + timedelta(seconds=middle), zone) == first
        seconds = (middle, seconds[1]) if same else (seconds[0], middle)
    return low.floor("s") + timedelta(seconds=seconds[1])


def _offset(utc: pd.Timestamp, zone: str) -> timedelta:
    moment = utc.to_pydatetime().replace(tzinfo=UTC)
    return moment.astimezone(ZoneInfo(zone)).utcoffset() or timedelta(0)
