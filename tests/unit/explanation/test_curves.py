"""Curves of predictions equal what scikit-learn computes, and hold no row of data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from automl.explanation import curves

N = 3000


@pytest.fixture
def predicted() -> dict[str, Any]:
    """Outcomes, probabilities that are right on average, with ties, and weights."""
    rng = np.random.default_rng(0)
    p = rng.random(N).round(2)
    return {"y": (rng.random(N) < p).astype(float), "p": p, "weight": rng.integers(1, 4, N) * 1.0}


def test_areas_are_those_of_scikit_learn_with_ties_and_weights(predicted: dict[str, Any]) -> None:
    y, p, w = predicted["y"], predicted["p"], predicted["weight"]
    roc, both = curves.roc(y, p, w), curves.precision_recall(y, p, w)
    assert roc is not None
    assert both is not None
    assert roc["area"] == pytest.approx(roc_auc_score(y, p, sample_weight=w), abs=1e-12)
    assert both["area"] == pytest.approx(average_precision_score(y, p, sample_weight=w), abs=1e-12)
    assert both["share"] == pytest.approx(np.average(y, weights=w))


def test_a_curve_begins_and_ends_at_its_corners_and_has_few_points(
    predicted: dict[str, Any],
) -> None:
    for curve in (curves.roc(**predicted), curves.lift(**predicted)):
        assert curve is not None
        assert (curve["x"][0], curve["y"][0]) == (0, 0)
        assert (curve["x"][-1], curve["y"][-1]) == (pytest.approx(1), pytest.approx(1))
        assert len(curve["x"]) <= curves.POINTS
        assert (np.diff(curve["x"]) >= 0).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_single_class_has_no_roc_curve(share: float) -> None:
    y = np.full(50, share)
    assert curves.roc(y, np.linspace(0, 1, 50), np.ones(50)) is None


def test_calibrated_probabilities_lie_in_their_intervals_and_distorted_ones_do_not(
    predicted: dict[str, Any],
) -> None:
    points = curves.calibration(**predicted)
    assert sum(p["rows"] for p in points) == N
    inside = [p["low"] <= p["predicted"] <= p["high"] for p in points]
    assert np.mean(inside) >= 0.7
    distorted = curves.calibration(predicted["y"], predicted["p"] ** 3, predicted["weight"])
    assert not all(p["low"] <= p["predicted"] <= p["high"] for p in distorted)


def test_no_bin_holds_fewer_rows_than_the_least() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 19, 20, 55, 1000):
        values = rng.random(n)
        counts = np.bincount(curves.quantile_bins(values))
        assert counts.min() >= min(n, curves.LEAST_ROWS) - 1
        assert len(counts) <= curves.BINS
    assert set(curves.quantile_bins(np.zeros(100))) == {0}


def test_confusion_counts_rows_and_joins_rare_classes() -> None:
    rng = np.random.default_rng(2)
    y, predicted = rng.integers(0, 12, (2, 500))
    whole = curves.confusion(y, predicted, np.ones(500), range(12), most=12)
    assert np.array_equal(whole["counts"], confusion_matrix(y, predicted, labels=range(12)))
    joined = curves.confusion(y, predicted, np.ones(500), range(12), most=4)
    assert np.sum(joined["counts"]) == 500
    assert len(joined["classes"]) == 4
    assert joined["classes"][-1] == "9 others"


def test_residuals_are_outcome_minus_prediction() -> None:
    v = np.linspace(0, 10, 400)
    found = curves.residuals(v + 2, v)
    assert found["mean"] == pytest.approx(2)
    assert all(b["p5"] == pytest.approx(2) and b["p95"] == pytest.approx(2) for b in found["bins"])
    assert sum(b["rows"] for b in found["bins"]) == 400
