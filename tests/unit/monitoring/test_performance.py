"""Performance of a generation: intervals, states and causes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from automl.modeling.metrics import get_metric
from automl.monitoring.performance import CAUSES, interval, likely_cause
from automl.monitoring.promises import Promise
from automl.monitoring.realised import Labelled

RNG = np.random.default_rng(0)
PROMISE = Promise(loss=0.3, noise=0.1, blocks=5, freedom=8, kind="out_of_sample")


def outputs(positive: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - positive, positive])


def rows(truth: np.ndarray, output: np.ndarray) -> Labelled:
    return Labelled(truth, output, None, pd.DataFrame(index=range(len(truth))))


def test_the_interval_of_a_mean_is_that_of_its_group_means() -> None:
    truth, output = np.zeros(400), np.abs(RNG.normal(5, 1, 400))
    found = interval(get_metric("mae"), truth, output, None)
    assert found is not None
    groups = output.reshape(20, 20).mean(axis=1)
    wide = student.ppf(0.95, 19) * groups.std(ddof=1) / np.sqrt(20)
    assert found == pytest.approx((output.mean() - wide, output.mean() + wide))


def test_nine_intervals_in_ten_hold_the_true_score_also_of_rows_like_their_neighbours() -> None:
    inside = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        noise = np.repeat(rng.normal(0, 1, 100), 5)  # five rows in a row are alike
        found = interval(get_metric("mae"), np.zeros(500), 10 + noise, None)
        assert found is not None
        inside.append(found[0] <= 10 <= found[1])
    assert 0.82 <= np.mean(inside) <= 0.97


def test_few_rows_or_a_single_class_have_no_interval() -> None:
    auc = get_metric("roc_auc")
    assert interval(auc, np.tile([0.0, 1.0], 10), outputs(RNG.random(20)), None) is None
    assert interval(auc, np.zeros(100), outputs(RNG.random(100)), None) is None


def test_an_interval_of_a_share_stays_between_0_and_1() -> None:
    truth = np.r_[np.zeros(60), 1.0, np.zeros(39), np.ones(20)]
    found = interval(get_metric("accuracy"), truth, outputs(truth * 0.9 + 0.05), None)
    assert found == (1.0, 1.0)


def test_a_changed_base_rate_is_not_called_a_changed_concept() -> None:
    n, metric = 4000, get_metric("log_loss")
    x = RNG.normal(0, 1, n)
    output = outputs(1 / (1 + np.exp(-2 * x)))
    rare = (RNG.random(n) < 1 / (1 + np.exp(-(2 * x - 4)))).astype(float)
    turned = (RNG.random(n) < 1 / (1 + np.exp(2 * x))).astype(float)

    def cause(truth: np.ndarray, expected: float | None, moved: bool = False) -> str:
        return likely_cause(
            metric, rows(truth, output), PROMISE, expected=expected, inputs_moved=moved
        )

    assert cause(rare, 0.31) == CAUSES[1]
    assert cause(turned, 0.31) == CAUSES[2]
    assert cause(turned, 5.0) == CAUSES[0]
    assert cause(turned, None, moved=True) == CAUSES[0]


def test_a_level_that_moved_is_the_base_rate_of_a_regression() -> None:
    x = RNG.normal(10, 1, 500)
    found = rows(x + 3 + RNG.normal(0, 0.2, 500), x)
    assert (
        likely_cause(get_metric("rmse"), found, PROMISE, expected=None, inputs_moved=False)
        == CAUSES[1]
    )
