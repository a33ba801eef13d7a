"""Slots of a cron line: the moments at which a schedule starts a run, computed as Prefect computes them.

Cron lines are in local time. Of a local time that occurs twice, the slot is the first; a skipped local time
is moved by as much as the clock. Cron lines that Prefect cannot run, or reads differently from one day to
the next, are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from croniter import croniter

from automl.problem.spans import Span
from automl.testing import slots_of_seconds

__all__ = ["Slots", "cron_mistake"]

# Prefect moves a skipped slot back with Python below 3.13 (pendulum), and forward from there on (whenever)
SKIPPED_FOLD = 1 if sys.version_info < (3, 13) else 0
# windows that are searched for slots
NARROWEST, WIDEST = timedelta(hours=4), timedelta(days=4 * 3653)
OF_SECONDS = timedelta(minutes=1)  # the narrowest, of slots that only a test can have
FEW = 10  # with fewer slots in a window, the next window is wider
COMPARED = 400  # neighbouring slots from which the distance of slots is computed
COMPARED_MONTHS = 40
LONGEST_DAY_OF_ALL_MONTHS = 28
WANTED = 'wanted five fields such as "0 3 * * 1"'


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of one cron line in one zone; all returned moments are in UTC.

    Examples
    --------
    >>> mondays = Slots("0 0 * * 1", "Europe/Berlin")
    >>> str(mondays.after(datetime(2026, 10, 20, tzinfo=UTC)))
    '2026-10-25 23:00:00+00:00'
    """

    cron: str
    zone: str

    def newest(self, moment: datetime) -> datetime:
        """The newest slot that is not later than `moment`.

        Raises
        ------
        ValueError
            There is none in the last forty years.
        """
        slot = next(self.backwards(moment), None)
        if slot is None:
            raise ValueError(f"{self.cron!r} has no slot in the forty years before {moment}")
        return slot

    def after(self, moment: datetime) -> datetime:
        """The first slot that is later than `moment`."""
        best: datetime | None = None
        last: datetime | None = None
        moment, zone = _plain(moment), ZoneInfo(self.zone)
        for wall in _walls(self.cron, _local(moment, zone) - _swing(moment, zone)):
            if last is not None and wall > last:
                break
            slot = _instant(wall, zone)
            if slot > moment and (best is None or slot < best):
                best = slot
                # around a clock change the order of slots may change
                last = last or wall + _swing(slot, zone)
        if best is None:
            raise ValueError(f"{self.cron!r} has no slot after {moment}")
        return best

    def between(self, start: datetime, end: datetime) -> list[datetime]:
        """Slots later than `start` and not later than `end`, oldest first."""
        start, end, zone = _plain(start), _plain(end), ZoneInfo(self.zone)
        last = _local(end, zone) + _swing(end, zone)
        slots = set()
        for wall in _walls(self.cron, _local(start, zone) - _swing(start, zone)):
            if wall > last:
                break
            slots.add(_instant(wall, zone))
        return sorted(slot for slot in slots if start < slot <= end)

    def backwards(self, moment: datetime) -> Iterator[datetime]:
        """Slots not later than `moment`, newest first."""
        end = _plain(moment)
        width = NARROWEST if len(self.cron.split()) == 5 else OF_SECONDS
        while width <= WIDEST:
            start = end - width
            slots = self.between(start, end)
            yield from reversed(slots)
            end = start
            if len(slots) < FEW:
                width *= 4

    def apart_by(self, span: Span) -> bool:
        """Whether neighbouring slots are always this span apart in local time.

        Months are calendar months: the last days of all months are one month apart.
        """
        return _apart_by(self.cron, span)


def cron_mistake(line: str) -> str:
    """Why the line cannot be a schedule; empty if it can.

    Examples
    --------
    >>> cron_mistake("0 3 * * 1")
    ''
    """
    fields = line.split()
    # Prefect reads a sixth as seconds
    if len(fields) != 5 and not (len(fields) == 6 and slots_of_seconds()):
        return f"found {line!r}, which is not a cron line; {WANTED}"
    if not croniter.is_valid(line) or any(field.casefold() in ("r", "h") for field in fields):
        hint = ' (the last Friday is "L5")' if any(c.upper() == "L" for c in fields[4]) else ""
        return f"found {line!r}, which Prefect cannot run; {WANTED}{hint}"
    days = f"0 0 {' '.join(fields[2:5])}"  # the days of a line do not depend on its hour
    try:
        next(_walls(days, datetime(2026, 1, 1)))  # noqa: DTZ001  local time
        steady = _steady(days)
    except ValueError:
        return f"found {line!r}, a day that no month has; {WANTED}"
    if not steady:
        return (
            f"found {line!r}, of which Prefect skips a day at the beginning of March; wanted days that every "
            f'month has, such as "1,15"'
        )
    return ""


def _plain(moment: datetime) -> datetime:
    """The moment in UTC, without a library's own rules of arithmetic: Prefect's dates are pendulum's."""
    utc = moment.astimezone(UTC)
    return datetime.combine(utc.date(), utc.time(), UTC)


def _walls(cron: str, start: datetime) -> Iterator[datetime]:
    """Local times of slots from `start` on."""
    slots = croniter(cron, start - timedelta(seconds=1))
    while True:
        yield slots.get_next(datetime)


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment of a slot at this local time."""
    moment = wall.replace(tzinfo=zone).astimezone(UTC)
    if _local(moment, zone) != wall:
        moment = wall.replace(tzinfo=zone, fold=SKIPPED_FOLD).astimezone(UTC)
    return moment


def _local(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _swing(moment: datetime, zone: ZoneInfo) -> timedelta:
    """By how much the clock changes within a day of a moment."""
    day = timedelta(days=1)
    offsets = [(moment + shift).astimezone(zone).utcoffset() for shift in (-day, timedelta(0), day)]
    present = [offset for offset in offsets if offset is not None]
    return max(present) - min(present)


@lru_cache
def _apart_by(cron: str, span: Span) -> bool:
    count = COMPARED_MONTHS if span.months else COMPARED
    walls = list(islice(_walls(cron, datetime(2001, 1, 1)), count))  # noqa: DTZ001  local time
    pairs = list(pairwise(walls))
    if span.months:
        return all(12 * (b.year - a.year) + b.month - a.month == span.months for a, b in pairs)
    return all((b - a).total_seconds() == span.seconds for a, b in pairs)


def _steady(days: str) -> bool:
    """Whether the slots around the end of February do not depend on where their search begins."""
    field = days.split()[2]
    if field == "*" or not any(int(n) > LONGEST_DAY_OF_ALL_MONTHS for n in _numbers(days)):
        return True
    for year in (2027, 2028):
        start = datetime(year, 2, 1)  # noqa: DTZ001  local time
        whole = list(islice(_walls(days, start), 70))  # more than the days of two months
        for day in range(45):
            later = start + timedelta(days=day)
            if next(_walls(days, later)) != next(wall for wall in whole if wall >= later):
                return False
    return True


def _numbers(days: str) -> list[int]:
    """The days of the month that a line names by number."""
    return [n for n in croniter.expand(days)[0][2] if isinstance(n, int)]
