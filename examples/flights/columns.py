"""What is known of a flight a week before it departs: pure functions from frames to one frame.

Nothing here reads a file or a clock. A lagged column of a flight scheduled on UTC day D looks at
weather up to day D - 8 and at arrivals up to day D - 9, so it is the same for every moment the
prediction may be made at: up to `HORIZON_DAYS` before the departure, with outcomes known
`LABEL_DELAY_DAYS` after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.tseries.holiday import USFederalHolidayCalendar

__all__ = [
    "HORIZON_DAYS",
    "LABEL_DELAY_DAYS",
    "LATE_MINUTES",
    "DailySums",
    "arrivals_before",
    "flights_table",
    "outcomes",
    "schedule",
    "scheduled_utc",
    "weather_before",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

HORIZON_DAYS = 7  # problem.toml: batch.horizon
LABEL_DELAY_DAYS = 1  # problem.toml: history.label_delay
LATE_MINUTES = 15  # the US Department of Transportation calls a flight late from 15 minutes on

# A whole day more than asked: a day counts only when it had ended before the earliest as_of.
WEATHER_LAG_DAYS = HORIZON_DAYS + 1
ARRIVAL_LAG_DAYS = HORIZON_DAYS + LABEL_DELAY_DAYS + 1

WEATHER_DAYS = 7  # measured: 28 days say less about the coming week
SHORT_DAYS, LONG_DAYS = 28, 84  # four weeks for what changed, twelve for what stays
PRIOR_FLIGHTS = 20  # about three weeks of a daily flight; a share of fewer says little
HOLIDAY_REACH_DAYS = 7  # farther away the distance only says which week of the year it is
DAY_MINUTES = 24 * 60

NEW_YORK = "America/New_York"
NEW_YORK_STANDARD_HOURS = -5
# Destinations that airports.csv lacks (Puerto Rico, US Virgin Islands): no summer time there.
ATLANTIC_STANDARD_HOURS = dict.fromkeys(["BQN", "PSE", "SJU", "STT"], -4)


@dataclass(frozen=True, slots=True, eq=False)
class DailySums:
    """Sums of whole numbers by group and day, kept as running totals.

    `totals` has shape (n_groups, n_days + 1); column d holds the sum over all days before d.
    Running totals of integers are exact, so nothing later can touch an earlier window, not even
    by rounding.
    """

    totals: Ints

    @classmethod
    def of(cls, group: Ints, day: Ints, value: Ints, shape: tuple[int, int]) -> DailySums:
        """Add up `value` (n_rows,) by `group` and `day`; `shape` is (n_groups, n_days)."""
        sums = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
        np.add.at(sums, (group, day + 1), value)
        return cls(sums.cumsum(axis=1))

    def window(self, group: Ints, day: Ints, lag: int, days: int) -> Ints:
        """Sum over the `days` days that end with day - lag, that day included."""
        last = self.totals.shape[1] - 1
        end = np.clip(day - lag + 1, 0, last)
        start = np.clip(day - lag + 1 - days, 0, last)
        return self.totals[group, end] - self.totals[group, start]


def flights_table(
    flights: pd.DataFrame,
    weather: pd.DataFrame,
    airports: pd.DataFrame,
) -> pd.DataFrame:
    """One row per flight: key, time, what is known a week ahead, and what happened.

    Parameters
    ----------
    flights, weather, airports
        As in the data package: flights.csv.zip, weather.csv, airports.csv.

    Raises
    ------
    ValueError
        When the local departure times disagree with the source's own `time_hour`, or a
        destination has no known UTC offset.
    """
    flights = flights.reset_index(drop=True)
    known = schedule(flights, airports)
    happened = outcomes(flights)
    table = pd.concat(
        [
            known,
            weather_before(known, weather),
            arrivals_before(known, happened),
            happened,
        ],
        axis=1,
    )
    return table.sort_values(["scheduled", "flight_id"], ignore_index=True)


def scheduled_utc(flights: pd.DataFrame) -> pd.Series:
    """Scheduled departure in UTC, as naive timestamps.

    The source has New York clock time. A clock time that occurs twice (2013-11-03 01:00-01:59) or
    never (2013-03-10 02:00-02:59) is read with the offset that held before the change: the first
    of the two, or an hour later on the new clock. In 2013 no flight was scheduled in these hours.
    """
    aware = _local_departure(flights).dt.tz_localize(
        NEW_YORK, ambiguous=True, nonexistent=pd.Timedelta(hours=1)
    )
    return aware.dt.tz_convert("UTC").dt.tz_localize(None)


def schedule(flights: pd.DataFrame, airports: pd.DataFrame) -> pd.DataFrame:
    """Key, time and every column that the published timetable gives.

    Source, for the distances between days: `pandas.tseries.holiday.USFederalHolidayCalendar`.
    """
    local = _local_departure(flights)
    date = local.dt.normalize()
    scheduled = scheduled_utc(flights)
    _refuse_other_hours(scheduled, flights["time_hour"])
    departure, arrival = _minutes(flights["sched_dep_time"]), _minutes(flights["sched_arr_time"])
    hours = _hours_between(local - scheduled, flights["dest"], airports)
    origin = flights["origin"]
    number = flights["flight"].astype("int64").astype("str")
    return pd.DataFrame(
        {
            # carrier and number fly once a day from an airport, so this names the flight for good
            "flight_id": date.dt.strftime("%Y-%m-%d-") + flights["carrier"] + number + "-" + origin,
            "scheduled": scheduled,
            "carrier": flights["carrier"],
            "flight": number,
            "origin": origin,
            "dest": flights["dest"],
            "distance": flights["distance"].astype("int64"),
            "departure_minute": departure,
            "arrival_minute": arrival,
            "block_minutes": (arrival - departure - 60 * hours) % DAY_MINUTES,
            "weekday": local.dt.day_of_week.astype("int64"),
            "holiday_days": _days_from_holiday(date),
            "hour_departures": local.groupby([origin, local.dt.floor("h")]).transform("size"),
            "departures_before": local.groupby([origin, date]).rank("min").astype("int64") - 1,
        }
    )


def weather_before(known: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """Share of hours with rain or snow at the origin, in the week that ended a week before.

    Null when no hour of that week was observed.
    """
    origins = pd.Index(known["origin"].unique())
    observed_at = pd.to_datetime(weather["time_hour"], utc=True).dt.tz_localize(None)
    first = min(known["scheduled"].min(), observed_at.min()).normalize()
    here = origins.get_indexer(pd.Index(weather["origin"]))
    use = here >= 0  # weather of an airport without departures is left out
    day, observed = _day(known["scheduled"], first), _day(observed_at, first)
    shape = (len(origins), int(max(day.max(), observed.max())) + 1)
    origin = origins.get_indexer(pd.Index(known["origin"]))

    def total(value: pd.Series) -> Ints:
        counted = value.to_numpy(dtype=np.int64)[use]
        sums = DailySums.of(here[use], observed[use], counted, shape)
        return sums.window(origin, day, WEATHER_LAG_DAYS, WEATHER_DAYS)

    share = _share(total(weather["precip"] > 0), total(weather["precip"].notna()))
    return pd.DataFrame({f"rain_share_{WEATHER_DAYS}d": share}, index=known.index)


def arrivals_before(known: pd.DataFrame, happened: pd.DataFrame) -> pd.DataFrame:
    """How the same route, flight number, and carrier in that hour arrived in past weeks.

    `*_excess_*`: late arrivals beyond the share of all flights of the same window, per arrival,
    after adding `PRIOR_FLIGHTS` arrivals at that common share. Relative, because the plain share
    mostly tells which week it is: with one year of data a model learns the week by heart.
    `*_lost_minutes_*`: mean minutes lost between departure and arrival. Null where the window has
    no arrival. `flight_arrivals_*`: how many arrivals of the flight number the window has.
    """
    day = _day(known["scheduled"], known["scheduled"].min().normalize())
    arrived = happened["late"].notna().to_numpy()
    late = happened["late"].fillna(0).to_numpy(dtype=np.int64)
    lost = _minutes_lost(known, happened)
    timed = lost.notna().to_numpy()
    minutes = lost.fillna(0).to_numpy(dtype=np.int64)
    groups = _groups(known)
    found: dict[str, Floats | Ints] = {}

    def windows(name: str, value: Ints, counted: npt.NDArray[np.bool_], days: int) -> Ints:
        group = groups[name]
        shape = (int(group.max()) + 1, int(day.max()) + 1)
        sums = DailySums.of(group[counted], day[counted], value[counted], shape)
        return sums.window(group, day, ARRIVAL_LAG_DAYS, days)

    one = np.ones(len(known), dtype=np.int64)
    common = {
        days: _share(windows("all", late, arrived, days), windows("all", one, arrived, days))
        for days in (SHORT_DAYS, LONG_DAYS)
    }
    for name in ("route", "flight", "carrier_hour"):
        for days, share in common.items():
            count = windows(name, one, arrived, days)
            beyond = windows(name, late, arrived, days) - share * count
            excess = beyond / (count + PRIOR_FLIGHTS)
            found[f"{name}_excess_{days}d"] = np.where(count > 0, excess, np.nan)
    for name in ("route", "flight"):
        total = windows(name, minutes, timed, SHORT_DAYS)
        count = windows(name, one, timed, SHORT_DAYS)
        found[f"{name}_lost_minutes_{SHORT_DAYS}d"] = _share(total, count)
    found[f"flight_arrivals_{SHORT_DAYS}d"] = windows("flight", one, arrived, SHORT_DAYS)
    return pd.DataFrame(found, index=known.index)


def outcomes(flights: pd.DataFrame) -> pd.DataFrame:
    """What is known only afterwards; `late` is null for cancelled and diverted flights."""
    arr_delay = flights["arr_delay"].astype("Int64")
    return pd.DataFrame(
        {
            "dep_delay": flights["dep_delay"].astype("Int64"),
            "arr_delay": arr_delay,
            "late": (arr_delay >= LATE_MINUTES).astype("Int64"),
        }
    )


def _local_departure(flights: pd.DataFrame) -> pd.Series:
    date = pd.to_datetime(flights[["year", "month", "day"]])
    return date + pd.to_timedelta(_minutes(flights["sched_dep_time"]), unit="m")


def _minutes(clock: pd.Series) -> pd.Series:
    """Minutes after midnight of a clock time written as 517 for 05:17."""
    return (clock // 100 * 60 + clock % 100).astype("int64")


def _refuse_other_hours(scheduled: pd.Series, time_hour: pd.Series) -> None:
    """The source gives the UTC hour too; two ways to the same hour must meet."""
    theirs = pd.to_datetime(time_hour, utc=True).dt.tz_localize(None)
    wrong = scheduled.dt.floor("h") != theirs
    if wrong.any():
        first = wrong.idxmax()
        raise ValueError(
            f"flights: {wrong.sum()} departures disagree with time_hour; "
            f"first: computed {scheduled[first]}, time_hour {time_hour[first]}"
        )


def _hours_between(offset: pd.Series, dest: pd.Series, airports: pd.DataFrame) -> pd.Series:
    """Hours by which clocks at `dest` are ahead of New York's at departure.

    Assumes that both change to summer time at the same moment. They do so within hours, at night;
    a flight in the air then has a block time one hour off.
    """
    known = airports.set_index("faa")
    standard = dest.map(known["tz"]).fillna(dest.map(ATLANTIC_STANDARD_HOURS))
    if standard.isna().any():
        missing = sorted(dest[standard.isna()].unique())
        raise ValueError(f"airports: no UTC offset for {', '.join(missing)}")
    new_york = offset // pd.Timedelta(hours=1)
    summer = (new_york != NEW_YORK_STANDARD_HOURS) & (dest.map(known["dst"]) == "A")
    return standard.astype("int64") + summer.astype("int64") - new_york


def _days_from_holiday(date: pd.Series) -> Ints:
    """Days since (positive) or until (negative) the nearest US federal holiday, within a week.

    Halfway between two holidays the coming one counts.
    """
    reach = pd.Timedelta(days=366)  # a year always holds a holiday before and one after
    calendar = USFederalHolidayCalendar()
    holidays = calendar.holidays(date.min() - reach, date.max() + reach)
    first = holidays[0]
    days, marks = _day(date, first), _day(holidays.to_series(), first)
    following = np.searchsorted(marks, days)
    until, since = marks[following] - days, days - marks[following - 1]
    nearest = np.where(until <= since, -until, since)
    return np.clip(nearest, -HOLIDAY_REACH_DAYS, HOLIDAY_REACH_DAYS)


def _day(at: pd.Series, first: pd.Timestamp) -> Ints:
    day: Ints = ((at - first) // pd.Timedelta(days=1)).to_numpy(dtype=np.int64)
    return day


def _share(total: Ints, count: Ints) -> Floats:
    """`total` / `count`, null where nothing was counted."""
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _groups(known: pd.DataFrame) -> dict[str, Ints]:
    """Who shares a past: group numbers (n_rows,) by name."""
    hour = known["departure_minute"] // 60
    keys = {
        "all": known["origin"].str[:0],
        "route": known["origin"] + "-" + known["dest"],
        "flight": known["carrier"] + known["flight"],
        "carrier_hour": known["carrier"] + hour.astype("str"),
    }
    return {name: pd.factorize(key)[0].astype(np.int64) for name, key in keys.items()}


def _minutes_lost(known: pd.DataFrame, happened: pd.DataFrame) -> pd.Series:
    """Arrival delay minus departure delay; null when not known within the label delay.

    Whether a flight is late shows 15 minutes after its scheduled arrival, always within a day; by
    how much may take longer, in 2013 for one flight.
    """
    lost = happened["arr_delay"] - happened["dep_delay"]
    landed = known["block_minutes"] + happened["arr_delay"]
    return lost.where((landed < LABEL_DELAY_DAYS * DAY_MINUTES).fillna(False))
