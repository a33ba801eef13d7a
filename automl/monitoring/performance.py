"""Performance of one generation: realised with intervals, per slice, expected, promised, and why it differs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from automl.modeling.metrics import Metric, get_metric
from automl.monitoring.expected import Calibration, expected_scores
from automl.monitoring.promises import LEAST_ROWS, Promise
from automl.monitoring.realised import Labelled
from automl.problem import Problem

__all__ = ["CAUSES", "Performance", "interval", "likely_cause", "performance_of"]

Array = NDArray[np.float64]
GROUPS = 20  # of consecutive rows, each left out once
MOST_SLICES = 60  # values of one column
CONFIDENCE = 0.9
CAUSES = ("drifted inputs", "changed base rate", "changed concept")
UNBOUNDED = ("r2", "rmse", "mae", "mape", "log_loss")  # not between 0 and 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """One row of `<table>_performance`: a metric on the rows of one slice of a generation."""

    slice_column: str
    slice_value: str
    metric: str
    rows: int | None
    labelled_rows: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    expected: float | None = None
    promised: float | None = None
    promised_low: float | None = None
    promised_high: float | None = None
    state: str = ""  # as promised | worse | better | no promise | few labels | no labels
    cause: str = ""


def performance_of(
    problem: Problem,
    labelled: Labelled | None,
    *,
    rows: int,
    promise: Promise | None = None,
    output: Array | None = None,
    calibration: Calibration | None = None,
) -> list[Performance]:
    """Rows of one generation: every metric on all of its rows, then on every declared slice.

    Parameters
    ----------
    labelled
        The rows whose label has arrived; None if none has.
    rows
        Published rows.
    output
        Of all published rows, for what performance to expect; None for regression.
    calibration
        Learned from earlier generations.
    """
    names = [problem.metric.name, *problem.metric.also]
    expected: dict[str, float] = {}
    if output is not None and calibration is not None:
        expected = expected_scores(names, output, calibration, problem.sweep.seed)
    made = []
    for name in names:
        promised = promise if name == problem.metric.name else None
        made.append(_whole(name, labelled, rows, promised, expected.get(name)))
    return made + [row for name in names for row in _slices(problem, name, labelled)]


def interval(
    metric: Metric, truth: Array, output: Array, weight: Array | None
) -> tuple[float, float] | None:
    """A 90 % interval of a score whose rows are ordered by time; None with fewer than 40 rows.

    The delete-a-group jackknife over 20 groups of consecutive rows, which allows for rows that resemble their
    neighbours (Kuensch 1989, "The jackknife and the bootstrap for general stationary observations", Ann. Stat. 17).
    Assumes that a group is longer than what makes rows alike; if not, the interval is too narrow.
    """
    n = len(truth)
    if n < 2 * GROUPS:
        return None
    score = metric.score(truth, output, weight)
    edges = np.linspace(0, n, GROUPS + 1).astype(int)
    left_out = []
    for start, end in itertools.pairwise(edges):
        kept = np.r_[0:start, end:n]
        left_out.append(
            metric.score(truth[kept], output[kept], None if weight is None else weight[kept])
        )
    if not np.isfinite([score, *left_out]).all():
        return None
    away = np.array(left_out) - np.mean(left_out)
    error = sqrt((GROUPS - 1) / GROUPS * float((away**2).sum()))
    wide = float(student.ppf((1 + CONFIDENCE) / 2, GROUPS - 1)) * error
    low, high = score - wide, score + wide
    if metric.name not in UNBOUNDED:
        low, high = max(low, 0.0), min(high, 1.0)
    elif metric.better == "lower":
        low = max(low, 0.0)
    return low, high


def likely_cause(
    metric: Metric,
    labelled: Labelled,
    promise: Promise,
    *,
    expected: float | None,
    inputs_moved: bool,
) -> str:
    """Which change explains at least half of the loss beyond the promise.

    Drifted inputs: the performance expected from inputs alone is that much worse. Changed base rate: outputs that are
    moved to the class shares that came (Saerens, Latinne and Decaestecker 2002, Neural Computation 14), or to
    the mean that came, would have lost that much less. Otherwise labels given inputs are not what they were.
    """
    truth, output, weight, _ = labelled
    loss = metric.loss(metric.score(truth, output, weight))
    gap = loss - promise.loss
    if expected is not None and metric.loss(expected) - promise.loss >= gap / 2:
        return CAUSES[0]
    moved = _at_base_rate(truth, output)
    if loss - metric.loss(metric.score(truth, moved, weight)) >= gap / 2:
        return CAUSES[1]
    return CAUSES[0] if expected is None and inputs_moved else CAUSES[2]


def _whole(
    name: str,
    labelled: Labelled | None,
    rows: int,
    promise: Promise | None,
    expected: float | None,
) -> Performance:
    metric = get_metric(name)
    promised: Mapping[str, Any] = {}
    if promise is not None:
        ends = sorted(_score(metric, loss) for loss in promise.limits)
        promised = {
            "promised": _score(metric, promise.loss),
            "promised_low": ends[0],
            "promised_high": ends[1],
        }
    found = _measured(metric, labelled) if labelled is not None else {"labelled_rows": 0}
    return Performance(
        slice_column="",
        slice_value="",
        metric=name,
        rows=rows,
        expected=expected,
        state=_state(metric, found, promise),
        **promised,
        **found,
    )


def _state(metric: Metric, found: Mapping[str, Any], promise: Promise | None) -> str:
    value = found.get("value")
    if value is None:
        return "no labels"
    if promise is None:
        return "no promise"
    if found["labelled_rows"] < LEAST_ROWS:
        return "few labels"
    low, high = promise.limits
    loss = metric.loss(value)
    return "worse" if loss > high else "better" if loss < low else "as promised"


def _measured(metric: Metric, labelled: Labelled) -> dict[str, Any]:
    truth, output, weight, rows = labelled
    score = metric.score(truth, output, weight)
    found: dict[str, Any] = {
        "labelled_rows": len(rows),
        "value": score if isfinite(score) else None,
    }
    ends = interval(metric, truth, output, weight)
    if ends is not None:
        found["low"], found["high"] = ends
    return found


def _slices(problem: Problem, name: str, labelled: Labelled | None) -> Iterator[Performance]:
    if labelled is None:
        return
    truth, output, weight, rows = labelled
    for column in problem.metric.slices:
        if column not in rows.columns:
            continue
        values = rows[column].astype("object").where(rows[column].notna(), "(missing)")
        for value in values.value_counts().index[:MOST_SLICES]:
            chosen = (values == value).to_numpy()
            part = Labelled(
                truth[chosen],
                output[chosen],
                None if weight is None else weight[chosen],
                rows[chosen],
            )
            yield Performance(
                slice_column=column,
                slice_value=str(value),
                metric=name,
                rows=None,
                **_measured(get_metric(name), part),
            )


def _at_base_rate(truth: Array, output: Array) -> Array:
    """Outputs with the mean that the labels have."""
    if output.ndim == 1:
        return output + (truth.mean() - output.mean())
    shares = np.bincount(truth.astype(int), minlength=output.shape[1]) / len(truth)
    odds = np.ones(output.shape[1])
    moved = output
    for _ in range(100):
        moved = output * odds
        moved = moved / moved.sum(axis=1, keepdims=True)
        odds = odds * np.where(shares > 0, shares / np.maximum(moved.mean(axis=0), 1e-12), 1e-9)
    return moved


def _score(metric: Metric, loss: float) -> float:
    """The score of a loss."""
    return 1 - loss if metric.better == "higher" else loss


def by_time(labelled: Labelled, time: str) -> Labelled:
    """The rows in the order of their time."""
    if time not in labelled.rows.columns:
        return labelled
    order = np.argsort(pd.to_datetime(labelled.rows[time]).to_numpy(), kind="stable")
    weight = None if labelled.weight is None else labelled.weight[order]
    return Labelled(
        labelled.truth[order], labelled.output[order], weight, labelled.rows.iloc[order]
    )
