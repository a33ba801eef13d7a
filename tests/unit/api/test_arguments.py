"""Times and durations as callers pass them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import pytest

from automl.api.arguments import Moment, duration, moment_of, run_options
from automl.errors import ProblemError

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-02",
        "2026-03-02T01:00+01:00",
        date(2026, 3, 2),
        datetime(2026, 3, 2),  # noqa: DTZ001  without a zone is what is tried
        datetime(2026, 3, 2, 1, tzinfo=timezone(timedelta(hours=1))),
        pd.Timestamp("2026-03-02"),
        pd.Timestamp("2026-03-02 01:00", tz="Europe/Zurich"),
    ],
    ids=str,
)
def test_every_way_to_write_a_time_is_the_same_moment(value: Moment) -> None:
    assert moment_of(value) == MIDNIGHT


@pytest.mark.parametrize("value", ["monday", 20260302, pd.NaT, ["2026-03-02"]], ids=str)
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ProblemError, match=r"as_of: found .*; wanted a time such as 2013-11-04"):
        moment_of(value)  # type: ignore[arg-type]


def test_durations_are_texts() -> None:
    assert str(duration("90s", "budget")) == "90s"
    with pytest.raises(ProblemError, match="budget: found 'fast'; wanted a duration"):
        run_options(budget="fast")


def test_an_unknown_plan_is_refused() -> None:
    with pytest.raises(ProblemError, match="plan: found 'quick'; wanted one of auto, refit"):
        run_options(plan="quick")
