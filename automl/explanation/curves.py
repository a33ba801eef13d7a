"""Curves of out-of-sample predictions as a few points each: never a row of data.

Rows count by their weight. `p` are probabilities of the positive class, `y` is 0 or 1, shape (n_rows,).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

__all__ = [
    "calibration",
    "confusion",
    "lift",
    "precision_recall",
    "quantile_bins",
    "residuals",
    "roc",
    "value_calibration",
]

Array = NDArray[np.float64]
Z90 = float(ndtri(0.95))
BINS = 10
POINTS = 120  # of a curve
LEAST_ROWS = 20  # of a bin
BANDS = (5, 25, 50, 75, 95)  # percentiles of residuals


def quantile_bins(values: Array, bins: int = BINS) -> NDArray[np.int64]:
    """The bin of each value, from 0; bins hold equally many values, ties stay together."""
    bins = max(1, min(bins, len(values) // LEAST_ROWS))
    edges = np.unique(np.quantile(values, np.arange(1, bins) / bins)) if bins > 1 else np.empty(0)
    return np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)[1]


def calibration(y: Array, p: Array, weight: Array) -> list[dict[str, float]]:
    """Mean prediction and share of positives per bin, with a 90 % interval of the share.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22. Assumes
    independent rows; if rows of one customer or day go together, the interval is too narrow.
    """
    bins, points = quantile_bins(p), []
    for i in range(int(bins.max(initial=-1)) + 1):
        inside = bins == i
        w = weight[inside]
        if not w.sum():
            continue
        share, n = float(np.average(y[inside], weights=w)), int(inside.sum())
        centre = (share + Z90**2 / (2 * n)) / (1 + Z90**2 / n)
        half = Z90 / (1 + Z90**2 / n) * np.sqrt(share * (1 - share) / n + Z90**2 / (4 * n**2))
        points.append(
            {
                "predicted": float(np.average(p[inside], weights=w)),
                "observed": share,
                "low": max(0.0, float(centre - half)),
                "high": min(1.0, float(centre + half)),
                "rows": n,
            }
        )
    return points


def value_calibration(y: Array, v: Array, weight: Array) -> list[dict[str, float]]:
    """Mean prediction and mean outcome per bin of predictions, with a 90 % interval of the mean."""
    bins, points = quantile_bins(v), []
    for i in range(int(bins.max(initial=-1)) + 1):
        inside = bins == i
        w = weight[inside]
        if not w.sum():
            continue
        observed, n = float(np.average(y[inside], weights=w)), int(inside.sum())
        half = Z90 * float(y[inside].std()) / np.sqrt(max(1, n))
        points.append(
            {
                "predicted": float(np.average(v[inside], weights=w)),
                "observed": observed,
                "low": observed - half,
                "high": observed + half,
                "rows": n,
            }
        )
    return points


def _counted(y: Array, p: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Weights of positives and of all rows above each threshold, highest threshold first, and the thresholds."""
    order = np.argsort(-p, kind="stable")
    y, p, weight = y[order], p[order], weight[order]
    last = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)  # ties are above or below together
    return np.cumsum(weight * y)[last], np.cumsum(weight)[last], p[last]


def roc(y: Array, p: Array, weight: Array) -> dict[str, Any] | None:
    """False and true positive rates over thresholds, and the area; None with a single class."""
    positive, every, _ = _counted(y, p, weight)
    negatives = every - positive
    if not positive[-1] or not negatives[-1]:
        return None
    x, t = np.append(0.0, negatives / negatives[-1]), np.append(0.0, positive / positive[-1])
    kept = _thinned(len(x))
    area = float(np.trapezoid(t, x))
    return {"x": x[kept].tolist(), "y": t[kept].tolist(), "area": area}


def precision_recall(y: Array, p: Array, weight: Array) -> dict[str, Any] | None:
    """Recall and precision over thresholds, and the average precision; None without positives."""
    positive, every, _ = _counted(y, p, weight)
    if not positive[-1]:
        return None
    recall, precision = positive / positive[-1], positive / np.maximum(every, 1e-12)
    area = float(np.sum(np.diff(np.append(0.0, recall)) * precision))
    kept = _thinned(len(recall))
    return {
        "x": recall[kept].tolist(),
        "y": precision[kept].tolist(),
        "area": area,
        "share": float(positive[-1] / every[-1]),
    }


def lift(y: Array, p: Array, weight: Array) -> dict[str, Any] | None:
    """Share of all positives among the highest predictions, over the share of rows; None without positives."""
    positive, every, _ = _counted(y, p, weight)
    if not positive[-1]:
        return None
    x, t = np.append(0.0, every / every[-1]), np.append(0.0, positive / positive[-1])
    kept = _thinned(len(x))
    tenth = float(np.interp(0.1, x, t))
    return {"x": x[kept].tolist(), "y": t[kept].tolist(), "tenth": tenth}


def confusion(
    y: Array, predicted: Array, weight: Array, classes: Sequence[Any], most: int = 10
) -> dict[str, Any]:
    """Weights of rows by class and predicted class; beyond the `most` frequent classes, the rest is one."""
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (y.astype(int), predicted.astype(int)), weight)
    names = [str(c) for c in classes]
    if len(classes) > most:
        order = np.argsort(-counts.sum(axis=1), kind="stable")
        kept, rest = order[: most - 1], order[most - 1 :]
        groups = [*([i] for i in kept), list(rest)]
        counts = np.array([[counts[np.ix_(a, b)].sum() for b in groups] for a in groups])
        names = [*(names[i] for i in kept), f"{len(rest)} others"]
    return {"classes": names, "counts": counts.tolist()}


def residuals(y: Array, v: Array) -> dict[str, Any]:
    """Percentiles of outcome minus prediction per bin of predictions, and their mean."""
    error, bins = y - v, quantile_bins(v)
    points = [
        {
            "predicted": float(v[bins == i].mean()),
            "rows": int((bins == i).sum()),
            **{f"p{q}": float(np.percentile(error[bins == i], q)) for q in BANDS},
        }
        for i in range(int(bins.max(initial=-1)) + 1)
    ]
    return {
        "bins": points,
        "mean": float(error.mean()) if len(error) else 0.0,
    }


def _thinned(n: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, n - 1, min(n, POINTS)).round().astype(int))
