"""The rows that guesses are made from, with what several guesses need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from automl.errors import ProblemError
from automl.guessing.frames import Table
from automl.history.contract import MIN_ROWS
from automl.problem import Span

__all__ = ["TableSample", "few_rows", "naive", "refuse_times"]


@dataclass(frozen=True)
class TableSample:
    """A table, its target, and what is known already, by key of the problem file.

    `every` is 1 for a whole table; 4 if every fourth row was read.
    """

    table: Table
    target: str
    given: Mapping[str, Any]
    every: int = 1

    @property
    def frame(self) -> pd.DataFrame:
        """The rows."""
        return self.table.frame

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which days begin."""
        return ZoneInfo(self.given.get("history.timezone", self.table.timezone))

    @property
    def features(self) -> list[str]:
        """Columns besides target and time."""
        return [n for n in self.frame.columns if n not in (self.target, self.table.time)]

    @cached_property
    def times(self) -> pd.Series:
        """Times of all rows, UTC without zone."""
        return naive(self.frame[self.table.time])

    @cached_property
    def truth(self) -> pd.Series:
        """The target of the labelled rows."""
        return self.frame[self.target].dropna()

    @cached_property
    def labelled(self) -> pd.Series:
        """Times of the labelled rows."""
        return self.times[self.truth.index].dropna()

    @cached_property
    def to_predict(self) -> pd.Series:
        """Times of the rows without a target that are later than every labelled row."""
        missing = self.frame[self.target].isna()
        return self.times[missing & (self.times > self.labelled.max())]

    @cached_property
    def seconds(self) -> float:
        """From the first to the last row."""
        return max(1.0, float((self.times.max() - self.times.min()).total_seconds()))

    def rows_in(self, span: str) -> float:
        """Labelled rows in such a span, on average."""
        rows = len(self.labelled) * self.every
        return rows * Span.parse(span).seconds / self.seconds


def refuse_times(sample: TableSample) -> None:
    """Refuse a table whose rows all have one time, or that has too few labelled rows.

    Raises
    ------
    ProblemError
        So it is.
    """
    times = sample.times.dropna()
    if times.nunique() < 2:
        raise ProblemError(
            f"time {sample.table.time!r}: all rows hold {times.iloc[0]}; wanted different times, because models "
            "are validated on rows later than those they learn from",
            code="single_time",
            next_step="Name another column as time, or bring rows of other times.",
        )
    if len(sample.truth) < MIN_ROWS:
        raise few_rows(sample)


def few_rows(sample: TableSample) -> ProblemError:
    """The error for a table with too few rows before those to predict."""
    return ProblemError(
        f"found {len(sample.truth)} rows with a target; wanted at least {MIN_ROWS} before those to predict",
        code="few_rows",
        next_step="Bring more rows.",
    )


def naive(times: pd.Series) -> pd.Series:
    """Times as UTC without zone."""
    aware = isinstance(times.dtype, pd.DatetimeTZDtype)
    return times.dt.tz_convert("UTC").dt.tz_localize(None) if aware else times
