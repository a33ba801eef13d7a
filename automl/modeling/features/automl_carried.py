"""Steps that travel with a model as code; they import nothing but numpy, pandas and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin

__all__ = ["AllClasses", "Calendar", "TargetCodes"]

MISSING = "\x00"  # stands for a gap among the levels: no text of a table holds it
PRIOR_ROWS = 20.0  # rows' worth of the overall mean in every code
RECENT_PRIOR_ROWS = 2.0  # ... in a recent one, which rests on fewer rows
HALF_LIFE = 2.0  # blocks after which a row counts half in a recent code
MOST_BLOCKS = 200  # that training rows are divided into: each costs a pass over all levels
TIMES_SEEN = 2.0  # how often a period must have gone round before its parts are used
EPOCH = pd.Timestamp(0, tz="UTC")
PARTS = {  # name -> (period in its own unit, for the circle; period in days)
    "hour": (24.0, 1),
    "weekday": (7.0, 7),
    "day": (31.0, 31),
    "yearday": (366.0, 366),
}


class AllClasses(ClassifierMixin, BaseEstimator):
    """A fitted classifier of some class numbers, which answers for all of them: 0 for those it never saw.

    Takes what the `estimator` takes. Its training rows may lack a class where history is young.
    """

    def __init__(self, estimator: Any = None, classes: int = 0) -> None:
        self.estimator = estimator
        self.classes = classes

    def fit(self, X: Any, y: Any, **more: Any) -> AllClasses:
        """Fit the estimator."""
        self.estimator.fit(X, y, **more)
        self.classes_ = np.arange(self.classes)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities, shape (n_rows, n_classes)."""
        seen = np.asarray(self.estimator.predict_proba(X), dtype="float64")
        output = np.zeros((len(seen), len(self.classes_)))
        output[:, np.asarray(self.estimator.classes_, dtype=int)] = seen
        return output

    def predict(self, X: Any) -> np.ndarray:
        """The number of the most probable class of each row."""
        return self.predict_proba(X).argmax(axis=1)


class Calendar(TransformerMixin, BaseEstimator):
    """Times as hour, weekday, day of month and day of year; as sine and cosine too if `cyclic`.

    Takes datetimes or ISO text, shape (n_rows, n_times), naive values read as UTC. Parts are those that a
    clock in `zone` shows, for people and shops follow it. A part is used only
    if the training rows saw its period at least twice: with less, it tells rows apart by when they
    happened and says nothing about the rows to come. The year is no part, for the same reason.

    With `trend` times come as days of UTC since 1970 too. For trees alone: they put all rows to come into the
    leaves of the newest, where others would extrapolate.
    """

    trend = False  # what holds of models that were saved before these were arguments
    zone = "UTC"

    def __init__(self, cyclic: bool = False, trend: bool = False, zone: str = "UTC") -> None:
        self.cyclic = cyclic
        self.trend = trend
        self.zone = zone

    def fit(self, X: Any, y: Any = None) -> Calendar:  # noqa: ARG002  scikit-learn passes it
        """Remember which parts move."""
        frame = pd.DataFrame(X)
        self.n_features_in_ = frame.shape[1]
        self.moving_ = [_moving(frame.iloc[:, i], self.zone) for i in range(frame.shape[1])]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Shape (n_rows, n_parts); a missing time is NaN throughout."""
        frame = pd.DataFrame(X)
        columns: list[np.ndarray] = []
        for i, moving in enumerate(self.moving_):
            for values, (period, _), moves in zip(
                _parts(frame.iloc[:, i], self.zone), PARTS.values(), moving, strict=True
            ):
                if moves:
                    columns.append(values)
                    if self.cyclic:
                        angle = 2 * np.pi * values / period
                        columns += [np.sin(angle), np.cos(angle)]
            if self.trend:
                days = (_times(frame.iloc[:, i]) - EPOCH) / pd.Timedelta(days=1)
                columns.append(days.to_numpy(dtype="float64", na_value=np.nan))
        return np.column_stack(columns) if columns else np.zeros((len(frame), 1))


class TargetCodes(TransformerMixin, BaseEstimator):
    """Categories as the mean outcome of their earlier rows, for columns with more than `levels` of them.

    Training rows, which must ascend in time, see only rows before themselves; later rows see them all. So
    a code never holds the outcome it helps to predict, nor a later one. The outcome is the number itself
    for values, and being of each class but the first for `classes` of them; an unseen category gets the
    overall mean, which is 0: codes are centred, and scaled by the deviation of the outcome. X has shape
    (n_rows, n_columns), the codes (n_rows, n_coded_columns x max(1, classes - 1)), none without outcomes.

    With `block`, the rows of a retraining period, there are twice as many: after the mean of all earlier rows
    comes a recent one, in which a row counts half after two blocks. For that one training rows are cut into
    blocks, counted from the end, and see the rows before their block, as the rows of the next one will.

    Source: the ordered target statistics of Prokhorenkova et al. 2018, "CatBoost: unbiased boosting with
    categorical features", here in the order of time.
    """

    def __init__(self, levels: int = 20, classes: int = 0, block: int = 0) -> None:
        self.levels = levels
        self.classes = classes
        self.block = block

    def fit(self, X: Any, y: Any = None) -> TargetCodes:
        """Keep the mean outcome of every category."""
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:  # type: ignore[override]
        """Codes of the training rows, each from the rows before it."""
        frame = pd.DataFrame(X)
        self.n_features_in_ = frame.shape[1]
        self.coded_: list[int] = []
        self.levels_: list[np.ndarray] = []
        self.means_: list[np.ndarray] = []
        if y is None:
            return np.zeros((len(frame), 0))
        outcomes = self._outcomes(y)
        columns = []
        for i in range(frame.shape[1]):
            numbers, names = pd.factorize(frame.iloc[:, i], use_na_sentinel=False)
            if len(names) <= self.levels:
                continue
            told = [_earlier_means(numbers, outcomes)]
            if self.block:
                told.append(_recent_means(numbers, outcomes, self.block))
            self.coded_.append(i)
            self.levels_.append(np.array([_text(name) for name in names]))
            self.means_.append(np.hstack([means for _, means in told]))
            columns += [codes for codes, _ in told]
        return np.hstack(columns) if columns else np.zeros((len(frame), 0))

    def transform(self, X: Any) -> np.ndarray:
        """Codes of later rows."""
        frame = pd.DataFrame(X)
        columns = []
        for i, levels, means in zip(self.coded_, self.levels_, self.means_, strict=True):
            numbers, names = pd.factorize(frame.iloc[:, i], use_na_sentinel=False)
            known = dict(zip(levels.tolist(), means, strict=True))
            unseen = np.zeros(means.shape[1])
            table = np.array([known.get(_text(name), unseen) for name in names])
            columns.append(table.reshape(-1, means.shape[1])[numbers])
        return np.hstack(columns) if columns else np.zeros((len(frame), 0))

    def _outcomes(self, y: Any) -> np.ndarray:
        y = np.asarray(y, dtype="float64")
        told = (y[:, None] == np.arange(1, self.classes)) if self.classes else y[:, None]
        spread = told.std(axis=0)
        return (told - told.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _earlier_means(numbers: np.ndarray, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shrunk mean outcome of the rows of the same category before each row, shape of `outcomes`.

    And that of all its rows, shape (n_categories, n_outcomes).
    """
    order = np.argsort(numbers, kind="stable")
    first = np.r_[True, np.diff(numbers[order]) != 0]
    begins = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    before = np.vstack([np.zeros(outcomes.shape[1]), np.cumsum(outcomes[order], axis=0)])
    counts = (np.arange(len(order)) - begins)[:, None]
    told = np.empty_like(outcomes)
    told[order] = (before[:-1] - before[begins]) / (counts + PRIOR_ROWS)
    sums = np.zeros((int(numbers.max()) + 1, outcomes.shape[1]))
    np.add.at(sums, numbers, outcomes)
    return told, sums / (np.bincount(numbers)[:, None] + PRIOR_ROWS)


def _recent_means(
    numbers: np.ndarray, outcomes: np.ndarray, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """As `_earlier_means`, of the rows before the block of each row, newer ones counting more."""
    block = max(block, -(-len(outcomes) // MOST_BLOCKS))
    sums = np.zeros((int(numbers.max()) + 1, outcomes.shape[1]))
    counts = np.zeros((len(sums), 1))
    told = np.empty_like(outcomes)
    for end in range((len(outcomes) - 1) % block + 1, len(outcomes) + 1, block):
        rows = slice(max(0, end - block), end)
        of = numbers[rows]
        told[rows] = sums[of] / (counts[of] + RECENT_PRIOR_ROWS)
        ages = np.arange(len(of), 0, -1) / block
        weights = 0.5 ** (ages / HALF_LIFE)[:, None]
        fade = 0.5 ** (len(of) / block / HALF_LIFE)
        sums, counts = fade * sums, fade * counts
        np.add.at(sums, of, weights * outcomes[rows])
        np.add.at(counts, of, weights)
    return told, sums / (counts + RECENT_PRIOR_ROWS)


def _text(name: Any) -> str:
    return MISSING if pd.isna(name) else str(name)


def _moving(column: pd.Series, zone: str) -> list[bool]:
    """Which parts vary, and went through their period twice, in the order of `PARTS`."""
    times = _times(column)
    days = (times.max() - times.min()) / pd.Timedelta(days=1) if times.notna().any() else 0.0
    return [
        bool(days >= TIMES_SEEN * period and np.nanmin(values) < np.nanmax(values))
        for values, (_, period) in zip(_parts(column, zone), PARTS.values(), strict=True)
    ]


def _parts(column: pd.Series, zone: str) -> list[np.ndarray]:
    times = _times(column)
    if zone != "UTC":
        times = times.dt.tz_convert(zone).dt.tz_localize(None)
    hour = times.dt.hour + times.dt.minute / 60
    parts = (hour, times.dt.dayofweek, times.dt.day, times.dt.dayofyear)
    return [part.to_numpy(dtype="float64", na_value=np.nan) for part in parts]


def _times(column: pd.Series) -> pd.Series:
    # a named format: pandas would guess one from the first value and refuse a shorter or longer second
    form = None if pd.api.types.is_datetime64_any_dtype(column) else "ISO8601"
    return pd.to_datetime(column, utc=True, format=form)
