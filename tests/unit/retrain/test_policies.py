"""Policies are pure functions of a situation; each keeps its law on made-up pasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest

from automl.problem import POLICIES
from automl.retrain.degradation import chart
from automl.retrain.policies import (
    BY_NAME,
    PRIOR_RATES,
    Policy,
    cost_aware,
    on_degradation,
    on_drift,
    on_new_rows,
    staleness_rates,
)
from automl.retrain.situation import Drift, RealisedLoss, Situation, Training

WEEK = timedelta(days=7)
START = datetime(2026, 3, 2, tzinfo=UTC)
COSTS = {"refit": 60.0, "warm": 180.0, "full": 600.0}


def realised(
    losses: Sequence[float], *, version: int = 1, promised: float = 0.2
) -> list[RealisedLoss]:
    """Weekly generations of one version, oldest first in `losses`, newest first in the result."""
    made = [
        RealisedLoss(
            as_of=START + i * WEEK,
            until=START + (i + 1) * WEEK,
            model_version=version,
            age=float(i),
            rows=1000,
            labelled_rows=1000,
            loss=loss,
            promised=promised,
            noise=0.05,
            blocks=3,
            baseline=0.5,
        )
        for i, loss in enumerate(losses)
    ]
    return made[::-1]


def trained(action: str, weeks_ago: float, gain: float = 0.0) -> Training:
    return Training(as_of=START - weeks_ago * WEEK, action=action, outcome="keep", gain=gain)


def aged(weeks: float, **changes: object) -> Situation:
    """A champion whose last training, a full search, was so many weeks ago."""
    situation = Situation(
        as_of=START,
        champion=True,
        version=1,
        rows=10_000,
        block=7.0,
        since_training=weeks,
        since_search=weeks,
        since_full=weeks,
        trainings=(trained("full", weeks),),
        costs=COSTS,
    )
    return replace(situation, **changes)  # type: ignore[arg-type]


def seen(losses: Sequence[float]) -> Situation:
    return aged(len(losses), realised=tuple(realised(losses)))


def quiet(seed: int, weeks: int = 30) -> list[float]:
    return list(0.2 * np.exp(np.random.default_rng(seed).normal(0, 0.05, weeks)))


def test_every_name_of_the_problem_file_has_a_policy() -> None:
    assert set(BY_NAME) == set(POLICIES)


@pytest.mark.parametrize("name", [n for n in POLICIES if n != "schedule"])
def test_without_a_champion_every_policy_trains_in_full(name: str) -> None:
    assert BY_NAME[name](replace(aged(1), champion=False)).action == "full"


@pytest.mark.parametrize(
    ("name", "action"), [("full", "full"), ("warm", "warm"), ("refit", "refit"), ("never", "skip"), ("schedule", "auto")],
)  # fmt: skip
def test_constant_policies_are_constant(name: str, action: str) -> None:
    pasts = [
        aged(1),
        aged(50),
        seen([0.2, 0.2, 9.0]),
        replace(aged(3), drift=Drift(state="drifted")),
    ]
    assert {BY_NAME[name](past).action for past in pasts} == {action}


# ---- on_degradation


@pytest.mark.parametrize(
    ("past", "growth"), [(3, 1.5), (3, 3.0), (10, 1.25), (10, 1.5), (30, 1.25), (30, 3.0)]
)
def test_a_planted_change_of_concept_is_met_within_two_windows_of_labels(
    past: int, growth: float
) -> None:
    for seed in range(5):
        losses = quiet(seed, past)
        first = on_degradation(seen([*losses, 0.2 * growth]))
        second = on_degradation(seen([*losses, 0.2 * growth, 0.2 * growth]))
        assert {first.action, second.action} & {"warm", "full"}
        assert growth < 3 or first.action == "full"


def test_quiet_periods_are_skipped() -> None:
    reactions = [
        on_degradation(seen(quiet(seed)[:weeks])).action != "skip"
        for seed in range(20)
        for weeks in range(2, 31, 2)
    ]
    # every reaction ends the sum in practice; here it goes on, so that each counts for several weeks
    assert np.mean(reactions) < 0.03


def test_first_signals_of_quiet_periods_are_rare() -> None:
    waits = []
    for seed in range(60):
        losses = quiet(seed, 40)
        first = next(
            (w for w in range(1, 41) if on_degradation(seen(losses[:w])).action != "skip"), None
        )
        waits.append(first)
    # 1 in 240 windows: the Shewhart limit and the sum together
    assert sum(w is not None for w in waits) / (60 * 40) < 2 / 240


def test_small_losses_in_a_row_are_met() -> None:
    quiet_weeks = quiet(1, 12)
    assert on_degradation(seen(quiet_weeks)).action == "skip"
    found = [on_degradation(seen([*quiet_weeks, *[0.2 * 1.09] * n])).action for n in range(1, 7)]
    assert found[0] == "skip"
    assert "warm" in found


def test_a_better_champion_is_no_reason() -> None:
    assert on_degradation(seen([*quiet(2, 10), 0.1, 0.1, 0.1])).action == "skip"


def test_losses_of_the_champion_before_are_no_reason() -> None:
    before = realised([*quiet(3, 10), 0.6], version=1)
    after = replace(aged(1), version=2, realised=tuple(before))
    assert on_degradation(after).action == "skip"
    assert "no labels" in on_degradation(after).reason


def test_a_new_champion_is_compared_with_its_own_promise() -> None:
    # the hard concept came to stay: the new champion promises 0.4 and keeps it
    before = realised([*quiet(3, 10), 0.4], version=1)
    newest = replace(realised([0.41], version=2, promised=0.4)[0], as_of=START + 11 * WEEK)
    assert on_degradation(replace(aged(1), version=2, realised=(newest, *before))).action == "skip"


def test_near_perfect_models_do_not_differ_by_rounding() -> None:
    losses = [replace(r, loss=r.loss, promised=1e-5) for r in realised([1e-5, 1e-5, 5e-5])]
    assert on_degradation(replace(aged(3), realised=tuple(losses))).action == "skip"


def test_the_chart_of_quiet_values_is_standard_normal_however_few_they_are() -> None:
    z = [chart(realised(quiet(seed, 4)), 1).z for seed in range(200)]
    assert abs(np.mean(z)) < 0.15
    assert 0.7 < np.std(z) < 1.15


# ---- on_drift, on_new_rows


def test_on_drift_follows_the_state_of_drift() -> None:
    assert on_drift(aged(1)).action == "skip"
    for state in ("quiet", "uncalibrated"):
        assert on_drift(replace(aged(1), drift=Drift(state=state))).action == "skip"
    drifted = Drift(state="drifted", columns=("carrier",))
    assert on_drift(replace(aged(1), drift=drifted)).action == "warm"
    assert "carrier" in on_drift(replace(aged(1), drift=drifted)).reason
    assert on_drift(replace(aged(1), drift=replace(drifted, far=True))).action == "full"


@pytest.mark.parametrize(
    ("keys", "new", "action"),
    [
        ({}, 908, "skip"), ({}, 910, "auto"),  # a tenth of the rows before
        ({"rows": 2000}, 1999, "skip"), ({"rows": 2000}, 2000, "auto"),
        ({"share": 0.5}, 3333, "skip"), ({"share": 0.5}, 3334, "auto"),
        ({"rows": 2000, "share": 0.5}, 2000, "auto"),
    ],
)  # fmt: skip
def test_on_new_rows_waits_for_enough_rows(keys: dict[str, float], new: int, action: str) -> None:
    found = on_new_rows(aged(1, new_rows=new), **keys)  # type: ignore[arg-type]
    assert found.action == action
    assert str(new) in found.reason


# ---- cost_aware


def trainings_of(policy: Policy, weeks: int = 40, **changes: object) -> list[str]:
    """What a policy does week by week, when each action has its effect on the ages."""
    since = {"training": 0.0, "search": 0.0, "full": 0.0}
    done = []
    for _ in range(weeks):
        since = {name: age + 1 for name, age in since.items()}
        ages = {f"since_{name}": age for name, age in since.items()}
        action = policy(aged(1, **{**changes, **ages})).action
        done.append(action)
        if action != "skip":
            since["training"] = 0.0
        if action in ("warm", "full"):
            since["search"] = 0.0
        if action == "full":
            since["full"] = 0.0
    return done


def test_cost_aware_trains_more_when_worth_rises() -> None:
    worths = [0.0, 0.01, 0.1, 1.0, 10.0, 100.0]
    done = [trainings_of(partial(cost_aware, worth=worth)) for worth in worths]
    counts = [sum(a != "skip" for a in actions) for actions in done]
    assert counts == sorted(counts)
    assert counts[0] == 0  # worth = 0: never after the first
    assert counts[-1] == 40
    spent = [sum(COSTS.get(a, 0.0) for a in actions) for actions in done]
    assert spent == sorted(spent)
    assert {"refit", "warm", "full"} <= {a for actions in done for a in actions}


def test_cost_aware_trains_less_when_training_costs_more() -> None:
    cheap, dear = (
        trainings_of(partial(cost_aware, worth=0.2), costs={k: f * v for k, v in COSTS.items()})
        for f in (0.2, 5.0)
    )
    assert sum(a != "skip" for a in cheap) > sum(a != "skip" for a in dear)


def test_the_interval_of_refits_is_the_economic_one() -> None:
    # refits alone: least cost per block where a (a + 1) = 2 K / (worth rate)
    done = trainings_of(
        partial(cost_aware, worth=0.2), costs={"refit": 60.0, "warm": 1e9, "full": 1e9}
    )
    length = done.index("refit") + 1
    wanted = 2 * 1.0 / (100 * 0.2 * PRIOR_RATES["refit"])

    def per_block(weeks: int) -> float:
        return (1.0 + 0.2 * 100 * PRIOR_RATES["refit"] * weeks * (weeks + 1) / 2) / weeks

    assert (length - 1) * length < wanted <= length * (length + 1)
    assert per_block(length) == min(per_block(w) for w in range(1, 100)) or per_block(
        length
    ) <= 1.05 * min(per_block(w) for w in range(1, 100))


def test_measured_staleness_replaces_the_prior() -> None:
    fast = staleness_rates(aged(1, staleness=tuple((2.0, 0.06) for _ in range(20))))
    none = staleness_rates(aged(1, staleness=tuple((2.0, 0.0) for _ in range(20))))
    assert staleness_rates(aged(1))["refit"] == pytest.approx(PRIOR_RATES["refit"])
    assert fast["refit"] == pytest.approx(0.03, rel=0.1)
    assert none["refit"] < PRIOR_RATES["refit"] / 10
    assert trainings_of(partial(cost_aware, worth=0.2), staleness=((2.0, 0.06),) * 20).count(
        "skip"
    ) < (trainings_of(partial(cost_aware, worth=0.2), staleness=((2.0, 0.0),) * 20).count("skip"))


def test_gains_of_searches_make_searches_more_frequent() -> None:
    useful, useless = (
        tuple(trained("warm", week, gain) for week in range(1, 12)) for gain in (0.02, 0.0)
    )
    assert staleness_rates(aged(1, trainings=useful))["warm"] > 0.01
    assert staleness_rates(aged(1, trainings=useless))["warm"] < PRIOR_RATES["warm"]


def test_cost_aware_meets_a_loss_beyond_noise() -> None:
    cautious = partial(cost_aware, worth=0.05)
    assert cautious(seen(quiet(4, 3))).action == "skip"
    assert cautious(seen([*quiet(4, 3), 0.6, 0.6])).action != "skip"


def test_without_a_measured_cost_what_has_changed_decides() -> None:
    assert cost_aware(aged(1, costs={}), worth=1.0).action == "auto"
    # the others in proportion to what was measured
    assert cost_aware(aged(30, costs={"full": 600.0}), worth=1.0).action != "skip"


@pytest.mark.parametrize("name", POLICIES)
def test_reasons_are_one_line(name: str) -> None:
    for past in (
        aged(1),
        seen([*quiet(5, 8), 0.9]),
        replace(aged(2), drift=Drift(state="drifted")),
    ):
        reason = BY_NAME[name](past).reason
        assert reason
        assert "\n" not in reason
