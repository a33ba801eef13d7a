"""How old history, predictions and labels are, how many rows there are, and how much predictions change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from automl import predictions
from automl.history import ROW_ID
from automl.problem import Problem
from automl.store import Generation, Store

__all__ = ["freshness", "row_counts", "stability"]

BUCKETS = 10  # of equally many rows of the older generation
LEAST_ROWS = 30  # common rows; fewer say nothing


def freshness(
    frame: pd.DataFrame,
    problem: Problem,
    as_of: datetime,
    live: Generation | None,
    labelled_until: datetime | None,
) -> dict[str, Any]:
    """Ages in hours at `as_of`; None where there is nothing.

    `frame` is the labelled history, `labelled_until` the time of the newest published row with a label.
    """
    newest = frame[problem.history.time].max() if len(frame) else None
    return {
        "history_until": _text(_utc(newest)),
        "history_age_hours": _hours(_utc(newest), as_of),
        "predictions_until": _text(live.until if live else None),
        "predictions_cover_as_of": bool(live and live.as_of <= as_of < live.until),
        "labels_until": _text(labelled_until),
        "labels_age_hours": _hours(labelled_until, as_of),
    }


def row_counts(generations: Sequence[Generation]) -> dict[str, Any]:
    """Rows of the newest batch against the median of those before; `generations` are newest first."""
    before = [g.rows for g in generations[1:]]
    usual = median(before) if before else None
    newest = generations[0].rows if generations else None
    return {
        "newest": newest,
        "usual": usual,
        "ratio": newest / usual if newest is not None and usual else None,
    }


def stability(
    store: Store, problem: Problem, generations: Sequence[Generation]
) -> dict[str, Any] | None:
    """Share of common keys whose class or bucket changed between the two newest generations.

    Buckets are tenths of the older generation's probabilities or values. None where they share too few keys, as
    batches that meet do.
    """
    if len(generations) < 2 or generations[1].until <= generations[0].as_of:
        return None
    keys = list(problem.history.key or (ROW_ID,))
    newer, older = (predictions.read_generation(store, problem, g.id) for g in generations[:2])
    both = older.merge(newer, on=keys, suffixes=("_older", "_newer"))
    if len(both) < LEAST_ROWS:
        return None
    found: dict[str, Any] = {
        "generations": [generations[1].id, generations[0].id],
        "common_rows": len(both),
    }
    if problem.task != "regression":
        changed = both["prediction_older"].astype("str") != both["prediction_newer"].astype("str")
        found["class_changed"] = float(changed.mean())
    column = "prediction" if problem.task == "regression" else "probability"
    before, after = (both[f"{column}_{x}"].to_numpy("float64") for x in ("older", "newer"))
    edges = np.quantile(before, np.arange(1, BUCKETS) / BUCKETS)
    moved = np.searchsorted(edges, before) != np.searchsorted(edges, after)
    return found | {"bucket_changed": float(moved.mean())}


def _utc(moment: Any) -> datetime | None:
    if moment is None or pd.isna(moment):
        return None
    return pd.Timestamp(moment).to_pydatetime().replace(tzinfo=UTC)


def _hours(moment: datetime | None, as_of: datetime) -> float | None:
    return round((as_of - moment).total_seconds() / 3600, 2) if moment else None


def _text(moment: datetime | None) -> str | None:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else None
