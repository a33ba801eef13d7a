"""Measures of blocks: of the columns of a frame cut by time, and of profiles that were kept of earlier batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice, pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.history import utc_naive
from automl.history.contract import Contract
from automl.monitoring.drift import BlockStatistics, Drift, Measure, drift_of
from automl.problem import Problem

__all__ = [
    "block_statistics",
    "column_measures",
    "drift_state",
    "from_profiles",
    "number_measures",
    "profile_of",
]

Array = NDArray[np.float64]
Source = Literal["inputs", "predictions", "labels"]
Span = tuple[datetime, datetime]
MOST_BLOCKS = 105  # of history that are compared
MOST_CATEGORIES = 40  # of a column; the rest are one
LEAST_ROWS = 5  # of a block; a smaller one has no statistics
MISSING, OTHER = "(missing)", "(other)"
ROUNDING = 1e-9  # relative, of means of a constant column


def drift_state(
    frame: pd.DataFrame, problem: Problem, contract: Contract, as_of: datetime
) -> Drift:
    """Whether the newest block of mature rows is unlike the blocks before.

    Parameters
    ----------
    frame
        The rows of a snapshot, as `history.read` returns them; rows whose labels are not mature at `as_of` are left
        out.
    """
    statistics = block_statistics(frame, problem, contract, as_of)
    return drift_of(statistics, problem.monitoring.alert_rate)


def block_statistics(
    frame: pd.DataFrame, problem: Problem, contract: Contract, as_of: datetime
) -> BlockStatistics:
    """Measures of the features and of the target, of the blocks that are known at `as_of`."""
    times = frame[problem.history.time].to_numpy("datetime64[us]")
    spans = _spans(problem, as_of, times)
    bounds = [np.searchsorted(times, [_stamp(start), _stamp(end)]) for start, end in spans]
    rows = tuple(int(high - low) for low, high in bounds)
    slices = [slice(int(low), int(high)) for low, high in bounds]
    measures = [
        m for n, k in _watched(problem, contract) for m in column_measures(frame[n], k, slices)
    ]
    return BlockStatistics(
        starts=tuple(start for start, _ in spans),
        ends=tuple(end for _, end in spans),
        rows=rows,
        measures=tuple(measures) + tuple(_of_labels(frame, problem, slices)),
    )


def profile_of(
    batch: pd.DataFrame, published: pd.DataFrame, problem: Problem, contract: Contract
) -> dict[str, Any]:
    """Measures of one batch and its predictions, as JSON: column -> statistics."""
    inputs = {
        name: _column_profile(batch[name], kind)
        for name, kind in _watched(problem, contract)
        if name in batch.columns
    }
    if problem.task == "regression" or (
        problem.task == "binary" and "probability" in published.columns
    ):
        column = "prediction" if problem.task == "regression" else "probability"
        predictions = {column: _column_profile(published[column], "number")}
    else:
        predictions = {"prediction": _column_profile(published["prediction"], "text")}
    return {"inputs": inputs, "predictions": predictions}


def from_profiles(
    profiles: Sequence[tuple[Span, int, Mapping[str, Any]]],
    labels: BlockStatistics | None = None,
) -> BlockStatistics:
    """Measures of kept profiles, oldest first; each is (span, rows, what `profile_of` made).

    Labels of the history's blocks are put next to the batches by their number from the newest: the labels of the
    newest batch are not known yet, so each batch stands with the newest labels of its time.
    """
    rows = tuple(r for _, r, _ in profiles)
    measures: list[Measure] = []
    for source in ("inputs", "predictions"):
        contents = [content.get(source, {}) for _, _, content in profiles]
        for name in dict.fromkeys(n for c in contents for n in c):
            columns = [c.get(name) for c in contents]
            measures += _profiled(name, source, columns, rows)
    if labels is not None:
        measures += [_aligned(m, len(rows)) for m in labels.measures if m.source == "labels"]
    return BlockStatistics(
        starts=tuple(span[0] for span, _, _ in profiles),
        ends=tuple(span[1] for span, _, _ in profiles),
        rows=rows,
        measures=tuple(measures),
    )


def number_measures(values: Array, column: str, source: Source = "inputs") -> list[Measure]:
    """Mean, spread and share missing of numbers in blocks of equal size, shape (n_blocks, n_rows)."""
    counts = np.isfinite(values).sum(axis=1)
    full = counts.min(initial=0) == values.shape[1]
    mean = values.mean(axis=1) if full else np.nanmean(values, axis=1)
    spread = values.std(axis=1) if full else np.nanstd(values, axis=1)
    gaps = 1 - counts / values.shape[1]
    return _number(column, source, mean, spread, gaps, np.full(len(values), values.shape[1]))


def column_measures(column: pd.Series, kind: str, slices: Sequence[slice]) -> list[Measure]:
    """Measures of an input column, cut into blocks by these slices of its rows; `kind` is that of a contract."""
    if kind == "text":
        return _share_measures(column, "inputs", slices)
    return _frame_numbers(column, "inputs", slices)


# ---- columns of a frame


def _spans(problem: Problem, as_of: datetime, times: NDArray[np.datetime64]) -> list[Span]:
    """Blocks that lie in the history and have rows, oldest first: those that `Problem.block_edges` cuts."""
    if not len(times):
        return []
    edges = list(islice(problem.block_edges(as_of), MOST_BLOCKS + 1))
    places = np.searchsorted(times, [_stamp(edge) for edge in edges])
    first = times[0].astype("datetime64[us]")
    spans = [
        (start, end)
        for (end, start), (after, before) in zip(pairwise(edges), pairwise(places), strict=True)
        if after > before and _stamp(start) >= first
    ]
    return spans[::-1]


def _watched(problem: Problem, contract: Contract) -> list[tuple[str, str]]:
    """Feature columns with their kinds; times only move forward, and are not watched."""
    return [
        (n, k) for n, k in contract.features.items() if k != "time" and n != problem.history.time
    ]


def _of_labels(frame: pd.DataFrame, problem: Problem, slices: Sequence[slice]) -> list[Measure]:
    column = frame[problem.history.target]
    if problem.task == "regression":
        return _frame_numbers(column, "labels", slices)
    return _share_measures(column, "labels", slices)


def _frame_numbers(column: pd.Series, source: Source, slices: Sequence[slice]) -> list[Measure]:
    values = column.to_numpy("float64", na_value=np.nan)
    found = [_summary(values[s]) for s in slices]
    table = np.array([f[:3] for f in found]).reshape(len(found), 3)
    sizes = np.array([s.stop - s.start for s in slices])
    return _number(str(column.name), source, table[:, 0], table[:, 1], table[:, 2], sizes)


def _summary(values: Array) -> tuple[float, float, float]:
    """Mean, standard deviation and share missing."""
    if len(values) < LEAST_ROWS:
        return (float("nan"),) * 3
    known = values[np.isfinite(values)]
    gaps = 1 - len(known) / len(values)
    if len(known) < LEAST_ROWS:
        return float("nan"), float("nan"), gaps
    return float(known.mean()), float(known.std()), gaps


def _number(
    name: str, source: Source, mean: Array, spread: Array, gaps: Array, sizes: Array
) -> list[Measure]:
    usual = float(np.nanmedian(sizes)) if len(sizes) else 1.0
    row = float(np.nan_to_num(np.nanmax(spread, initial=0.0))) / max(usual, 1.0)
    row += ROUNDING * float(np.nan_to_num(np.nanmax(np.abs(mean), initial=0.0)))
    made: list[Measure] = []
    for statistic, values, least in (
        ("mean", mean, row),
        ("spread", spread, row),
        ("missing", gaps, 1 / max(usual, 1.0)),
    ):
        if np.nanmax(values, initial=0.0) - np.nanmin(values, initial=np.inf) <= 0:
            continue  # it never moved: no measure, so that it does not count among the others
        made.append(
            Measure(
                source=source,
                column=name,
                statistic=statistic,  # type: ignore[arg-type]
                values=values[:, None],
                least=least,
            )
        )
    return made


def _share_measures(column: pd.Series, source: Source, slices: Sequence[slice]) -> list[Measure]:
    codes, names = pd.factorize(column.astype("object"))
    counted = [np.bincount(codes[s] + 1, minlength=len(names) + 1) for s in slices]
    texts = [MISSING, *map(str, names)]
    tables = [dict(zip(texts, c.tolist(), strict=True)) for c in counted]
    return _shares(str(column.name), source, tables)


def _shares(name: str, source: Source, tables: Sequence[Mapping[str, float]]) -> list[Measure]:
    """Shares of the most frequent categories and of the rest, from counts per block."""
    totals: Counter[str] = Counter()
    for table in tables:
        totals.update(table)
    kept = [c for c, n in totals.most_common(MOST_CATEGORIES) if n]
    if len(kept) < 2:
        return []
    sizes = np.array([sum(table.values()) for table in tables], dtype="float64")
    counts = np.array([[table.get(c, 0) for c in kept] for table in tables], dtype="float64")
    counts = np.column_stack([counts, sizes - counts.sum(axis=1)])
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / np.where(sizes >= LEAST_ROWS, sizes, np.nan)[:, None]
    usual = float(np.median(sizes)) or 1.0
    return [Measure(source=source, column=name, statistic="shares", values=shares, least=1 / usual)]


# ---- profiles


def _column_profile(column: pd.Series, kind: str) -> dict[str, Any]:
    if kind == "text":
        counts = column.astype("object").fillna(MISSING).astype("str").value_counts()
        shown = counts.iloc[: 2 * MOST_CATEGORIES]
        table = {str(k): int(v) for k, v in shown.items()}
        rest = int(counts.sum() - shown.sum())
        return {"counts": {**table, OTHER: rest} if rest else table}
    mean, spread, gaps = _summary(column.to_numpy("float64", na_value=np.nan))
    return {"mean": mean, "spread": spread, "missing": gaps}


def _profiled(
    name: str,
    source: Source,
    columns: Sequence[Mapping[str, Any] | None],
    rows: Sequence[int],
) -> list[Measure]:
    if any(c and "counts" in c for c in columns):
        return _shares(name, source, [(c or {}).get("counts", {}) for c in columns])

    def numbers(key: str) -> Array:
        found = [(c or {}).get(key) for c in columns]
        return np.array([np.nan if v is None else v for v in found], dtype="float64")

    sizes = np.array(rows, dtype="float64")
    return _number(name, source, numbers("mean"), numbers("spread"), numbers("missing"), sizes)


def _aligned(measure: Measure, count: int) -> Measure:
    """The newest `count` blocks of a measure; NaN before the oldest."""
    values = measure.values[-count:]
    padded = np.full((count, values.shape[1]), np.nan)
    padded[count - len(values) :] = values
    return Measure(
        source=measure.source,
        column=measure.column,
        statistic=measure.statistic,
        values=padded,
        least=measure.least,
    )


def _stamp(moment: datetime) -> np.datetime64:
    return utc_naive(moment).to_datetime64()
