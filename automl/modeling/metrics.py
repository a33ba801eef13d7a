"""Metrics as data: name, direction, unit, what they need, and how a loss is made of them.

A score is never negated; whoever compares uses `loss`, which is positive and falls when things get
better (`1 - score` for metrics whose best value is 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn import metrics as sk

from automl.problem import METRICS

__all__ = ["Metric", "get_metric"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Metric:
    """One way to say how good predictions are.

    `better` is the direction of the score; `needs` says whether it reads probabilities, labels or
    values; `unit` is for people.
    """

    name: str
    better: Literal["higher", "lower"]
    needs: Literal["probability", "label", "value"]
    unit: str
    compute: Callable[[NDArray[np.generic], Array, Array | None], float]

    def score(self, y: NDArray[np.generic], output: Array, weight: Array | None = None) -> float:
        """The score of `output` for `y`.

        Parameters
        ----------
        y
            Class numbers 0..k-1, shape (n_rows,), or values, shape (n_rows,).
        output
            Probabilities, shape (n_rows, n_classes), or values, shape (n_rows,).
        weight
            Row weights of at least 0, shape (n_rows,), or None. A weight of 2 counts as the row twice, a
            weight of 0 as if the row was not there.

        Returns NaN where the metric is undefined: of no row, ROC AUC of a single class, MAPE of a target of 0.
        """
        if weight is not None:
            there = weight > 0
            if not there.all():
                y, output, weight = y[there], output[there], weight[there]
            weight = None if (weight == weight[:1]).all() else weight
        if not len(y):
            return float("nan")
        if self.name == "roc_auc" and (y == y[0]).all():
            return float("nan")
        shown = output.argmax(axis=1).astype(float) if self.needs == "label" else output
        return float(self.compute(y, shown, weight))

    def loss(self, score: float) -> float:
        """What is minimised: the score itself, or 1 - score where higher is better."""
        return 1.0 - score if self.better == "higher" else score

    @property
    def arrow(self) -> str:
        """`↑` or `↓`, for table heads."""
        return "↑" if self.better == "higher" else "↓"


def get_metric(name: str) -> Metric:
    """The metric of that name; names are those of the problem file."""
    return _METRICS[name]


def _positive(output: Array) -> Array:
    return output[:, 1]


# A sweep computes these thousands of times: they are scikit-learn's numbers, without the milliseconds that
# its checks of every argument take.


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
    """Not a number if a target is 0, where a relative error is not defined."""
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
            "roc_auc",
            "higher",
            "probability",
            "area under the ROC curve, 0.5 = guessing",
            _roc_auc,
        ),
        Metric(
            "average_precision",
            "higher",
            "probability",
            "area under the precision-recall curve",
            lambda y, p, w: sk.average_precision_score(y, _positive(p), sample_weight=w),
        ),
        Metric("log_loss", "lower", "probability", "nats per row", _log_loss),
        Metric(
            "brier",
            "lower",
            "probability",
            "mean squared error of the probability",
            lambda y, p, w: sk.brier_score_loss(y, _positive(p), sample_weight=w),
        ),
        Metric(
            "accuracy",
            "higher",
            "label",
            "share of right classes",
            lambda y, p, w: sk.accuracy_score(y, p, sample_weight=w),
        ),
        Metric(
            "balanced_accuracy",
            "higher",
            "label",
            "mean recall of the classes",
            lambda y, p, w: sk.balanced_accuracy_score(y, p, sample_weight=w),
        ),
        Metric(
            "f1_macro",
            "higher",
            "label",
            "mean F1 of the classes",
            lambda y, p, w: sk.f1_score(y, p, average="macro", sample_weight=w),
        ),
        Metric(
            "rmse",
            "lower",
            "value",
            "unit of the target",
            _rmse,
        ),
        Metric(
            "mae",
            "lower",
            "value",
            "unit of the target",
            lambda y, v, w: sk.mean_absolute_error(y, v, sample_weight=w),
        ),
        Metric(
            "mape",
            "lower",
            "value",
            "mean relative error, 0.1 = 10 %",
            _mape,
        ),
        Metric(
            "r2",
            "higher",
            "value",
            "share of variance explained",
            lambda y, v, w: sk.r2_score(y, v, sample_weight=w),
        ),
    )
}
if set(_METRICS) != {name for names in METRICS.values() for name in names}:
    raise AssertionError("the problem file and this room name different metrics")
