"""Steps that travel with a model as code; they import nothing but numpy, pandas and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

__all__ = ["Calendar"]

PARTS = {  # name -> period in its own unit, for the circle
    "hour": 24.0,
    "weekday": 7.0,
    "day": 31.0,
    "yearday": 366.0,
}


class Calendar(TransformerMixin, BaseEstimator):
    """Times as hour, weekday, day of month and day of year; as sine and cosine too if `cyclic`.

    Takes datetimes or ISO text, shape (n_rows, n_times), naive values read as UTC. A part that never
    changes in the training rows is left out. The year is left out always: no later year was trained on.
    """

    def __init__(self, cyclic: bool = False) -> None:
        self.cyclic = cyclic

    def fit(self, X: Any, y: Any = None) -> Calendar:
        """Remember which parts move."""
        frame = pd.DataFrame(X)
        self.n_features_in_ = frame.shape[1]
        parts = [_parts(frame.iloc[:, i]) for i in range(frame.shape[1])]
        self.moving_ = [[bool(np.nanmin(v) < np.nanmax(v)) if np.isfinite(v).any() else False for v in p] for p in parts]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Shape (n_rows, n_parts); a missing time is NaN throughout."""
        frame = pd.DataFrame(X)
        columns: list[np.ndarray] = []
        for i, moving in enumerate(self.moving_):
            for values, period, moves in zip(_parts(frame.iloc[:, i]), PARTS.values(), moving, strict=True):
                if moves:
                    columns.append(values)
                    if self.cyclic:
                        angle = 2 * np.pi * values / period
                        columns += [np.sin(angle), np.cos(angle)]
        return np.column_stack(columns) if columns else np.zeros((len(frame), 1))


def _parts(column: pd.Series) -> list[np.ndarray]:
    times = pd.to_datetime(column, utc=True)
    hour = times.dt.hour + times.dt.minute / 60
    parts = (hour, times.dt.dayofweek, times.dt.day, times.dt.dayofyear)
    return [part.to_numpy(dtype="float64", na_value=np.nan) for part in parts]
