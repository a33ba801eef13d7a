"""Calendar parts are those of a clock in the zone, came round twice, and are never the year."""

from __future__ import annotations

import math
import pickle
from datetime import UTC, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.modeling.features import carried

PERIODS = (1, 7, 31, 366)  # days until hour, weekday, day and day of year come round
TIMES = st.lists(
    st.datetimes(pd.Timestamp("1990-01-01"), pd.Timestamp("2090-01-01")), min_size=2, max_size=20
)


@given(TIMES)
@settings(deadline=None)
def test_calendar_parts_are_those_of_python_that_came_round_twice(times: list[Any]) -> None:
    frame = pd.DataFrame({"t": pd.Series(times).astype("datetime64[us]")})
    slow = [[t.hour + t.minute / 60, t.weekday(), t.day, t.timetuple().tm_yday] for t in times]
    days = (max(times) - min(times)) / timedelta(days=1)
    parts = [i for i in range(4) if len({row[i] for row in slow}) > 1 and days >= 2 * PERIODS[i]]
    found = carried.Calendar().fit(frame).transform(frame)
    wanted = np.array(slow)[:, parts] if parts else np.zeros((len(times), 1))
    assert found == pytest.approx(wanted)


@given(TIMES)
@settings(deadline=None)
def test_the_year_is_never_used(times: list[Any]) -> None:
    frame = pd.DataFrame({"t": pd.Series(times).astype("datetime64[us]")})
    calendar = carried.Calendar().fit(frame)
    repeats = pd.Timedelta(days=400 * 365 + 97)  # of the Gregorian calendar
    later = frame.assign(t=frame["t"] + repeats)
    assert np.array_equal(calendar.transform(later), calendar.transform(frame))
    assert np.array_equal(carried.Calendar().fit(later).transform(later), calendar.transform(frame))


@given(TIMES)
@settings(deadline=None)
def test_the_trend_is_the_days_since_1970_and_nothing_else_changes(times: list[Any]) -> None:
    frame = pd.DataFrame({"t": pd.Series([*times, None]).astype("datetime64[us]")})
    found = carried.Calendar(trend=True).fit(frame).transform(frame)
    days = [t.replace(tzinfo=UTC).timestamp() / 86_400 for t in times]
    assert found[:-1, -1] == pytest.approx(days)
    assert np.isnan(found[-1, -1])
    without = carried.Calendar().fit(frame)
    if any(without.moving_[0]):
        assert np.array_equal(found[:, :-1], without.transform(frame), equal_nan=True)
    else:  # no part moves: the trend is all there is
        assert found.shape[1] == 1


@given(TIMES, st.randoms(use_true_random=False), st.booleans())
@settings(deadline=None)
def test_iso_text_is_read_as_the_time_it_names(times: list[Any], random: Any, cyclic: bool) -> None:
    frame = pd.DataFrame({"t": pd.Series([*times, None]).astype("datetime64[us]")})
    written = [
        random.choice(
            [t.isoformat(), t.isoformat(" "), f"{t.isoformat()}Z", f"{t.isoformat()}+00:00"]
        )
        for t in times
    ]
    text = pd.DataFrame({"t": pd.Series([*written, None], dtype="str")})
    calendar = carried.Calendar(cyclic=cyclic)
    found = calendar.fit(frame).transform(frame)
    assert np.array_equal(calendar.transform(text), found, equal_nan=True)
    assert np.array_equal(calendar.fit(text).transform(frame), found, equal_nan=True)


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
)
@pytest.mark.parametrize("cyclic", [False, True])
def test_calendar_parts_are_those_of_a_clock_in_the_zone(zone: str, cyclic: bool) -> None:
    utc = pd.Series(pd.date_range("2024-01-01", periods=1600, freq="11h")).astype("datetime64[us]")
    local = [t.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) for t in utc]
    clock = pd.DataFrame({"t": pd.Series(local).astype("datetime64[us]")})
    frame = pd.DataFrame({"t": utc})
    calendar = carried.Calendar(cyclic=cyclic, zone=zone).fit(frame)
    assert all(calendar.moving_[0])
    plain = carried.Calendar(cyclic=cyclic).fit(clock)
    assert np.array_equal(calendar.transform(frame), plain.transform(clock))
    text = pd.DataFrame({"t": utc.astype("str")})
    assert np.array_equal(calendar.transform(text), calendar.transform(frame))


def test_the_trend_is_in_utc_in_every_zone() -> None:
    frame = pd.DataFrame({"t": pd.date_range("2026-10-20", periods=300, freq="h")})
    found = [
        carried.Calendar(trend=True, zone=zone).fit(frame).transform(frame)[:, -1]
        for zone in ("UTC", "Europe/Berlin")
    ]
    assert np.array_equal(*found)


def test_days_of_a_zone_have_no_hour() -> None:
    days = pd.Series(pd.date_range("2026-01-01", periods=365, tz="Europe/Berlin"))
    frame = pd.DataFrame({"t": days.dt.tz_convert("UTC").dt.tz_localize(None)})
    assert carried.Calendar(zone="Europe/Berlin").fit(frame).moving_[0][0] is False
    assert carried.Calendar().fit(frame).moving_[0][0] is True


def test_a_calendar_saved_before_there_were_zones_is_that_of_utc() -> None:
    frame = pd.DataFrame({"t": pd.date_range("2026-10-20", periods=300, freq="h")})
    calendar = carried.Calendar(cyclic=True).fit(frame)
    wanted = calendar.transform(frame)
    del calendar.zone, calendar.trend
    older = pickle.loads(pickle.dumps(calendar))
    assert "zone" not in vars(older)
    assert np.array_equal(older.transform(frame), wanted)
    assert repr(older) == "Calendar(cyclic=True)"


def test_the_circle_closes_at_midnight() -> None:
    hours = pd.DataFrame({"t": pd.date_range("2026-03-02", periods=72, freq="h")})
    circle = carried.Calendar(cyclic=True).fit(hours).transform(hours)[24:48, 1:3]
    steps = np.linalg.norm(circle - np.roll(circle, 1, axis=0), axis=1)
    assert steps == pytest.approx(np.full(24, 2 * math.sin(math.pi / 24)))


def test_a_missing_time_is_a_gap_in_every_part() -> None:
    frame = pd.DataFrame({"t": pd.to_datetime(["2026-01-01 05:00", None, "2026-02-03 06:30"])})
    found = carried.Calendar().fit(frame).transform(frame)
    assert found[[0, 2]].tolist() == [[5.0, 3.0], [6.5, 1.0]]  # no month and no year came round
    assert np.isnan(found[1]).all()


# ---------------------------------------------------------------- rows and matrices
