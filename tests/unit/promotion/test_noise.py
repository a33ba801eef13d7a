"""Noise of a block: luck is measured, a change of the true gain is not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from math import sqrt

import numpy as np
import pytest

from automl.promotion.evidence import Duel
from automl.promotion.noise import block_noise, block_weights, independent
from tests.support.decisions import FIRST, duel

NOISES = [0.014, 0.05, 0.10, 0.15]


def spanning(gains: Sequence[float], starts: Sequence[int], days: int = 7) -> Duel:
    """Blocks of so many days, newest first, each with the age that `duels` gives it."""
    begin = [FIRST + timedelta(days=start) for start in starts]
    ages = tuple(round((starts[0] - start) / days) for start in starts)
    ends = tuple(start + timedelta(days=days) for start in begin)
    return Duel(
        challenger="r",
        gains=tuple(gains),
        kinds=("out_of_sample",) * len(gains),
        ages=ages,
        blocks=tuple(begin),
        ends=ends,
    )


def luck(seed: int, blocks: int, noise: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, noise, blocks)


def sd_of(rival: Duel) -> float:
    return sqrt(block_noise([rival]).variance)


@pytest.mark.parametrize("noise", NOISES)
def test_the_noise_of_equal_rivals_is_found(noise: float) -> None:
    found = block_noise([duel(f"r{i}", list(luck(i, 20, noise))) for i in range(40)])

    assert found.correlation == pytest.approx(0.0, abs=0.1)
    assert found.variance == pytest.approx(noise**2, rel=0.15)
    assert found.freedom == 40 * 19


@pytest.mark.parametrize("size", [0.05, 0.2, 0.8])
@pytest.mark.parametrize("since", [1, 2, 5, 10])
def test_a_jump_hardly_raises_the_noise_however_large_it_is(since: int, size: float) -> None:
    jump = size * (np.arange(20) < since)
    calm = np.mean([sd_of(duel("r", list(luck(s, 20, 0.014)))) for s in range(100)])
    jumped = np.mean([sd_of(duel("r", list(luck(s, 20, 0.014) + jump))) for s in range(100)])

    # deviations from the mean would make 1.4 % into 1.8 % to 10 % at 5 % and 20 %
    assert jumped < 1.25 * calm


@pytest.mark.parametrize("since", [1, 3, 8])
def test_a_jump_of_80_percent_is_no_more_noise_than_one_of_20(since: int) -> None:
    jump, noise = 1.0 * (np.arange(16) < since), luck(3, 16, 0.014)

    small, large = (sd_of(duel("r", list(noise + size * jump))) for size in (0.2, 0.8))
    assert large == pytest.approx(small)


def test_neighbours_that_are_alike_are_worth_less() -> None:
    def rivals(rho: float) -> list[Duel]:
        simulated = []
        for seed in range(60):
            gains = luck(seed, 20, 0.05)
            for i in range(1, 20):
                gains[i] = rho * gains[i - 1] + sqrt(1 - rho**2) * gains[i]
            simulated.append(duel(f"r{seed}", list(gains)))
        return simulated

    found = {rho: block_noise(rivals(rho)) for rho in (0.0, 0.3, 0.5)}

    for rho, noise in found.items():
        assert noise.correlation == pytest.approx(rho, abs=0.1)
        assert sqrt(noise.variance) == pytest.approx(0.05, rel=0.1)
    worth = [found[rho].effective(duel("r", [0.0] * 10), 0.85) for rho in (0.0, 0.3, 0.5)]
    assert worth[0] > 1.5 * worth[1] > 2 * worth[2]


def test_a_difference_across_a_gap_counts_less() -> None:
    near = Duel(
        challenger="r",
        gains=(0.01, 0.0),
        kinds=("out_of_sample",) * 2,
        ages=(0, 1),
        blocks=(FIRST, FIRST - timedelta(weeks=1)),
    )
    far = Duel(
        challenger="r",
        gains=(0.01, 0.0),
        kinds=("out_of_sample",) * 2,
        ages=(0, 4),
        blocks=(FIRST, FIRST - timedelta(weeks=4)),
    )

    assert (block_noise([near]).freedom, block_noise([far]).freedom) == (1, 0.25)
    assert block_noise([near]).variance == block_noise([far]).variance


@pytest.mark.parametrize(
    ("gains", "sd"),
    [
        ([0.05], 0.05),  # one rival, one block: as far from the champion as luck takes it
        ([0.001], 0.01),
        ([0.05, -0.05, 0.03, -0.03, 0.01], 0.063),
        ([0.01, -0.01, 0.0, 0.01, -0.9], 0.021),  # one is hopeless
    ],
)
def test_where_no_difference_tells_the_noise_the_spread_of_rivals_does(
    gains: list[float], sd: float
) -> None:
    rivals = [duel(f"r{i}", [gain]) for i, gain in enumerate(gains)]
    noise = block_noise(rivals, rivals)

    assert noise.freedom == 2
    assert sqrt(noise.variance * (1 - noise.correlation)) == pytest.approx(sd, rel=0.05)


def test_ties_and_one_better_block_are_no_proof_of_little_noise() -> None:
    assert sd_of(duel("r", [0.02, *[0.0] * 6])) > 0.005
    assert sd_of(duel("r", [0.0] * 7)) == pytest.approx(0.002 / sqrt(0.8))


# ---------------------------------------------------------------- blocks that overlap


@pytest.mark.parametrize("step", [1, 2, 4])
def test_overlapping_blocks_tell_the_same_noise_as_disjoint_ones(step: int) -> None:
    found = []
    for seed in range(60):
        days = luck(seed, 8 * 20, 0.05 * sqrt(8))
        starts = list(range(8 * 19, -1, -step))
        gains = [days[s : s + 8].mean() for s in starts]
        found.append(block_noise([spanning(gains, starts, 8)]).variance * 0.8)

    assert np.mean(found) == pytest.approx(0.05**2, rel=0.1)


@pytest.mark.parametrize("step", [1, 2, 4])
def test_looking_more_often_at_the_same_days_is_no_more_evidence(step: int) -> None:
    often = list(range(8 * 9, -1, -step))
    once = spanning([0.01] * 10, list(range(8 * 9, -1, -8)), 8)
    overlapping = spanning([0.01] * len(often), often, 8)

    assert block_weights(overlapping, 0.85).sum() == pytest.approx(
        block_weights(once, 0.85).sum(), rel=0.15
    )
    assert 0.8 * independent(once, 0.85) < independent(overlapping, 0.85)
    assert independent(overlapping, 0.85) < 1.05 * independent(once, 0.85)


@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_the_mean_of_overlapping_blocks_is_as_noisy_as_it_says(step: int) -> None:
    starts = list(range(8 * 9, -1, -step))
    weights = block_weights(spanning([0.0] * len(starts), starts, 8), 0.85)
    days = np.random.default_rng(1).normal(0, sqrt(8), (4_000, 80))
    means = np.average([days[:, s : s + 8].mean(axis=1) for s in starts], axis=0, weights=weights)

    n = independent(spanning([0.0] * len(starts), starts, 8), 0.85)
    assert np.var(means) == pytest.approx(1 / n, rel=0.1)
