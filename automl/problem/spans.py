"""Durations such as `7d`; days, months and quarters follow the calendar of a zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated

from dateutil.relativedelta import relativedelta
from pydantic import BeforeValidator

__all__ = ["Duration", "Span"]

_UNITS = {
    "s": "seconds",
    "m": "minutes",
    "h": "hours",
    "d": "days",
    "w": "weeks",
    "mo": "months",
    "q": "months",
}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_CALENDAR = ("d", "w", "mo", "q")  # units that a clock change makes longer or shorter
_LONGEST = 200 * 365.25 * 86400  # longer durations leave the calendar when counted back


@dataclass(frozen=True, slots=True)
class Span:
    """A duration, written `90m 12h 7d 4w 1mo 1q`; days and longer units follow the calendar."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: object) -> Span:
        """Read a text such as `7d`; raises ValueError with the allowed forms.

        Examples
        --------
        >>> Span.parse("2q").months
        6
        """
        if isinstance(text, Span):
            return text
        match = re.fullmatch(r"(\d+)\s*(mo|s|m|h|d|w|q)", str(text).strip())
        if not match or int(match[1]) < 1:
            raise ValueError(
                f"found {text!r}; wanted a duration, for example 90s, 90m, 12h, 7d, 4w, 1mo, 1q"
            )
        span = cls(int(match[1]), match[2])
        if span.seconds > _LONGEST:
            raise ValueError(f"found {text!r}; wanted at most 200 years")
        return span

    def after(self, moment: datetime, times: int = 1, *, zone: tzinfo = UTC) -> datetime:
        """`moment` plus `times` of this span, in UTC; a moment without zone stays without.

        Seconds, minutes and hours are elapsed time. Days, weeks, months and quarters are added to the local time of
        `zone`, all at once: in a month without the day the last day is used, and a week across a clock
        change has an hour more or less. A skipped local time becomes the moment of the clock change, a
        repeated one its first pass, so that a later moment never gives an earlier result.

        Examples
        --------
        >>> from zoneinfo import ZoneInfo
        >>> monday = datetime(2026, 10, 18, 22, tzinfo=UTC)  # midnight in Berlin
        >>> str(Span.parse("7d").after(monday, zone=ZoneInfo("Europe/Berlin")))
        '2026-10-25 23:00:00+00:00'
        """
        count = self.count * times * (3 if self.unit == "q" else 1)
        step = relativedelta(**{_UNITS[self.unit]: count})  # type: ignore[arg-type]
        if moment.tzinfo is None:
            return moment + step
        if self.unit not in _CALENDAR:
            return moment.astimezone(UTC) + step
        return _instant(moment.astimezone(zone).replace(tzinfo=None, fold=0) + step, zone)

    def before(self, moment: datetime, times: int = 1, *, zone: tzinfo = UTC) -> datetime:
        """`moment` minus `times` of this span, as `after`."""
        return self.after(moment, -times, zone=zone)

    @property
    def months(self) -> int:
        """Length in months; 0 for units shorter than a month."""
        return {"mo": 1, "q": 3}.get(self.unit, 0) * self.count

    @property
    def seconds(self) -> float:
        """Length in seconds; a month has 30.44 days (only for budgets and estimates)."""
        if self.unit in _SECONDS:
            return float(self.count * _SECONDS[self.unit])
        return self.count * 30.44 * 86400 * (3 if self.unit == "q" else 1)

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    """The moment of a local time, in UTC; if it is skipped, the moment of the clock change."""
    later = wall.replace(tzinfo=zone).astimezone(UTC)
    earlier = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if earlier >= later:  # two passes of a repeated local time, or the only one
        return later
    before = earlier.astimezone(zone).utcoffset()
    while later - earlier > timedelta(seconds=1):
        middle = earlier + timedelta(seconds=(later - earlier) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == before:
            earlier = middle
        else:
            later = middle
    return later


Duration = Annotated[Span, BeforeValidator(Span.parse)]
