"""What SQLite needs of its own: bounds that compare right with whatever a column of times holds.

SQLite has no type for times: a column holds texts (dates, `T` or a space, fractions, offsets) or numbers
(seconds since 1970, Julian days), also mixed, and compares them as such. So a bound that a query compares with a
column is written as that cell holds its time, and two texts are compared as the times that they spell.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import sqlalchemy as sa

from automl.history.rows.epochs import LARGEST, epoch_numbers, epoch_times, is_epoch_text
from automl.history.rows.local_time import utc_naive
from automl.history.sources.parameters import uses, without_colons

__all__ = ["comparable", "is_newer", "numbered", "prepare"]

COLLATION = "automl_time"
_SPACED = re.compile(r"\s+(?=[+-]\d|[Zz]$)")  # before an offset


def prepare(
    connection: sa.Connection, zone: str, moments: Mapping[str, datetime], *, seconds: int
) -> None:
    """Make a connection compare texts as times, and stop what takes longer than `seconds`.

    `moments` are the bounds as they are written for naive times, and the moments that they stand for.
    """
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    deadline = time.monotonic() + seconds
    raw.set_progress_handler(lambda: int(time.monotonic() > deadline), 1_000_000)
    raw.create_collation(COLLATION, _comparison(zone, moments))


def comparable(query: str) -> str:
    """The query with bounds that compare right with texts and numbers.

    Examples
    --------
    >>> comparable("select * from t where date(:as_of) > day")
    'select * from t where (date(:as_of) collate automl_time) > day'
    """
    pieces, end = [], 0
    for use in uses(query):
        if not use.compared or use.whole[0] < end:
            continue
        value = query[slice(*use.whole)]
        if use.bare:
            value = _as_held(without_colons(use.operand), use.name)
        pieces += [without_colons(query[end : use.whole[0]]), f"({value} collate {COLLATION})"]
        end = use.whole[1]
    return "".join([*pieces, without_colons(query[end:])])


def _as_held(operand: str, name: str) -> str:
    """The bound as the cell of `operand` holds its time: a text, or a number of the unit that its size shows."""
    *sized, largest = LARGEST
    units = " ".join(
        f"when abs({operand}) < {LARGEST[unit]:.0f} then :{name}_{unit}" for unit in sized
    )
    return f"(case when typeof({operand}) = 'text' then :{name} {units} else :{name}_{largest} end)"


def is_newer(column: str, name: str, *, upper: bool) -> str:
    """A condition on a time column that an index of it can serve; it may hold for a day of further rows."""
    if upper:
        held = _as_held(column, name)
        return f"case when typeof({column}) = 'text' then {column} < :{name} else {column} < {held} end"
    ranges = [
        f"{column} between :{name}_{unit} and {largest:.0f}"
        for unit, largest in list(LARGEST.items())[:-1]
    ]
    last = list(LARGEST)[-1]
    numbers = " or ".join([*ranges, f"({column} >= :{name}_{last} and typeof({column}) <> 'text')"])
    return f"({column} >= :{name} or {numbers})"


def numbered(bounds: Mapping[str, object]) -> dict[str, int | float]:
    """The numeric variants of those bounds that are moments."""
    moments = {name: value for name, value in bounds.items() if isinstance(value, datetime)}
    return {
        f"{name}_{unit}": number
        for name, moment in moments.items()
        for unit, number in epoch_numbers(moment).items()
    }


# ---------------------------------------------------------------- texts as times


def _comparison(zone: str, moments: Mapping[str, datetime]) -> Callable[[str, str], int]:
    """A collation: by the times that two texts spell, or by the texts if one spells none."""
    local = ZoneInfo(zone)
    known = {text: utc_naive(moment).to_pydatetime() for text, moment in moments.items()}

    def utc(read: datetime, text: str) -> datetime:
        if read.tzinfo is not None:
            return read.astimezone(UTC).replace(tzinfo=None)
        if text in known:
            return known[text]
        # as `local_to_utc`: the smaller of two offsets near a clock change
        offsets = (read.replace(tzinfo=local, fold=fold).utcoffset() for fold in (0, 1))
        return read - min(offset for offset in offsets if offset is not None)

    @lru_cache(maxsize=64)  # the bounds; rows are mostly met once
    def bound(text: str) -> datetime | None:
        return _read(text)

    def compare(a: str, b: str) -> int:
        if len(a) == len(b) == 19 and a[10] in " T" and b[10] in " T":
            x, y = f"{a[:10]} {a[11:]}", f"{b[:10]} {b[11:]}"
            return (x > y) - (x < y)
        left, right = _read(a), bound(b)
        if left is None or right is None:
            return (a > b) - (a < b)
        if (left.tzinfo is None) != (right.tzinfo is None):
            left, right = utc(left, a), utc(right, b)
        return (left > right) - (left < right)

    return compare


def _read(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _read_oddly_written(text)


def _read_oddly_written(text: str) -> datetime | None:
    if is_epoch_text(text):
        number = np.array([float(text)]) if "." in text else np.array([int(text)])
        moment = epoch_times(number)[0]
        return None if np.isnat(moment) else moment.astype(datetime).replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(_SPACED.sub("", text.strip()))
    except ValueError:
        return None
