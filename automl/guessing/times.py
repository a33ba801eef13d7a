"""Which column says when a row became true, where several hold dates.

Evidence is added up in points; the column with the most is chosen, the first of equals. The reason names what
spoke for it, and the other columns of dates with what spoke against them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from automl.errors import ProblemError
from automl.guessing.frames import as_times, listed, time_candidates
from automl.guessing.sample import naive
from automl.problem import did_you_mean

__all__ = ["choose_time"]

NAMED = re.compile(
    r"(^|_)(time|date|datetime|timestamp|day|ts|at|on|when|dt|scheduled|created|opened|issued?|ordered|month|week|"
    r"quarter|year|period)(_|$)",
    re.IGNORECASE,
)
OTHERWISE = re.compile(
    r"(^|_)(birth\w*|dob|updated|modified|changed|last|end(ed)?|until|clos\w+|status|paid|due|expir\w+|deliver\w+|"
    r"resol\w+|cancel\w*|earliest|built|inserted|loaded)(_|$)",
    re.IGNORECASE,
)
NUMBERED = re.compile(
    r"(^|_)(time|date|datetime|timestamp|day|ts|year|yr|month|epoch)(_|$)", re.IGNORECASE
)
ORDERED = (
    0.99  # share of rows in order from which on the table is sorted by a column, but for late rows
)
GAPS = 0.01  # share of rows without a value; a row without a time is set aside
LATER = 0.9  # share of rows with a time after another column's
POINTS = {"order": 4, "name": 2, "otherwise": -2, "gaps": -4, "later": -2, "distinct": 1}


@dataclass(slots=True)
class _Candidate:
    """A column of dates with what speaks for it and against it."""

    name: str
    times: pd.Series
    points: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, what: str, reason: str) -> None:
        self.points += POINTS[what]
        self.reasons.append(reason)


def choose_time(frame: pd.DataFrame, given: str = "", *, target: str = "") -> tuple[str, str]:
    """The column of times, and why.

    Raises
    ------
    ProblemError
        The given column is missing, or no column holds dates.
    """
    if given:
        if given not in map(str, frame.columns):
            raise ProblemError(
                f"time {given!r} is not a column; found {listed(frame.columns)}"
                f"{did_you_mean(given, [str(n) for n in frame.columns])}",
                code="missing_column",
                next_step="Name the column that says when each row became true.",
            )
        return given, "given"
    found = _candidates(frame, target)
    if not found:
        raise ProblemError(
            "time: found no column of dates; wanted the column that says when each row became true. Models are "
            "validated on rows later than those they learn from",
            code="no_time",
            next_step=f"Name it: --time COLUMN, or time=... in Python. Columns are {listed(frame.columns)}. "
            "A table without any such column cannot be used.",
        )
    if len(found) == 1:
        return found[0].name, "the only column of dates"
    _compare(found)
    best = max(found, key=lambda c: c.points)
    others = "; ".join(
        f"{c.name!r}{': ' + ', '.join(c.reasons) if c.reasons else ''}"
        for c in found
        if c is not best
    )
    return best.name, f"{', '.join(best.reasons) or 'the first'}; not {others}"


def _candidates(frame: pd.DataFrame, target: str) -> list[_Candidate]:
    """Columns of dates or of texts that spell them; without any, numbers that are named as times."""
    names = [n for n in time_candidates(frame) if n != target]
    if not names:
        numbers = [str(n) for n in frame.columns if pd.api.types.is_numeric_dtype(frame[n].dtype)]
        names = [n for n in numbers if n != target and NUMBERED.search(n)]
    found = []
    for name in names:
        try:
            times, _ = as_times(frame[name])
        except ProblemError:  # numbers that are no times
            continue
        found.append(_Candidate(name, naive(times)))
    return found


def _compare(found: list[_Candidate]) -> None:
    """Give each candidate its points."""
    order = {c.name: _order(c.times) for c in found}
    best = max(order.values())
    most = max(c.times.nunique() for c in found)
    for candidate in found:
        times = candidate.times
        if order[candidate.name] == best >= ORDERED:
            candidate.add("order", "rows are in its order")
        if OTHERWISE.search(candidate.name):
            candidate.add("otherwise", "called as dates of other events are")
        elif NAMED.search(candidate.name):
            candidate.add("name", "called as times are")
        if (missing := times.isna().mean()) > GAPS:
            candidate.add("gaps", f"missing in {missing:.0%}")
        if times.nunique() == most:
            candidate.add("distinct", "most distinct times")
    _mark_later({c.name: c for c in found})


def _mark_later(found: Mapping[str, _Candidate]) -> None:
    """Columns that are mostly after a complete column in whose order the rows are, or that is called a time."""
    complete = [c for c in found.values() if c.times.notna().mean() >= 1 - GAPS and c.points > 0]
    for candidate in found.values():
        for other in complete:
            lags = (candidate.times - other.times).dropna()
            if other is not candidate and len(lags) and (lags > pd.Timedelta(0)).mean() > LATER:
                candidate.add("later", f"later than {other.name!r}")
                break


def _order(times: pd.Series) -> float:
    """Share of rows that are not before their predecessor, or not after it."""
    steps = times.dropna().diff().dropna()
    zero = pd.Timedelta(0)
    if not (steps != zero).any():
        return 0.0
    return float(max((steps >= zero).mean(), (steps <= zero).mean()))
