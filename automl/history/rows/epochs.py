"""Numbers that stand for times: seconds, milli-, micro- or nanoseconds since 1970 in UTC, and Julian days.

Each number is read by its own size, so that no row depends on another. Only times from 1990 to 2100 are
recognised: so no range holds a date written as 20260302 or 202603020600.
"""

from __future__ import annotations

import re
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.history.rows.local_time import utc_naive

__all__ = ["LARGEST", "epoch_numbers", "epoch_times", "is_epoch_text"]

FIRST, LAST = 631_152_000, 4_102_444_800  # seconds: 1990 and 2100
JULIAN_MS = 210_866_760_000_000  # from the beginning of Julian days to 1970
DAY_MS = 86_400_000
PER_SECOND = {"seconds": 1, "millis": 10**3, "micros": 10**6, "nanos": 10**9}
# the largest size of a number of each unit; the order is that of the units
LARGEST = {"days": 1e7, "seconds": 1e11, "millis": 1e14, "micros": 1e17, "nanos": float("inf")}
_TEXT = re.compile(r"\d{9,19}(\.\d+)?|\d{7}\.\d+")


def is_epoch_text(text: object) -> bool:
    """Whether a text may spell such a number."""
    return isinstance(text, str) and bool(_TEXT.fullmatch(text.strip()))


def epoch_times(numbers: NDArray[np.number]) -> NDArray[np.datetime64]:
    """The numbers as times in UTC; NaT where a number is none of these.

    Examples
    --------
    >>> epoch_times(np.array([1772424000, 1772424000500, 20260302])).astype("str").tolist()
    ['2026-03-02T04:00:00.000000', '2026-03-02T04:00:00.500000', 'NaT']
    """
    times = np.full(len(numbers), np.datetime64("NaT"), dtype="datetime64[us]")
    whole = np.issubdtype(numbers.dtype, np.integer)
    for per_second in PER_SECOND.values():
        inside = (numbers >= FIRST * per_second) & (numbers < LAST * per_second)
        found = numbers[inside]
        if whole:
            micros = found * (10**6 // per_second) if per_second <= 10**6 else found // 1000
        else:
            micros = np.round(found * (10**6 / per_second)).astype("int64")
        times[inside] = micros.astype("int64").astype("datetime64[us]")
    millis = np.where(np.isfinite(numbers.astype("float64")), numbers, 0).astype("float64") * DAY_MS
    millis = np.round(millis) - JULIAN_MS
    julian = (millis >= FIRST * 1000) & (millis < LAST * 1000)
    times[julian] = (millis[julian].astype("int64") * 1000).astype("datetime64[us]")
    return times


def epoch_numbers(moment: datetime) -> dict[str, int | float]:
    """A moment as a number of each unit."""
    micros = int((utc_naive(moment) - pd.Timestamp("1970-01-01")) // pd.Timedelta("1us"))
    numbers: dict[str, int | float] = {"days": (micros / 1000 + JULIAN_MS) / DAY_MS}
    for unit, per_second in PER_SECOND.items():
        number = micros * per_second
        exact = number // 10**6 if number % 10**6 == 0 else number / 10**6
        numbers[unit] = exact if abs(exact) < 2**63 else float(exact)
    return numbers
