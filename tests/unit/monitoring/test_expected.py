"""Expected performance: right where inputs alone moved, blind where the concept did."""

from __future__ import annotations

import numpy as np
import pytest

from automl.modeling.metrics import get_metric
from automl.monitoring.expected import calibrate, expected_scores

NAMES = ["roc_auc", "log_loss", "accuracy", "brier"]


def outputs(logit: np.ndarray) -> np.ndarray:
    positive = 1 / (1 + np.exp(-logit))
    return np.column_stack([1 - positive, positive])


def test_expected_performance_follows_inputs_that_moved() -> None:
    rng = np.random.default_rng(0)

    def world(centre: float, n: int = 6000) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(centre, 1.0, n)
        truth = (rng.random(n) < 1 / (1 + np.exp(-2 * x))).astype(float)
        return truth, outputs(1.2 * x + 0.5)  # a model that is not calibrated

    learned = calibrate(*world(0.0))
    assert learned is not None
    truth, output = world(1.0)
    found = expected_scores(NAMES, output, learned)
    for name in NAMES:
        assert found[name] == pytest.approx(get_metric(name).score(truth, output), abs=0.02)
    assert abs(found["log_loss"] - get_metric("log_loss").score(*world(0.0))) > 0.05


def test_it_cannot_see_a_changed_concept() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, 4000)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-2 * x))).astype(float)
    learned = calibrate(truth, outputs(2 * x))
    assert learned is not None
    expected = expected_scores(["roc_auc"], outputs(2 * x), learned)["roc_auc"]
    assert expected == pytest.approx(get_metric("roc_auc").score(truth, outputs(2 * x)), abs=0.02)
    assert get_metric("roc_auc").score(1 - truth, outputs(2 * x)) < 0.5


def test_calibration_finds_the_curve_of_each_class() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 1.5, (8000, 3))
    odds = np.exp(logits)
    true = odds / odds.sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(3, p=p) for p in true], dtype=float)
    hot = np.exp(2 * logits)
    learned = calibrate(truth, hot / hot.sum(axis=1, keepdims=True))
    assert learned is not None
    calibrated = learned.apply(hot / hot.sum(axis=1, keepdims=True))
    assert calibrated.sum(axis=1) == pytest.approx(np.ones(8000))
    assert calibrated.mean(axis=0) == pytest.approx(np.bincount(truth.astype(int)) / 8000, abs=0.02)


def test_few_labels_calibrate_nothing() -> None:
    assert calibrate(np.zeros(199), np.full((199, 2), 0.5)) is None
