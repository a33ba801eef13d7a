"""Hourly temperatures with what was known a day before; `history.python` in problem.toml names `rows`."""

from datetime import datetime
from pathlib import Path

import pandas as pd

FILE = Path(__file__).parent / "weather.csv"
SHORTEST = 24  # hours; batch.horizon: a nearer value is not known for every hour of the batch
LAGS = (24, 25, 48, 72, 168)


def rows(as_of: datetime, until: datetime | None) -> pd.DataFrame:
    """An hour a row, up to the end of the batch; later temperatures are left empty."""
    table = pd.read_csv(FILE, parse_dates=["hour"]).set_index("hour")["temperature"]
    end = pd.Timestamp(until or as_of).tz_localize(None)
    hours = pd.date_range(table.index[0], end, freq="h", inclusive="left", name="hour")
    now = pd.Timestamp(as_of).tz_localize(None)
    series = table[table.index < now].reindex(hours)
    frame = pd.DataFrame({"temperature": series})
    for lag in LAGS:
        frame[f"{lag}h_before"] = series.shift(lag)
    known = series.shift(SHORTEST)
    frame["day_mean"] = known.rolling(24, min_periods=12).mean()
    frame["week_mean"] = known.rolling(168, min_periods=84).mean()
    frame["change"] = frame["24h_before"] - frame["48h_before"]
    frame["hour_of_day"] = hours.hour
    frame["day_of_year"] = hours.dayofyear
    return frame.reset_index()
