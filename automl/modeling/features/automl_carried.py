"""Steps that travel with a model as code; they import nothing but numpy, pandas and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin

__all__ = ["AllClasses", "Calendar", "TargetCodes"]

MISSING = "\x00"  # a gap among the levels: no text of a table contains it
PRIOR_ROWS = 20.0  # every code is shrunk as if so many rows had the overall mean
RECENT_PRIOR_ROWS = 2.0  # of a recent code, which has fewer rows
HALF_LIFE = 2.0  # blocks after which a row counts half in a recent code
MOST_BLOCKS = 200  # of training rows, in recent codes: each costs a pass over all levels
TIMES_SEEN = 2.0  # periods that the training rows must span before a calendar part is used
EPOCH = pd.Timestamp(0, tz="UTC")
PARTS = {  # name -> (period in its own unit, for the circle; period in days)
    "hour": (24.0, 1),
    "weekday": (7.0, 7),
    "day": (31.0, 31),
    "yearday": (366.0, 366),
}


class AllClasses(ClassifierMixin, BaseEstimator):
    """A fitted classifier of some class numbers, with a probability of 0 for the classes it never saw.

    Takes the input of `estimator`. Training rows may lack a class where history is short.
    """

    def __init__(self, estimator: Any = None, classes: int = 0) -> None:
        self.estimator = estimator
        self.classes = classes

    def fit(self, X: Any, y: Any, **fit_args: Any) -> AllClasses:
        """Fit the estimator."""
        self.estimator.fit(X, y, **fit_args)
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

    Takes datetimes or ISO text, shape (n_rows, n_times), naive values read as UTC. Parts are in local time
    of `zone`, because people and shops follow it. A part is used only if the training rows span its period at
    least twice: otherwise it only dates the training rows and says nothing about later ones. The year is not
    used, for the same reason.

    With `trend`, times are also given as days since 1970 in UTC. For trees only: they put all later rows into
    the leaves of the newest, where other models would extrapolate.
    """

    trend = False  # defaults of models that were saved before these were arguments
    zone = "UTC"

    def __init__(self, cyclic: bool = False, trend: bool = False, zone: str = "UTC") -> None:
        self.cyclic = cyclic
        self.trend = trend
        self.zone = zone

    def fit(self, X: Any, y: Any = None) -> Calendar:  # noqa: ARG002  scikit-learn passes it
        """Find the parts that vary."""
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

    The code of a training row uses only the rows before it (rows must ascend in time); the code of a later row
    uses all training rows. So a code never contains the outcome it helps to predict, nor a later one. The
    outcome is the number itself for values, and membership of each class but the first for `classes`; an
    unseen category gets the overall mean, which is 0: codes are centred, and scaled by the deviation of the
    outcome. X has shape (n_rows, n_columns), the codes (n_rows, n_coded_columns x max(1, classes - 1)), no
    columns without outcomes.

    With `block`, the number of rows in a retraining period, there are twice as many codes: the mean of all
    earlier rows, then a recent mean in which a row counts half after two blocks. For the recent mean, training
    rows are cut into blocks from the end, and a row uses the rows before its block, as rows of the next block
    will.

    Source: the ordered target statistics of Prokhorenkova et al. 2018, "CatBoost: unbiased boosting with
    categorical features", here in the order of time.
    """

    def __init__(self, levels: int = 20, classes: int = 0, block: int = 0) -> None:
        self.levels = levels
        self.classes = classes
        self.block = block

    def fit(self, X: Any, y: Any = None) -> TargetCodes:
        """Compute the mean outcome of every category."""
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
            coded = [_earlier_means(numbers, outcomes)]
            if self.block:
                coded.append(_recent_means(numbers, outcomes, self.block))
            self.coded_.append(i)
            self.levels_.append(np.array([_text(name) for name in names]))
            self.means_.append(np.hstack([means for _, means in coded]))
            columns += [codes for codes, _ in coded]
        return np.hstack(columns) if columns else np.zeros((len(frame), 0))

    def transform(self, X: Any) -> np.ndarray:
        """Codes of later rows."""
        frame = pd.DataFrame(X)
        columns = []
        for i, levels, means in zip(self.coded_, self.levels_, self.means_, strict=True):
            numbers, names = pd.factorize(frame.iloc[:, i], use_na_sentinel=False)
            mean_of = dict(zip(levels.tolist(), means, strict=True))
            unseen = np.zeros(means.shape[1])
            table = np.array([mean_of.get(_text(name), unseen) for name in names])
            columns.append(table.reshape(-1, means.shape[1])[numbers])
        return np.hstack(columns) if columns else np.zeros((len(frame), 0))

    def _outcomes(self, y: Any) -> np.ndarray:
        y = np.asarray(y, dtype="float64")
        outcomes = (y[:, None] == np.arange(1, self.classes)) if self.classes else y[:, None]
        spread = outcomes.std(axis=0)
        return (outcomes - outcomes.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _earlier_means(numbers: np.ndarray, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shrunk mean outcome of earlier rows of the same category, for each row, shape of `outcomes`.

    Also the shrunk mean over all rows of each category, shape (n_categories, n_outcomes).
    """
    order = np.argsort(numbers, kind="stable")
    first = np.r_[True, np.diff(numbers[order]) != 0]
    begins = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    before = np.vstack([np.zeros(outcomes.shape[1]), np.cumsum(outcomes[order], axis=0)])
    counts = (np.arange(len(order)) - begins)[:, None]
    codes = np.empty_like(outcomes)
    codes[order] = (before[:-1] - before[begins]) / (counts + PRIOR_ROWS)
    sums = np.zeros((int(numbers.max()) + 1, outcomes.shape[1]))
    np.add.at(sums, numbers, outcomes)
    return codes, sums / (np.bincount(numbers)[:, None] + PRIOR_ROWS)


def _recent_means(
    numbers: np.ndarray, outcomes: np.ndarray, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """As `_earlier_means`, over the rows before each row's block, newer rows counting more."""
    block = max(block, -(-len(outcomes) // MOST_BLOCKS))
    sums = np.zeros((int(numbers.max()) + 1, outcomes.shape[1]))
    counts = np.zeros((len(sums), 1))
    codes = np.empty_like(outcomes)
    for end in range((len(outcomes) - 1) % block + 1, len(outcomes) + 1, block):
        rows = slice(max(0, end - block), end)
        categories = numbers[rows]
        codes[rows] = sums[categories] / (counts[categories] + RECENT_PRIOR_ROWS)
        ages = np.arange(len(categories), 0, -1) / block
        weights = 0.5 ** (ages / HALF_LIFE)[:, None]
        fade = 0.5 ** (len(categories) / block / HALF_LIFE)
        sums, counts = fade * sums, fade * counts
        np.add.at(sums, categories, weights * outcomes[rows])
        np.add.at(counts, categories, weights)
    return codes, sums / (counts + RECENT_PRIOR_ROWS)


def _text(name: Any) -> str:
    return MISSING if pd.isna(name) else str(name)


def _moving(column: pd.Series, zone: str) -> list[bool]:
    """Which parts vary and span their period twice, in the order of `PARTS`."""
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
