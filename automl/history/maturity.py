"""Estimate the age at which labels are complete, where `history.label_time` says when each became known.

Where the delay depends on the outcome, young rows show almost only the outcome that is known early: a
cancellation is known when it happens, "not cancelled" only at the end. So rows are used for training and
evaluation once they are *mature*, and the maturity age is estimated from the delays of old rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.errors import HistoryError
from automl.history.rows.local_time import utc_naive
from automl.problem import Problem, Span

__all__ = [
    "Maturity",
    "complete_after",
    "estimate",
    "mature_rows",
    "missing_outcomes",
    "with_maturity",
]

SHARE = 0.99  # of each outcome's labels that are known at the maturity age
OLD = (0.5, 0.25, 0.1)  # oldest share of rows to estimate from; the first that suffices is used
LONGEST = 2 / 3  # of the youngest old row's age; as_of may have cut off longer delays
LEAST = 20  # rows of an outcome from which its quantile is estimated
LEAST_NEWER = 100  # ... among newer rows, where the quantile of few rows would only add noise
TENTHS = 10  # groups of outcomes of a regression
EXPECTED = 50  # rows of a class in a block; from here on, half of them missing is not chance
# the last cycle's age is kept if it is at most this share too long, so that blocks meet
SLACK = 0.25
STEPS = (7 * 86400, 86400, 6 * 3600, 3600, 15 * 60, 60, 1)  # seconds that an age is rounded up to
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Maturity:
    """The age from which on labels count as complete.

    `age` is None where every label is known with its row. `declared`: the problem file sets it.
    """

    age: Span | None
    seconds: float  # as measured, before it was rounded up
    declared: bool = False

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Maturity:
        """Read what `to_json` wrote."""
        age = Span.parse(content["age"]) if content["age"] else None
        return cls(age, content["seconds"], content["declared"])

    def to_json(self) -> dict[str, Any]:
        """As JSON, for the receipt of the cycle."""
        age = str(self.age) if self.age else None
        return {"age": age, "seconds": self.seconds, "declared": self.declared}

    @property
    def in_words(self) -> str:
        """As text, for logs, MLflow runs and `automl history`."""
        if self.age is None:
            return "complete at once"
        if self.declared:
            return f"complete after {self.age} (history.label_delay)"
        return (
            f"complete after {self.age} "
            f"(estimated: by then {SHARE:.0%} of the labels of each outcome were known)"
        )


def complete_after(
    ages: NDArray[np.int64], delays: NDArray[np.int64], outcomes: NDArray[np.int64]
) -> int | None:
    """The age by which 99 % of the labels of every outcome are known; None if it cannot be estimated.

    A delay is observed only if it is shorter than the age of its row, so young rows show only short delays.
    The oldest half of the rows is not affected as long as its quantile lies well below the age of its
    youngest row (at most two thirds of it); otherwise the oldest quarter, then the oldest tenth is tried.
    Each outcome has its own quantile, so that a rare and late outcome counts. Rows between the estimate and
    the old ones raise it where delays have grown since.

    Assumes that delays of an outcome change slowly compared with the age, and that every outcome becomes
    known within the history: delays longer than the history cannot be observed.

    Parameters
    ----------
    ages, delays
        Of the rows whose label is known, in one unit of time, `delays < ages`, shape (n_rows,) each.
    outcomes
        Number of the class, or of the tenth of the outcomes of a regression, shape (n_rows,).

    See Lagakos, Barraj and De Gruttola 1988, "Nonparametric analysis of truncated survival data, with
    application to AIDS", Biometrika 75, for what right truncation does to delays.
    """
    seen = _slowest(delays, outcomes, LEAST)  # never too long, for truncation hides long delays
    for share in OLD:
        youngest = np.quantile(ages, 1 - share, method="inverted_cdf")
        old = ages >= youngest
        age = max(seen, _slowest(delays[old], outcomes[old], LEAST))
        while age <= LONGEST * youngest:
            newer = (ages >= age) & ~old
            later = _slowest(delays[newer], outcomes[newer], LEAST_NEWER, alone=True)
            if later <= age:
                return age
            age = later
    return None


def estimate(
    frame: pd.DataFrame, problem: Problem, as_of: datetime, previous: Span | None = None
) -> Maturity:
    """The maturity age: `history.label_delay`, or an estimate from the delays of rows known at `as_of`.

    The age is rounded up to whole steps of at most a quarter of a block. `previous`, the age that the last
    cycle used, is kept if it is not too short and at most a quarter too long.

    Raises
    ------
    HistoryError
        The history is too short compared with the delays, and `history.label_delay` is not set.
    """
    h = problem.history
    if h.label_delay or not h.label_time:
        return Maturity(h.label_delay, h.label_delay.seconds if h.label_delay else 0.0, True)
    frame = frame[frame[h.label_time].notna()]  # placeholder dates are missing
    times = frame[h.time].to_numpy("datetime64[us]").astype("int64")
    delays = frame[h.label_time].to_numpy("datetime64[us]").astype("int64") - times
    ages = np.datetime64(utc_naive(as_of), "us").astype("int64") - times
    found = complete_after(ages, delays, _outcomes(frame[h.target], problem))
    if found is None:
        raise _refused(int(ages.max()), _slowest(delays, np.zeros_like(delays), LEAST))
    seconds = found / MICROSECONDS
    if seconds <= 0:
        return Maturity(None, seconds)
    return Maturity(_rounded(seconds, problem.validation.block, previous), seconds)


def with_maturity(problem: Problem, maturity: Maturity) -> Problem:
    """The problem with the maturity age as its label delay, so that `Problem.mature` uses it."""
    if problem.history.label_delay:
        return problem
    history = problem.history.model_copy(update={"label_delay": maturity.age})
    return problem.model_copy(update={"history": history})


def mature_rows(frame: pd.DataFrame, problem: Problem, as_of: datetime) -> pd.DataFrame:
    """The rows of a snapshot, ascending in time, that are mature at `as_of`.

    Raises
    ------
    HistoryError
        No row is mature.
    """
    times = frame[problem.history.time].to_numpy()
    end = problem.mature(as_of)
    count = int(np.searchsorted(times, utc_naive(end).to_datetime64()))
    if not count:
        raise HistoryError(
            f"history: found {len(frame)} labelled rows, all after {end:%Y-%m-%d %H:%M}; wanted rows older "
            f"than {problem.history.label_delay}, whose labels are complete",
            code="none_mature",
            next_step="Wait for more history, or increase history.keep.",
        )
    return frame if count == len(frame) else frame.iloc[:count]


def missing_outcomes(frame: pd.DataFrame, problem: Problem) -> list[str]:
    """Classes that are much rarer in the newest block of mature rows than before, as warnings.

    If the labels of one class suddenly take longer, the delays do not show it yet: none of them is known.
    """
    h = problem.history
    if not h.label_time or problem.task == "regression":
        return []
    times = frame[h.time]
    start = utc_naive(problem.validation.block.before(times.iloc[-1].to_pydatetime()))
    newest = frame.loc[times > start, h.target].value_counts()
    before = frame.loc[times <= start, h.target].value_counts(normalize=True)
    wanted = before * newest.sum()
    found = newest.reindex(before.index, fill_value=0)
    rare = before.index[(wanted >= EXPECTED) & (found < wanted / 2)]
    return [
        f"history.label_time: class {label!r} has {found[label]} rows in the newest block of mature rows, where "
        f"about {wanted[label]:.0f} were expected; if its labels now take longer, set history.label_delay"
        for label in rare.tolist()
    ]


def _slowest(
    delays: NDArray[np.int64], outcomes: NDArray[np.int64], least: int, *, alone: bool = False
) -> int:
    """The largest quantile of any outcome with `least` rows; unless `alone`, of all rows together too."""
    groups = [
        delays[outcomes == g]
        for g, n in zip(*np.unique(outcomes, return_counts=True), strict=True)
        if n >= least
    ]
    if len(delays) and not alone:
        groups.append(delays)
    quantiles = [int(np.quantile(g, SHARE, method="inverted_cdf")) for g in groups]
    return max(quantiles, default=np.iinfo("int64").min)


def _outcomes(target: pd.Series, problem: Problem) -> NDArray[np.int64]:
    """Number of the class, or of the tenth of a numeric target."""
    if problem.task != "regression":
        return np.asarray(pd.factorize(target)[0], dtype="int64")
    values = target.to_numpy("float64")
    edges = np.unique(np.quantile(values, np.arange(1, TENTHS) / TENTHS))
    return np.asarray(np.searchsorted(edges, values, side="left"), dtype="int64")


def _rounded(seconds: float, block: Span, previous: Span | None) -> Span:
    """The age rounded up to whole steps; or the previous age, if long enough and not much too long."""
    step = next((s for s in STEPS if s <= block.seconds / 4), STEPS[-1])
    if previous and seconds <= previous.seconds <= seconds + max(step, SLACK * seconds):
        return previous
    whole = -int(-seconds // step) * step
    unit, size = next(
        (u, s) for u, s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)) if whole % s == 0
    )
    return Span(whole // size, unit)


def _refused(history: int, slowest: int) -> HistoryError:
    return HistoryError(
        f"history.label_time: found labels that became known {_days(slowest)} after their row or later, "
        f"in a history of {_days(history)}; wanted a history long enough to estimate when labels are complete: "
        f"a tenth of its rows at least {1 / LONGEST:g} times as old as the slowest outcome's delay",
        code="label_time_open",
        next_step="Set history.label_delay as well: the age at which every label is known. Or increase "
        "history.keep, or wait for more history.",
    )


def _days(microseconds: int) -> str:
    hours = microseconds / MICROSECONDS / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
