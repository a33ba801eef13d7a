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
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import sqlalchemy as sa

from automl.history.rows.epochs import LARGEST, epoch_numbers, epoch_times, is_epoch_text
from automl.history.rows.local_time import local_bound, utc_naive
from automl.history.sources.parameters import uses, without_colons

__all__ = ["comparable", "is_newer", "prepare", "variants"]

BOUNDS = ("as_of", "until", "since")
COLLATION = "automl_time"
SORTED = "automl_sorted"
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
    compare = _comparison(zone, moments)
    raw.create_collation(COLLATION, compare)
    raw.create_function(SORTED, 2, lambda cell, bound: _sorted(compare, cell, bound))


def comparable(query: str) -> str:
    """The query with bounds that compare right with texts and numbers.

    Examples
    --------
    >>> comparable("select * from t where date(:as_of) > day")
    'select * from t where (date(:as_of) collate automl_time) > day'
    """
    pieces, end = [], 0
    for use in uses(query):
        known = use.name.startswith(BOUNDS)  # another is refused by its own name
        if not (known and use.compared) or use.whole[0] < end:
            continue
        value = f"({query[slice(*use.whole)]} collate {COLLATION})"
        if use.bare:
            value = _as_held(without_colons(use.operand), use.name)
        pieces += [without_colons(query[end : use.whole[0]]), value]
        end = use.whole[1]
    return "".join([*pieces, without_colons(query[end:])])


def _as_held(operand: str, name: str) -> str:
    """The bound as the cell of `operand` holds its time: a text that sorts right, or a number of the cell's unit.

    Texts that begin with year, month and day sort as times do, but for those within two days of the bound. As a
    query of its own the value is made last, for the rows that other conditions leave.
    """
    return (
        f"(select case when {operand} not between :{name}_low and :{name}_high and {_dated(operand)} then :{name} "
        f"when typeof({operand}) = 'text' then {SORTED}({operand}, :{name}) else {_number(operand, name)} end)"
    )


def is_newer(column: str, name: str, *, upper: bool) -> str:
    """A condition on a time column, which may hold for further rows: those of a day, and those of odd texts.

    An index of the column serves a lower bound. Numbers sort before all texts, texts with spaces in front before
    `0`, and numbers written as texts from `1` to `2` until the year 2033; other texts of the same year sort after
    the bound.
    """
    sign = "<" if upper else ">="
    odd = f"typeof({column}) = 'text' and (length({column}) < 9 or {column} glob '*[^0-9.]*')"
    number = f"cast({column} as real)"
    exact = (
        f"case when {_dated(column)} then {column} {sign} :{name} when {odd} then 1 "
        f"else {number} {sign} {_number(number, name)} end"
    )
    if upper:
        return exact
    elsewhere = (f"{column} < '0'", f"{column} >= '1' and {column} < '2'")
    return (
        " or ".join([f"({column} >= :{name}", *(f"({where} and {exact})" for where in elsewhere)])
        + ")"
    )


def _dated(operand: str) -> str:
    """Whether a text begins with year, month and day."""
    return f"substr({operand}, 8, 1) = '-'"


def _number(operand: str, name: str) -> str:
    """The bound as a number of the unit that the size of `operand` shows."""
    *sized, largest = LARGEST
    units = " ".join(
        f"when abs({operand}) < {LARGEST[unit]:.0f} then :{name}_{unit}" for unit in sized
    )
    return f"case {units} else :{name}_{largest} end"


def variants(bounds: Mapping[str, object], zone: str) -> dict[str, int | float | str]:
    """Those bounds that are moments as numbers, and the days around them."""
    found: dict[str, int | float | str] = {}
    for name, moment in bounds.items():
        if isinstance(moment, datetime):
            found |= {f"{name}_{unit}": number for unit, number in epoch_numbers(moment).items()}
            local = local_bound(moment, zone, upper=False)
            for end, days in (("low", -2), ("high", 3)):
                found[f"{name}_{end}"] = f"{(local + timedelta(days=days)).isoformat():.10}"
    return found


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
        if len(a) == len(b) == 19 and a[4] == b[4] and a[10] in " T" and b[10] in " T":
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
        return datetime.fromisoformat(_SPACED.sub("", text.strip()).replace("/", "-"))
    except ValueError:  # what else a pull reads, such as nanoseconds
        stamp = pd.to_datetime(text, format="ISO8601", errors="coerce")
        return None if pd.isna(stamp) else stamp.to_pydatetime(warn=False)


def _sorted(compare: Callable[[str, str], int], cell: str, bound: str) -> str:
    """A text that sorts with the cell as the bound's time does with the cell's time."""
    order = compare(cell, bound)
    return cell if order == 0 else f"{cell}~" if order < 0 else ""
