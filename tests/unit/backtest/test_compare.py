"""Laws of the comparison and of the recommendation."""

from __future__ import annotations

import numpy as np
import pytest

from automl.backtest.compare import LEAST, compare, recommend

COSTS = {"full": 100.0, "warm": 40.0, "refit": 10.0, "never": 0.0}


def weeks(count: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 0.1, count)


def test_of_equal_policies_the_cheapest_is_recommended() -> None:
    hard = weeks().tolist()
    found = recommend({"full": hard, "warm": hard, "refit": hard}, COSTS)
    assert found.policy == "refit"
    assert "10% of the core-seconds of full" in found.reason
    compared = compare({"full": hard, "refit": hard})
    assert compared["refit"].regret == compared["refit"].noise == 0.0


def test_a_cheap_policy_that_is_clearly_worse_is_not_recommended() -> None:
    hard = weeks()
    losses = {"full": hard.tolist(), "refit": (1.05 * hard).tolist()}
    found = recommend(losses, COSTS)
    assert (found.policy, found.best) == ("full", "full")


def test_never_is_a_yardstick_even_where_it_is_best() -> None:
    hard = weeks()
    losses = {"full": hard.tolist(), "refit": hard.tolist(), "never": (hard - 0.001).tolist()}
    found = recommend(losses, COSTS)
    assert found.policy == "refit"
    assert "without retraining the loss would have been no higher (-0.1%)" in found.reason


def test_what_all_policies_share_does_not_count() -> None:
    noise, hard = np.random.default_rng(1).normal(0, 0.01, (2, 20)), weeks(20, 2)
    alone = compare({"full": noise[0].tolist(), "refit": noise[1].tolist()})
    shared = compare({"full": (noise[0] + hard).tolist(), "refit": (noise[1] + hard).tolist()})
    for name in alone:
        assert shared[name].regret == pytest.approx(alone[name].regret, abs=1e-12)
        assert shared[name].noise == pytest.approx(alone[name].noise, abs=1e-12)


def test_too_few_batches_recommend_nothing() -> None:
    few = [1.0] * (LEAST - 1)
    found = recommend({"full": few, "refit": few}, COSTS)
    assert found.policy is None
    assert f"{LEAST - 1} scored batches" in found.reason


def test_the_noise_of_a_difference_is_that_of_repeated_windows() -> None:
    # independent weeks: the standard error is known
    noises = [
        compare({"a": [0.0] * 30, "b": np.random.default_rng(s).normal(5, 1, 30).tolist()})[
            "b"
        ].noise
        for s in range(40)
    ]
    assert np.mean(noises) == pytest.approx(1 / np.sqrt(30), rel=0.1)


def test_neighbouring_weeks_that_are_alike_widen_the_interval() -> None:
    random = np.random.default_rng(3)

    def width(share: float) -> float:
        found = []
        for _ in range(30):
            level, losses = 0.0, []
            for shock in random.normal(0, np.sqrt(1 - share**2), 40):
                level = share * level + shock
                losses.append(level)
            one = compare({"a": losses})["a"]
            found.append(one.high - one.low)
        return float(np.mean(found))

    assert width(0.7) > 1.3 * width(0.0)


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_any_number_of_batches_can_be_compared(count: int) -> None:
    found = compare({"a": weeks(count).tolist(), "b": weeks(count, 1).tolist()})
    assert min(c.regret for c in found.values()) == 0.0
    assert all(c.low <= c.loss <= c.high for c in found.values())
