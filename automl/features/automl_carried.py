"""Steps that travel with a model as code; they import nothing but numpy, pandas and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

__all__ = ["Calendar"]

PARTS = {  # name -> (period in its own unit, for the circle; period in days)
    "hour": (24.0, 1),
    "weekday": (7.0, 7),
    "day": (31.0, 31),
    "yearday": (366.0, 366),
}


class Calendar(TransformerMixin, BaseEstimator):
    """Times as hour, weekday, day of month and day of year; as sine and cosine too if `cyclic`.

    Takes datetimes or ISO text, shape (n_rows, n_times), naive values read as UTC. A part is used only
    if the training rows saw its period at least twice: with less, it tells rows apart by when they
    happened and says nothing about the rows to come. The year is left out always, for the same reason.
    """

    def __init__(self, cyclic: bool = False) -> None:
        self.cyclic = cyclic

    def fit(self, X: Any, y: Any = None) -> Calendar:  # noqa: ARG002  scikit-learn passes it
        """Remember which parts move."""
        frame = pd.DataFrame(X)
        self.n_features_in_ = frame.shape[1]
        self.moving_ = [_moving(frame.iloc[:, i]) for i in range(frame.shape[1])]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Shape (n_rows, n_parts); a missing time is NaN throughout."""
        frame = pd.DataFrame(X)
        columns: list[np.ndarray] = []
        for i, moving in enumerate(self.moving_):
            for values, (period, _), moves in zip(
                _parts(frame.iloc[:, i]), PARTS.values(), moving, strict=True
            ):
                if moves:
                    columns.append(values)
                    if self.cyclic:
                        angle = 2 * np.pi * values / period
                        columns += [np.sin(angle), np.cos(angle)]
        return np.column_stack(columns) if columns else np.zeros((len(frame), 1))


def _moving(column: pd.Series) -> list[bool]:
    """Which parts vary, and went through their period twice, in the order of `PARTS`."""
    times = _times(column)
    days = (times.max() - times.min()) / pd.Timedelta(days=1) if times.notna().any() else 0.0
    return [
        bool(days >= 2 * period and np.nanmin(values) < np.nanmax(values))
        for values, (_, period) in zip(_parts(column), PARTS.values(), strict=True)
    ]


def _parts(column: pd.Series) -> list[np.ndarray]:
    times = _times(column)
    hour = times.dt.hour + times.dt.minute / 60
    parts = (hour, times.dt.dayofweek, times.dt.day, times.dt.dayofyear)
    return [part.to_numpy(dtype="float64", na_value=np.nan) for part in parts]


def _times(column: pd.Series) -> pd.Series:
    # a named format: pandas would guess one from the first value and refuse a shorter or longer second
    form = None if pd.api.types.is_datetime64_any_dtype(column) else "ISO8601"
    return pd.to_datetime(column, utc=True, format=form)
