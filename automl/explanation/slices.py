"""Losses by time and by slice, on the blocks that the models had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.explanation.curves import quantile_bins
from automl.modeling.metrics import Metric

__all__ = ["by_slice", "by_time", "levels_of"]

Array = NDArray[np.float64]
PERIODS = 24  # points over time, at most
LEAST_IN_PERIOD = 40  # rows of a point
LEAST_IN_SLICE = 30
MOST_LEVELS = 12  # values of a column that is cut into slices by value
QUARTERS = 4
SHOWN = 14  # slices
LABEL = 28  # characters of a slice's name


def by_time(
    times: pd.Series,
    truth: Array,
    outputs: Mapping[str, Array],
    weight: Array,
    metric: Metric,
) -> list[dict[str, Any]]:
    """Score per period and role, oldest first; a period whose score is undefined is left out."""
    order = np.argsort(times.to_numpy(), kind="stable")
    periods = min(PERIODS, max(1, len(order) // LEAST_IN_PERIOD))
    points = []
    for rows in np.array_split(order, periods):
        if not len(rows):
            continue
        scores = {r: metric.score(truth[rows], o[rows], weight[rows]) for r, o in outputs.items()}
        if all(np.isfinite(s) for s in scores.values()):
            middle = pd.Timestamp(times.iloc[rows].astype("int64").mean(), unit=times.dt.unit)
            points.append({"time": middle.isoformat(), "rows": len(rows), "scores": scores})
    return points


def levels_of(column: pd.Series) -> tuple[NDArray[Any], list[str]] | None:
    """The slice of each row and the slices' names: values, or quarters of numbers; None if there is only one."""
    missing = column.isna().to_numpy()
    many = column.nunique() > MOST_LEVELS
    if pd.api.types.is_datetime64_any_dtype(column):
        return None
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) and many:
        numbers, names = _quarters(column.to_numpy("float64", na_value=np.nan), missing)
    else:
        text = _text(column)
        counts = pd.Series(text[~missing]).value_counts()
        kept = [str(v) for v in counts.index[: MOST_LEVELS if many else None]]
        place = {v: i for i, v in enumerate(kept)}
        numbers = np.array([place.get(v, len(kept)) for v in text])
        names = [v if len(v) <= LABEL else f"{v[: LABEL - 1]}…" for v in kept]
        if many:
            names.append("other values")
        numbers[missing] = len(names)
    if missing.any():
        names.append("missing")
    return (numbers, names) if len(np.unique(numbers)) > 1 else None


def _text(column: pd.Series) -> NDArray[Any]:
    """Values as people write them: 1 rather than 1.0."""
    if pd.api.types.is_float_dtype(column):
        return np.array([f"{v:g}" for v in column])
    return column.astype("str").to_numpy()


def _quarters(values: Array, missing: NDArray[np.bool_]) -> tuple[NDArray[Any], list[str]]:
    numbers = np.zeros(len(values), dtype=int)
    seen = values[~missing]
    bins = quantile_bins(seen, QUARTERS)
    numbers[~missing] = bins
    names = []
    for i in range(int(bins.max(initial=-1)) + 1):
        low, high = seen[bins == i].min(), seen[bins == i].max()
        names.append(f"{low:.3g}–{high:.3g}" if low < high else f"{low:.3g}")
    numbers[missing] = len(names)
    return numbers, names


def by_slice(
    rows: pd.DataFrame,
    columns: Sequence[str],
    truth: Array,
    outputs: Mapping[str, Array],
    weight: Array,
    metric: Metric,
) -> list[dict[str, Any]]:
    """Scores of the slices of these columns, the one with the highest loss of "released" first."""
    found: list[dict[str, Any]] = []
    for name in columns:
        levels = levels_of(rows[name])
        for i, value in enumerate(levels[1] if levels else ()):
            inside = levels[0] == i if levels else np.zeros(len(rows), dtype=bool)
            if inside.sum() < LEAST_IN_SLICE:
                continue
            scores = {
                r: metric.score(truth[inside], o[inside], weight[inside])
                for r, o in outputs.items()
            }
            if np.isfinite(scores["released"]):
                found.append(
                    {"column": name, "value": value, "rows": int(inside.sum()), "scores": scores}
                )
    found.sort(key=lambda s: -metric.loss(s["scores"]["released"]))
    return found[:SHOWN]
