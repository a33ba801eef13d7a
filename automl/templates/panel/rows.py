"""Departures of every airline and airport with what was known a week before; problem.toml names `rows`."""

from datetime import datetime
from pathlib import Path

import pandas as pd

FILE = Path(__file__).parent / "departures.csv"
HORIZON = 7  # days; batch.horizon: a nearer value is not known for every day of the batch
SERIES = ["carrier", "origin"]


def rows(as_of: datetime, until: datetime | None) -> pd.DataFrame:
    """A day and series a row, up to the end of the batch; later numbers are left empty."""
    table = pd.read_csv(FILE, parse_dates=["day"])
    end = pd.Timestamp(until or as_of).tz_localize(None)
    days = pd.date_range(table["day"].min(), end, freq="D", inclusive="left", name="day")
    now = pd.Timestamp(as_of).tz_localize(None)
    known = table[table["day"] < now].set_index(["day", *SERIES])["departures"].unstack(SERIES)
    wide = known.reindex(days)  # a column per series
    past = wide.shift(HORIZON)
    frame = wide.melt(ignore_index=False, value_name="departures").reset_index()
    frame["week_before"] = past.melt()["value"]
    frame["week_mean"] = past.rolling(7, min_periods=3).mean().melt()["value"]
    frame["month_mean"] = past.rolling(28, min_periods=7).mean().melt()["value"]
    frame["all_week_mean"] = frame.groupby("day")["week_mean"].transform("mean")
    # the key identifies a series; columns of other names are learned from
    frame["airline"], frame["airport"] = frame["carrier"], frame["origin"]
    frame["weekday"] = frame["day"].dt.day_name()
    return frame
