"""Metrics as data: name, direction, unit, required output, and the loss derived from a score.

A score is never negated; comparisons use `loss`, which is positive and smaller for better predictions
(`1 - score` for metrics whose best value is 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn import metrics as sk

from automl.problem import HIGHER_IS_BETTER, METRICS

__all__ = ["Metric", "get_metric"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measure of the quality of predictions.

    `needs` is what it reads: probabilities, labels or values; `unit` is shown to people.
    """

    name: str
    needs: Literal["probability", "label", "value"]
    unit: str
    compute: Callable[[NDArray[np.generic], Array, Array | None], float]

    @property
    def better(self) -> Literal["higher", "lower"]:
        """The direction of the score."""
        return "higher" if self.name in HIGHER_IS_BETTER else "lower"

    def score(self, y: NDArray[np.generic], output: Array, weight: Array | None = None) -> float:
        """The score of `output` for `y`.

        Parameters
        ----------
        y
            Class numbers 0..k-1, shape (n_rows,), or values, shape (n_rows,).
        output
            Probabilities, shape (n_rows, n_classes), or values, shape (n_rows,).
        weight
            Row weights of at least 0, shape (n_rows,), or None. A row of weight 2 counts twice, a row of
            weight 0 not at all.

        Returns NaN where the metric is undefined: for no rows, ROC AUC for a single class, MAPE if a target
        is 0.
        """
        if weight is not None:
            counted = weight > 0
            if not counted.all():
                y, output, weight = y[counted], output[counted], weight[counted]
            weight = None if (weight == weight[:1]).all() else weight
        if not len(y):
            return float("nan")
        if self.name == "roc_auc" and (y == y[0]).all():
            return float("nan")
        predicted = output.argmax(axis=1).astype(float) if self.needs == "label" else output
        return float(self.compute(y, predicted, weight))

    def loss(self, score: float) -> float:
        """The minimised number: the score itself, or 1 - score where higher is better."""
        return 1.0 - score if self.better == "higher" else score

    @property
    def arrow(self) -> str:
        """`↑` or `↓`, for table heads."""
        return "↑" if self.better == "higher" else "↓"


def get_metric(name: str) -> Metric:
    """The metric with a name of the problem file.

    >>> get_metric("roc_auc").loss(0.75)
    0.25
    """
    return _METRICS[name]


def _positive(output: Array) -> Array:
    return output[:, 1]


# A sweep computes these thousands of times: the results equal scikit-learn's, without the milliseconds of its
# argument checks.


def _roc_auc(y: NDArray[np.generic], p: Array, w: Array | None) -> float:
    if w is not None:
        return float(sk.roc_auc_score(y, _positive(p), sample_weight=w))
    positive = y == 1  # the Mann-Whitney statistic
    n, n_positive = len(y), int(positive.sum())
    ranks = rankdata(_positive(p))
    above = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * (n - n_positive)))


def _log_loss(y: NDArray[np.generic], p: Array, w: Array | None) -> float:
    sure = p[np.arange(len(y)), y.astype(int)] / p.sum(axis=1)
    least = np.finfo(p.dtype).eps
    return float(np.average(-np.log(np.clip(sure, least, 1 - least)), weights=w))


def _mape(y: NDArray[np.generic], v: Array, w: Array | None) -> float:
    """NaN if a target is 0, because a relative error is undefined then."""
    truth = y.astype("float64")
    if (truth == 0).any():
        return float("nan")
    return float(np.average(np.abs(v - truth) / np.abs(truth), weights=w))


def _rmse(y: NDArray[np.generic], v: Array, w: Array | None) -> float:
    return float(np.sqrt(np.average(np.square(y.astype("float64") - v), weights=w)))


_METRICS = {
    m.name: m
    for m in (
        Metric(
            name="roc_auc",
            needs="probability",
            unit="area under the ROC curve, 0.5 = guessing",
            compute=_roc_auc,
        ),
        Metric(
            name="average_precision",
            needs="probability",
            unit="area under the precision-recall curve",
            compute=lambda y, p, w: sk.average_precision_score(y, _positive(p), sample_weight=w),
        ),
        Metric(name="log_loss", needs="probability", unit="nats per row", compute=_log_loss),
        Metric(
            name="brier",
            needs="probability",
            unit="mean squared error of the probability",
            compute=lambda y, p, w: sk.brier_score_loss(y, _positive(p), sample_weight=w),
        ),
        Metric(
            name="accuracy",
            needs="label",
            unit="share of right classes",
            compute=lambda y, p, w: sk.accuracy_score(y, p, sample_weight=w),
        ),
        Metric(
            name="balanced_accuracy",
            needs="label",
            unit="mean recall of the classes",
            compute=lambda y, p, w: sk.balanced_accuracy_score(y, p, sample_weight=w),
        ),
        Metric(
            name="f1_macro",
            needs="label",
            unit="mean F1 of the classes",
            compute=lambda y, p, w: sk.f1_score(y, p, average="macro", sample_weight=w),
        ),
        Metric(name="rmse", needs="value", unit="unit of the target", compute=_rmse),
        Metric(
            name="mae",
            needs="value",
            unit="unit of the target",
            compute=lambda y, v, w: sk.mean_absolute_error(y, v, sample_weight=w),
        ),
        Metric(name="mape", needs="value", unit="mean relative error, 0.1 = 10 %", compute=_mape),
        Metric(
            name="r2",
            needs="value",
            unit="share of variance explained",
            compute=lambda y, v, w: sk.r2_score(y, v, sample_weight=w),
        ),
    )
}
if set(_METRICS) != {name for names in METRICS.values() for name in names}:
    raise AssertionError("the problem file and this module name different metrics")
