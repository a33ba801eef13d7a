"""Promises: what evidence says of the next block, and when a live loss is worse than that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import exp, log

import numpy as np
import pytest
from scipy.stats import t as student

from automl.modeling.losses import BlockLoss, Evidence
from automl.monitoring.promises import LiveLoss, promise_of

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = timedelta(days=7)


def loss(
    week: int, value: float, *, kind: Evidence = "out_of_sample", cycle: int = 10, blend: str = "a"
) -> BlockLoss:
    start = FIRST + week * WEEK
    return BlockLoss(
        cycle=FIRST + cycle * WEEK,
        blend=blend,
        start=start,
        end=start + WEEK,
        rows=100,
        loss=value,
        baseline_loss=1.0,
        kind=kind,
        metric="log_loss",
    )


def live(value: float, evidence: list[BlockLoss], rows: int = 500) -> LiveLoss:
    return LiveLoss(
        generation=1,
        model_version=1,
        as_of=FIRST,
        until=FIRST + WEEK,
        rows=rows,
        labelled_rows=rows,
        loss=value,
        promise=promise_of(evidence, "a", "log_loss"),
    )


def test_the_limits_are_a_prediction_interval_of_log_losses() -> None:
    promise = promise_of([loss(i, 0.3) for i in range(4)], "a", "log_loss")
    assert promise is not None
    assert promise.loss == pytest.approx(0.3)
    wide = student.ppf(0.995, promise.freedom) * promise.noise * (1 + 1 / promise.blocks) ** 0.5
    assert promise.limits == pytest.approx((0.3 * exp(-wide), 0.3 * exp(wide)))
    assert promise.distance(0.6) == pytest.approx(
        log(2) / (promise.noise * (1 + 1 / promise.blocks) ** 0.5)
    )


@pytest.mark.parametrize("blocks", [1, 2, 3, 8])
def test_a_live_loss_of_3_6_times_its_estimate_is_degraded(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    evidence = [loss(i, float(0.1 * exp(rng.normal(0, 0.15)))) for i in range(blocks)]
    assert live(0.36, evidence).degraded


def test_a_loss_within_the_noise_of_its_blocks_is_not_degraded() -> None:
    evidence = [loss(i, value) for i, value in enumerate((0.25, 0.35, 0.30, 0.28, 0.33))]
    assert not live(0.36, evidence).degraded
    assert not live(0.2, evidence).degraded


def test_few_labels_say_nothing() -> None:
    assert not live(5.0, [loss(i, 0.3) for i in range(5)], rows=29).degraded


def test_only_evidence_of_its_blend_and_of_its_time_counts() -> None:
    evidence = [loss(0, 0.3), loss(1, 0.3), loss(2, 9.0, blend="b"), loss(3, 9.0, cycle=11)]
    promise = promise_of(evidence, "a", "log_loss", before=FIRST + 10 * WEEK)
    assert promise is not None
    assert (promise.loss, promise.kind) == (pytest.approx(0.3), "out_of_sample")
    assert promise_of(evidence, "c", "log_loss") is None
    assert promise_of(evidence, "a", "roc_auc") is None


def test_the_first_loss_on_a_block_stays_and_in_sample_losses_count_where_there_are_no_others() -> (
    None
):
    twice = [loss(0, 0.3, cycle=9), loss(0, 0.1, cycle=10), loss(1, 0.3)]
    found = promise_of(twice, "a", "log_loss")
    assert found is not None
    assert found.loss == pytest.approx(0.3)
    within = [loss(i, 0.2, kind="in_sample") for i in range(3)]
    mixed = promise_of([*within, loss(5, 0.4)], "a", "log_loss")
    assert mixed is not None
    assert mixed.kind == "in_sample"
    assert 0.2 < mixed.loss < 0.4


def test_champions_as_good_as_promised_are_called_degraded_one_time_in_two_hundred() -> None:
    rng, called = np.random.default_rng(0), 0
    for _ in range(1000):
        values = 0.3 * np.exp(rng.normal(0, 0.15, 7))
        called += live(
            float(values[-1]), [loss(i, float(v)) for i, v in enumerate(values[:-1])]
        ).degraded
    assert called <= 20  # noise of 0.15 instead of the usual 0.1 makes it about 1 %
