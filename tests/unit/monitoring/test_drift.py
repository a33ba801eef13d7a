"""Laws of the drift alarm: its rate, what it finds, what it never does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from automl.monitoring.drift import BlockStatistics, Measure, blocks_needed, drift_of

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = timedelta(days=7)
RATE = 0.05


def blocks(*measures: Measure) -> BlockStatistics:
    n = len(measures[0].values)
    starts = tuple(FIRST + i * WEEK for i in range(n))
    return BlockStatistics(
        starts=starts,
        ends=tuple(s + WEEK for s in starts),
        rows=(500,) * n,
        measures=measures,
    )


def means(values: np.ndarray, source: str = "inputs") -> list[Measure]:
    """One measure per column of `values`, shape (n_blocks, n_columns)."""
    return [
        Measure(source=source, column=f"x{i}", statistic="mean", values=values[:, [i]])  # type: ignore[arg-type]
        for i in range(values.shape[1])
    ]


def quiet(blocks_: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(blocks_, columns))


def test_the_alarm_rate_of_quiet_blocks_is_the_alert_rate() -> None:
    # 600 independent weeks of 8 columns: the standard error of the rate is 0.009
    series = quiet(640, 8)
    weeks = [blocks(*means(series[i : i + 41])) for i in range(600)]
    alarms = np.mean([drift_of(week, RATE).state == "alarm" for week in weeks])
    assert 0.02 < alarms < 1.5 * RATE


def test_neighbouring_blocks_that_resemble_each_other_raise_no_more_alarms_than_promised() -> None:
    rng, series = np.random.default_rng(1), np.zeros((640, 8))
    for i in range(1, len(series)):
        series[i] = 0.9 * series[i - 1] + rng.normal(size=8)
    weeks = [blocks(*means(series[i : i + 41])) for i in range(0, 600, 2)]
    assert np.mean([drift_of(week, RATE).state == "alarm" for week in weeks]) < 2 * RATE


def test_a_shift_of_four_standard_deviations_in_one_column_of_twenty_is_found_in_two_blocks() -> (
    None
):
    found = []
    for seed in range(60):
        values = quiet(42, 20, seed)
        values[40:, 3] += 4
        states = [drift_of(blocks(*means(values[:n])), RATE).state for n in (41, 42)]
        found.append("alarm" in states)
    assert np.mean(found) >= 0.85  # about 0.94; sixty shifts have a standard error of 0.03


def test_the_shifted_column_is_named_first() -> None:
    values = quiet(41, 5)
    values[-1, 3] += 9
    drift = drift_of(blocks(*means(values)), RATE)
    assert (drift.state, drift.columns[0], drift.far) == ("alarm", "x3", True)
    assert drift.shifts[0].effect == pytest.approx(
        (values[-1, 3] - values[:-1, 3].mean()) / values[:-1, 3].std(ddof=1)
    )
    assert drift.text.startswith("drift, rarer than 1 in 41 past blocks: x3 (mean +")


@pytest.mark.parametrize("past", [0, 1, 2, 5, 18])
def test_under_nineteen_past_blocks_there_is_no_alarm_whatever_happens(past: int) -> None:
    values = quiet(past + 1, 3)
    values[-1] += 1000
    drift = drift_of(blocks(*means(values)), RATE)
    assert (drift.state, drift.blocks, drift.needed) == ("uncalibrated", past, 19)


def test_nineteen_past_blocks_are_enough() -> None:
    values = quiet(20, 3)
    values[-1] += 1000
    assert drift_of(blocks(*means(values)), RATE).state == "alarm"


def test_a_smaller_rate_needs_more_blocks() -> None:
    assert [blocks_needed(rate) for rate in (0.2, 0.05, 0.01)] == [19, 19, 99]
    values = quiet(41, 3)
    values[-1] += 1000
    assert drift_of(blocks(*means(values)), 0.01).state == "uncalibrated"


def test_neither_scale_nor_order_of_columns_matters() -> None:
    values = quiet(41, 6)
    values[-1, 2] += 3
    plain = drift_of(blocks(*means(values)), RATE)
    scaled = drift_of(blocks(*means(1e6 + 1e3 * values)), RATE)
    turned = drift_of(blocks(*reversed(means(values))), RATE)
    assert plain.p_value == scaled.p_value == turned.p_value


def test_a_category_that_was_never_seen_is_an_alarm() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([400, 300, 200, 0.1], size=41)
    shares[:-1, 3], shares[-1, 3] = 0.0, 0.2
    shares /= shares.sum(axis=1, keepdims=True)
    measure = Measure(
        source="inputs", column="carrier", statistic="shares", values=shares, least=0.002
    )
    drift = drift_of(blocks(measure, *means(quiet(41, 5))), RATE)
    assert (drift.state, drift.columns[0]) == ("alarm", "carrier")


def test_a_column_that_begins_to_have_gaps_is_an_alarm_and_one_gap_is_none() -> None:
    gaps = np.zeros((41, 1))
    for share, state in ((0.3, "alarm"), (0.0004, "quiet")):
        gaps[-1] = share
        measure = Measure(
            source="inputs", column="x", statistic="missing", values=gaps.copy(), least=0.002
        )
        others = means(quiet(41, 5, seed=3))
        assert drift_of(blocks(measure, *others), RATE).state == state


def test_blocks_without_a_measure_are_left_out() -> None:
    values = quiet(41, 3)
    values[:10, 1] = np.nan
    values[-1, 1] += 12
    drift = drift_of(blocks(*means(values)), RATE)
    assert (drift.state, drift.shifts[0].past) == ("alarm", 30)


def test_a_constant_column_changes_nothing() -> None:
    values = quiet(41, 3)
    with_constant = np.column_stack([values, np.full(41, 0.1)])
    assert (
        drift_of(blocks(*means(values)), RATE).p_value
        == drift_of(blocks(*means(with_constant)), RATE).p_value
    )
