"""How much search a cycle deserves is a pure function of what has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from automl.modeling.recipes import Blend, Member, Recipe
from automl.problem import Problem, Span
from automl.problem.operating import ScheduleSection
from automl.problem.sections import ValidationSection
from automl.retrain.memory import PastSearch
from automl.retrain.plan import (
    FULL_AFTER,
    Facts,
    choose_plan,
    shadow_gains,
    warm_seconds,
    whole_block_since,
)
from automl.sweep import Past, Trial, blend_losses
from tests.support.sweep_work import MakeWork, write_outputs
from tests.support.sweep_work import make_work as make_work  # a fixture

MakeProblem = Callable[..., Problem]
DAY = timedelta(days=7)
START = datetime(2026, 3, 2, tzinfo=UTC)
RECIPE = Recipe("lightgbm", {"learning_rate": 0.1}, 0)
CHAMPION = Blend((Member(RECIPE, 1.0, {}),))


def trial(recipe: Recipe = RECIPE, loss: float = 1.0, newest: float | None = None) -> Trial:
    """A complete trial on two blocks."""
    losses = (loss if newest is None else newest, loss)
    return Trial(
        number=0, recipe=recipe, source="start", status="complete", losses=losses, scores=losses
    )


def search(kind: str = "full", rows: int = 1000, *trials: Trial, age: int = 1) -> PastSearch:
    """A search of `age` weeks ago."""
    return PastSearch(
        as_of=START - age * DAY,
        kind=kind,  # type: ignore[arg-type]
        rows=rows,
        signature="same",
        trials=trials or (trial(),),
    )


FACTS = Facts(
    champion=CHAMPION,
    past=(search(),),
    rows=1010,
    signature="same",
    whole_block=True,
    losses=(),
)


@pytest.mark.parametrize(
    ("facts", "plan", "why"),
    [
        (replace(FACTS, champion=None), "full", "no champion"),
        (replace(FACTS, past=()), "full", "no full search is remembered"),
        (FACTS, "warm", "new, nothing has changed since the full search of 2026-02-23"),
        (replace(FACTS, whole_block=False), "refit", "no whole block"),
        (replace(FACTS, signature="other"), "full", "families, columns or target"),
        (replace(FACTS, rows=1500), "full", "rows grew from 1000 to 1500"),
        (replace(FACTS, losses=(2.0, 1.0, 1.1, 0.9, 1.0, 1.05, 0.95)), "full", "deviations above"),
        (replace(FACTS, losses=(1.1, 1.0, 1.1, 0.9, 1.0, 1.05, 0.95)), "warm", "nothing"),
        (replace(FACTS, losses=(9.0, 1.0, 1.0)), "warm", "nothing"),  # too few to write_outputs
    ],
)
def test_a_plan_follows_from_what_has_changed(facts: Facts, plan: str, why: str) -> None:
    kind, reason = choose_plan(facts)
    assert kind == plan
    assert why in reason


@pytest.mark.parametrize(("cycles", "plan"), [(FULL_AFTER - 2, "warm"), (FULL_AFTER - 1, "full")])
def test_a_full_search_comes_back_after_some_cycles(cycles: int, plan: str) -> None:
    warm = [search("warm", age=i + 1) for i in range(cycles)]
    past = (*warm, search(age=cycles + 1))
    assert choose_plan(replace(FACTS, past=past))[0] == plan


def test_newer_rows_that_matter_more_bring_a_full_search_back() -> None:
    recent, other = replace(RECIPE, half_life=0.25), replace(RECIPE, seed=1)
    assert choose_plan(replace(FACTS, gains=[(recent, 0.03)]))[0] == "full"
    assert choose_plan(replace(FACTS, gains=[(recent, 0.01)]))[0] == "warm"
    assert choose_plan(replace(FACTS, gains=[(other, 0.03)]))[0] == "warm"  # of the same recency


def test_a_shadow_gains_what_it_gains_on_the_worse_block_over_the_best_of_the_champion(
    make_work: MakeWork,
) -> None:
    work = make_work()
    good, bad = points(2)
    champion = Blend((Member(good, 0.5), Member(bad, 0.5)))
    better = replace(RECIPE, half_life=0.25)
    lucky, late, gone = (replace(RECIPE, half_life=0.25, seed=i) for i in (1, 2, 3))
    says = {good: 0.6, bad: 0.9, better: 0.5, lucky: 0.3, late: 0.3}
    write_outputs(work, says)
    write_outputs(work, {lucky: 0.9}, since=1)
    trials = [Past(trial(r), 1.0, 1) for r in (good, better, lucky, late, gone)]
    known = {(r.id, b): {} for r in says for b in (0, 1) if (r, b) != (late, 1)}

    gains = dict(shadow_gains(work, known, champion, trials))

    assert set(gains) == {better, lucky}, "the late recipe has no predictions of one block"
    good_losses, better_losses = (blend_losses(work, Blend.single(r)) for r in (good, better))
    assert gains[better] == pytest.approx(
        min(1 - b / g for b, g in zip(better_losses, good_losses, strict=True))
    )
    assert gains[better] > 0
    assert gains[lucky] < 0, "the best on one block, not on the other"
    assert shadow_gains(work, known, None, trials) == []
    assert shadow_gains(work, {}, champion, trials) == [], "nothing to compare with"


def test_the_best_of_a_search_does_not_bring_the_next_one_back() -> None:
    found = [trial(replace(p, half_life=0.25), newest=0.9) for p in points(20)]
    before = search("full", 1000, trial(newest=1.0), *found)
    assert choose_plan(replace(FACTS, past=(before,)))[0] == "warm"


@pytest.mark.parametrize("plan", ["refit", "warm", "full"])
def test_a_plan_on_request_is_made_unless_there_is_no_champion(plan: str) -> None:
    assert choose_plan(FACTS, plan) == (plan, "requested")
    assert choose_plan(replace(FACTS, champion=None), plan)[0] == "full"


def points(count: int, family: str = "lightgbm") -> list[Recipe]:
    """Different recipes of one family."""
    return [Recipe(family, {"learning_rate": 0.05 + i / 1000}, 0) for i in range(count)]


def daily(problem: Problem, block: str, days: int) -> list[str]:
    """Plans of daily cycles without any other trigger."""
    problem = problem.model_copy(update={"validation": ValidationSection(block=Span.parse(block))})
    past: list[PastSearch] = []
    plans: list[str] = []
    for day in range(days):
        as_of = START + timedelta(days=day)
        whole = not past or whole_block_since(problem, past[0].as_of, as_of)
        facts = replace(FACTS, past=tuple(past), rows=1000, whole_block=whole)
        kind, _ = choose_plan(facts)
        plans.append(str(kind))
        if kind != "refit":  # mere refits are no searches
            past.insert(0, replace(search(), as_of=as_of, kind=kind, trials=()))
    return plans


@pytest.mark.parametrize("delay", ["", 'label_delay = "2d"\n'])
def test_daily_cycles_search_once_per_block(make_problem: MakeProblem, delay: str) -> None:
    problem = make_problem(replace={'label_delay = "1d"\n': delay})
    plans = daily(problem, "7d", 64)
    assert [day for day, kind in enumerate(plans) if kind != "refit"] == list(range(0, 64, 7))
    assert plans[0] == plans[56] == "full", "after eight searches a full one is due"
    assert plans[7:56:7] == ["warm"] * 7


def test_an_extra_retraining_in_the_week_does_not_delay_the_next_search(
    make_problem: MakeProblem,
) -> None:
    problem = make_problem()
    monday = START
    weekly = problem.model_copy(update={"schedule": ScheduleSection(retrain="0 0 * * 1")})
    assert not whole_block_since(weekly, monday, monday + timedelta(days=3))
    assert whole_block_since(weekly, monday, monday + timedelta(days=7))
    assert whole_block_since(weekly, monday + timedelta(days=3), monday + timedelta(days=7)), (
        "a search between two slots evaluates on the blocks of the slot before"
    )


@pytest.mark.parametrize(("budget", "seconds"), [("10s", 2), ("60s", 12), ("5m", 32), ("1h", 296)])
def test_a_warm_search_has_a_fifth_of_a_small_budget_and_less_of_a_large_one(
    budget: str, seconds: float
) -> None:
    assert warm_seconds(Span.parse(budget)) == pytest.approx(seconds)
    assert warm_seconds(None) is None
