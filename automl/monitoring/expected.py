"""Expected performance before labels come: what calibrated probabilities say of themselves.

Valid only if inputs alone moved: a changed concept changes the labels and leaves these probabilities as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automl.modeling.metrics import get_metric

__all__ = ["Calibration", "calibrate", "expected_scores"]

Array = NDArray[np.float64]
LEAST_ROWS = 200  # labelled rows to calibrate on
MOST_ROWS = 20_000  # rows that an expectation is computed from
PRIOR = 5.0  # rows that the probabilities as they are count for
STEPS = 25  # of Newton's method; it converges in six or so
EDGE = 1e-6  # probabilities of 0 and 1 have no logit


@dataclass(frozen=True, slots=True)
class Calibration:
    """Per class: calibrated logit = shift + slope * logit."""

    shifts: tuple[float, ...]
    slopes: tuple[float, ...]
    rows: int

    def apply(self, output: Array) -> Array:
        """Calibrated probabilities, shape (n_rows, n_classes), summing to 1."""
        logits = self.shifts + np.asarray(self.slopes) * _logit(output)
        if output.shape[1] == 2:  # one curve decides for both classes
            positive = 1 / (1 + np.exp(-logits[:, 1]))
            return np.column_stack([1 - positive, positive])
        odds = 1 / (1 + np.exp(-logits))
        return odds / odds.sum(axis=1, keepdims=True)


def calibrate(truth: Array, output: Array) -> Calibration | None:
    """Calibration learned from rows whose label is known; None with fewer than 200.

    A logistic curve per class, one against the rest (Platt 1999, "Probabilistic outputs for support vector
    machines"), drawn to the probabilities as they are by a prior worth a few rows.
    """
    if len(truth) < LEAST_ROWS:
        return None
    curves = [_curve(_logit(output)[:, k], truth == k) for k in range(output.shape[1])]
    return Calibration(tuple(a for a, _ in curves), tuple(b for _, b in curves), len(truth))


def expected_scores(
    names: Sequence[str], output: Array, calibration: Calibration, seed: int = 0
) -> dict[str, float]:
    """The scores that predictions would have if their calibrated probabilities were true.

    Confidence-based estimation (Garg et al. 2022, "Leveraging unlabeled data to predict out-of-distribution
    performance", ICLR; as CBPE in NannyML): every row stands in for each class with the probability of that
    class as its weight. Assumes that labels depend on inputs as in the rows of the calibration.
    """
    if len(output) > MOST_ROWS:
        chosen = np.random.default_rng(seed).choice(len(output), MOST_ROWS, replace=False)
        output = output[np.sort(chosen)]
    weight = calibration.apply(output)
    rows, classes = output.shape
    truth = np.repeat(np.arange(classes, dtype="float64"), rows)
    tiled = np.tile(output, (classes, 1))
    found = {n: get_metric(n).score(truth, tiled, weight.T.ravel()) for n in names}
    return {n: score for n, score in found.items() if np.isfinite(score)}


def _curve(logit: Array, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Shift and slope of a logistic curve, by Newton's method on the penalised likelihood."""
    X = np.column_stack([np.ones_like(logit), logit])
    prior, beta = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(X @ beta, -30, 30)))
        gradient = X.T @ (positive - p) - PRIOR * (beta - prior)
        curvature = (X * (p * (1 - p))[:, None]).T @ X + PRIOR * np.eye(2)
        change = np.linalg.solve(curvature, gradient)
        beta = beta + np.clip(change, -2, 2)
        if np.abs(change).max() < 1e-9:
            break
    return float(beta[0]), float(beta[1])


def _logit(output: Array) -> Array:
    p = np.clip(output, EDGE, 1 - EDGE)
    return np.log(p / (1 - p))
