"""The newest published generation as a distribution, next to the one before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from automl import predictions
from automl.errors import AutomlError
from automl.monitoring.freshness import row_counts, stability
from automl.problem import Problem
from automl.store import Generation, Store
from automl.workspace import day_of

__all__ = ["batch_summary"]

BINS = 20
MOST_CLASSES = 12
OUTSIDE = (0.5, 99.5)  # percentiles between which values are drawn
QUANTILES = (0.05, 0.5, 0.95)


def batch_summary(store: Store, problem: Problem) -> dict[str, Any] | None:
    """Rows and predictions of the live generation, and of the newest published one before it; None without any."""
    live = store.live(problem.table)
    if live is None:
        return None
    published = [g for g in store.generations(problem.name) if g.id != live.id]
    before = next((g for g in published if g.as_of < live.as_of), None)
    found = [(g, _read(store, problem, g)) for g in (live, before) if g is not None]
    frames = [frame for _, frame in found if frame is not None]
    summary: dict[str, Any] = {
        "generations": [
            {
                "generation": g.id,
                "as_of": day_of(g.as_of),
                "until": day_of(g.until),
                "rows": g.rows,
                "model_version": g.model_version,
                **(_numbers(frame, problem) if frame is not None else {}),
            }
            for g, frame in found
        ],
        "distribution": _distribution(frames, problem) if frames else None,
        "rows": row_counts([live, *([before] if before else [])]),
        "stability": None,
    }
    if before is not None and len(frames) > 1:
        summary["stability"] = stability(store, problem, [live, before])
    return summary


def _read(store: Store, problem: Problem, generation: Generation) -> pd.DataFrame | None:
    """Its rows; None once they have been cleaned up."""
    try:
        frame = predictions.read_generation(store, problem, generation.id)
    except (AutomlError, KeyError):
        return None
    return frame if len(frame) else None


def _values(frame: pd.DataFrame, problem: Problem) -> np.ndarray:
    name = "prediction" if problem.task == "regression" else "probability"
    return frame[name].to_numpy("float64")


def _numbers(frame: pd.DataFrame, problem: Problem) -> dict[str, float]:
    """Mean and percentiles of what is predicted: values, or probabilities."""
    values = _values(frame, problem)
    low, middle, high = np.quantile(values, QUANTILES)
    return {
        "mean": float(values.mean()),
        "p5": float(low),
        "p50": float(middle),
        "p95": float(high),
    }


def _distribution(frames: list[pd.DataFrame], problem: Problem) -> dict[str, Any]:
    """Shares of rows per class, or per interval of probabilities or values; newest generation first."""
    if problem.task == "multiclass":
        counts = [f["prediction"].astype("str").value_counts(normalize=True) for f in frames]
        names = list(counts[0].index[:MOST_CLASSES])
        shares = [[float(c.get(name, 0.0)) for name in names] for c in counts]
        return {"kind": "classes", "labels": names, "shares": shares}
    every = [_values(f, problem) for f in frames]
    if problem.task == "binary":
        edges = np.linspace(0, 1, BINS + 1)
    else:
        low, high = np.percentile(np.concatenate(every), OUTSIDE)
        edges = np.linspace(low, max(high, low + 1e-9), BINS + 1)
    clipped = [np.clip(v, edges[0], edges[-1]) for v in every]
    shares = [(np.histogram(v, edges)[0] / len(v)).tolist() for v in clipped]
    return {"kind": "values", "edges": edges.tolist(), "shares": shares}
