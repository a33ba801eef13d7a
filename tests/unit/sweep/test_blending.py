"""Blends of trials: reference, challenger, hedging, and re-estimated weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from automl.modeling.ensemble import MOST_MEMBERS
from automl.modeling.features.matrices import to_outcomes
from automl.modeling.recipes import Blend, Member, Recipe
from automl.problem import Problem
from automl.sweep import (
    Trial,
    Work,
    blend_losses,
    output_file,
    reweighed,
)
from automl.sweep.blending import (
    MEMBER_MARGIN,
    TREND_MARGIN,
    TREND_SHARE,
    Blending,
    default_recipe,
    least_losses,
)
from tests.support.sweep_work import make_work as make_work  # a fixture
from tests.support.sweep_work import write_outputs

MakeProblem = Callable[..., Problem]


def finished(work: Work, noises: dict[Recipe, float], source: str = "start") -> list[Trial]:
    """Complete trials whose outputs are the truth and so much noise."""
    outcomes = to_outcomes(work.frame["late"], work.contract)
    (work.scratch / "outputs").mkdir(parents=True, exist_ok=True)
    rng, trials = np.random.default_rng(0), []
    for number, (recipe, noise) in enumerate(noises.items()):
        losses = []
        for b, block in enumerate(work.blocks):
            truth = outcomes[block.validation]
            noisy = truth + rng.normal(0, noise, len(truth))
            output = np.column_stack([-noisy, noisy])
            np.save(output_file(work, recipe, b), output)
            losses.append(work.metric.loss(work.metric.score(truth, output)))
        trials.append(
            Trial(
                number=number,
                recipe=recipe,
                source=source,
                status="complete",
                losses=tuple(losses),
                scores=tuple(1 - x for x in losses),
            )
        )
    return trials


def blending(work: Work) -> Blending:
    """What a sweep without a budget would make of trials."""
    outcomes = to_outcomes(work.frame["late"], work.contract)
    truth = [outcomes[block.validation] for block in work.blocks]
    least = least_losses(work)
    weights = [np.ones(len(y)) for y in truth]
    return Blending(
        work=work,
        truth=truth,
        weights=weights,
        least=least,
        rank=lambda _: 0,
        refittable=lambda _: True,
        seconds=float("inf"),
        seconds_each=float("inf"),
    )


def seeing(i: int, *, trend: bool = True) -> Recipe:
    """A recipe of trees, with the time or without."""
    return Recipe("lightgbm", {"num_leaves": i}, trend=trend)


@pytest.mark.parametrize("of", ["reference", "challenger"])
def test_less_than_half_of_a_blend_sees_the_time_if_others_come_near(
    make_work: Callable[..., Work], of: str
) -> None:
    work = make_work({})
    noises = {seeing(i): 0.5 for i in range(5)} | {
        seeing(i, trend=False): 0.52 for i in range(9, 12)
    }
    trials = finished(work, noises)
    blends = blending(work)
    blend = blends.reference(trials) if of == "reference" else blends.challenger(trials, None)
    assert blend is not None
    assert len(blend.members) <= MOST_MEMBERS
    assert sum(m.weight for m in blend.members) == pytest.approx(1, abs=1e-5)
    assert sum(m.weight for m in blend.members if m.recipe.trend) <= TREND_SHARE + 1e-6


@pytest.mark.parametrize("of", ["reference", "challenger"])
def test_recipes_that_see_the_time_and_are_behind_the_others_are_left_out(
    make_work: Callable[..., Work], of: str
) -> None:
    work = make_work({})
    behind = {seeing(i): 0.525 for i in range(3)}
    trials = finished(work, behind | {seeing(9, trend=False): 0.5})
    blends = blending(work)
    ahead = min(map(blends._level, trials[:3])) / blends._level(trials[3])
    assert 1 + TREND_MARGIN < ahead < 1 + MEMBER_MARGIN, "near enough, if it did not see the time"
    blend = blends.reference(trials) if of == "reference" else blends.challenger(trials, None)
    assert blend is not None
    assert [m.recipe for m in blend.members] == [trials[3].recipe]


def test_a_hedge_costs_no_more_than_the_refits_may(make_work: Callable[..., Work]) -> None:
    work = make_work({})
    noises = {seeing(i): 0.5 for i in range(3)} | {seeing(9, trend=False): 0.52}
    trials = [replace(t, seconds_refit=1.0) for t in finished(work, noises)]
    blend = replace(blending(work), seconds=3.0).challenger(trials[:3], None)
    assert blend is not None
    count = len(blend.members)
    for seconds, hedged in ((count + 0.9, False), (count + 1.0, True)):
        weights = replace(blending(work), seconds=seconds)._hedged(
            {m.recipe.id: m.weight for m in blend.members}, {t.recipe.id: t for t in trials}
        )
        assert (trials[3].recipe.id in weights) == hedged


def test_recipes_that_see_the_time_stay_alone_if_no_other_is_close(
    make_work: Callable[..., Work],
) -> None:
    work = make_work({})
    trials = finished(work, {seeing(i): 0.5 for i in range(5)} | {seeing(9, trend=False): 3.0})
    blend = blending(work).reference(trials)
    assert blend is not None
    assert all(m.recipe.trend for m in blend.members)


def test_a_blend_that_gains_nothing_is_half_the_default_recipe(
    make_work: Callable[..., Work],
) -> None:
    work = make_work({'"linear"]': '"linear", "lightgbm"]'})
    plain = default_recipe(work)
    assert plain is not None
    assert plain.params["num_leaves"] == 31, "LightGBM's defaults, tried first"
    other = Recipe("linear", {"C": 1.0})
    for noises, least, most in (
        ({plain: 0.60, other: 0.30}, 0.0, 0.2),  # a gain that every block shows
        ({plain: 0.60, other: 0.6001}, 0.5, 1.0),
    ):
        write_outputs(work, noises)
        trials = [
            replace(t, losses=tuple(blend_losses(work, Blend.single(t.recipe))))
            for t in finished(work, noises)
        ]
        write_outputs(work, noises)
        blend = blending(work).reference(trials)
        assert blend is not None
        share = sum(m.weight for m in blend.members if m.recipe == plain)
        assert least <= share <= most
    slow = [replace(t, seconds_refit=9.0 if t.recipe == plain else 1.0) for t in trials]
    blend = replace(blending(work), refittable=lambda t: t.seconds_refit < 5).reference(slow)
    assert blend is not None
    assert plain.id not in blend.recipes, "its refit does not fit the budget"


def test_what_stands_in_for_a_champion_is_made_of_start_points(
    make_work: Callable[..., Work],
) -> None:
    work = make_work({})
    starts = finished(work, {Recipe("linear", {"C": float(i)}): 0.8 for i in range(1, 5)})
    searched = finished(
        work, {Recipe("linear", {"C": float(i)}): 0.4 for i in range(5, 8)}, "search"
    )
    blend = blending(work).reference([*starts, *searched])
    assert blend is not None
    assert {m.recipe for m in blend.members} <= {t.recipe for t in starts}


def test_weights_are_learned_from_the_blocks_and_no_member_is_lost(
    make_work: Callable[..., Work],
) -> None:
    work = make_work({})
    wise, fool = Recipe("linear", {"C": 1.0}), Recipe("linear", {"C": 2.0})
    write_outputs(work, {wise: 0.3, fool: 3.0})
    blend = Blend((Member(fool, 0.9), Member(wise, 0.1)))

    updated = reweighed(work, blend)

    assert updated.id == blend.id
    assert [m.recipe for m in updated.members] == [fool, wise]
    assert updated.members[0].weight == pytest.approx(0.02, abs=0.001), (
        "far behind: its old weight says nothing"
    )
    assert sum(m.weight for m in updated.members) == pytest.approx(1)
    assert sum(blend_losses(work, updated)) < sum(blend_losses(work, blend))
    one_class = work.frame.assign(late=work.frame["late"].iloc[0])
    assert reweighed(replace(work, frame=one_class), blend) == blend, "no metric, nothing to learn"
    output_file(work, fool, 0).unlink()
    assert reweighed(work, blend) == blend, "without all outputs nothing is learned"


def test_weights_are_learned_from_the_newest_blocks_of_a_search_that_looks_further_back(
    make_work: Callable[..., Work],
) -> None:
    work = make_work({})
    further = replace(work, blocks=[*work.blocks, work.blocks[-1]])
    better, worse = Recipe("linear", {"C": 1.0}), Recipe("linear", {"C": 2.0})
    write_outputs(further, {better: 0.70, worse: 0.75})
    write_outputs(further, {better: 9.0, worse: 0.1}, since=2)
    blend = Blend((Member(better, 0.5), Member(worse, 0.5)))
    assert len(work.blocks) == 2
    assert reweighed(further, blend) == reweighed(work, blend) != blend


@pytest.mark.parametrize(
    ("seen", "plain", "weight"),
    [
        pytest.param(0.70, 0.71, TREND_SHARE, id="others are near"),
        pytest.param(0.70, 3.00, 0.98, id="others are far behind"),
        pytest.param(0.71, 0.70, TREND_SHARE, id="a little behind: its old weight counts half"),
        pytest.param(1.00, 0.70, 0.02, id="behind the others"),
    ],
)
def test_re_estimated_weights_are_hedged_against_a_reversal(
    make_work: Callable[..., Work], seen: float, plain: float, weight: float
) -> None:
    work = make_work({})
    other, seeing = Recipe("lightgbm", {}), Recipe("lightgbm", {}, trend=True)
    write_outputs(work, {seeing: seen, other: plain})
    updated = reweighed(work, Blend((Member(seeing, 0.9), Member(other, 0.1))))
    assert updated.members[0].weight == pytest.approx(weight, abs=0.002)
