"""How much search a cycle deserves is a pure function of what has changed; lessons stay in today's space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import optuna
import pytest

from automl.modeling.families import Shape, load_family, suggest_recipe
from automl.modeling.recipes import Blend, Member, Recipe
from automl.problem import Problem, Span, family_folder
from automl.problem.sections import ScheduleSection, ValidationSection
from automl.retrain.plan import (
    FULL_AFTER,
    Facts,
    Finished,
    choose,
    live_set,
    remember,
    shadow_gains,
    whole_block_since,
)
from automl.sweep import Past, Trial, blend_losses
from automl.sweep.warm_start import MOST, lessons
from tests.support.sweep_work import MakeWork, say
from tests.support.sweep_work import make_work as make_work  # a fixture

MakeProblem = Callable[..., Problem]
DAY = timedelta(days=7)
START = datetime(2026, 3, 2, tzinfo=UTC)
RECIPE = Recipe("lightgbm", {"learning_rate": 0.1}, 0)
CHAMPION = Blend((Member(RECIPE, 1.0, {}),))


def trial(recipe: Recipe = RECIPE, loss: float = 1.0, newest: float | None = None) -> Trial:
    """A complete trial on two blocks."""
    losses = (loss if newest is None else newest, loss)
    return Trial(0, recipe, "start", "complete", losses, losses)


def finished(kind: str = "full", rows: int = 1000, *trials: Trial, age: int = 1) -> Finished:
    """A cycle that ended `age` weeks ago."""
    return Finished(START - age * DAY, kind, rows, "same", trials or (trial(),))  # type: ignore[arg-type]


FACTS = Facts(CHAMPION, (finished(),), 1010, "same", whole_block=True, losses=())


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
        (replace(FACTS, losses=(9.0, 1.0, 1.0)), "warm", "nothing"),  # too few to say
    ],
)
def test_a_plan_follows_from_what_has_changed(facts: Facts, plan: str, why: str) -> None:
    kind, reason = choose(facts)
    assert kind == plan
    assert why in reason


@pytest.mark.parametrize(("cycles", "plan"), [(FULL_AFTER - 2, "warm"), (FULL_AFTER - 1, "full")])
def test_a_full_search_comes_back_after_some_cycles(cycles: int, plan: str) -> None:
    warm = [finished("warm", age=i + 1) for i in range(cycles)]
    past = (*warm, finished(age=cycles + 1))
    assert choose(replace(FACTS, past=past))[0] == plan


def test_newer_rows_that_matter_more_bring_a_full_search_back() -> None:
    recent, other = replace(RECIPE, half_life=0.25), replace(RECIPE, seed=1)
    assert choose(replace(FACTS, gains=[(recent, 0.03)]))[0] == "full"
    assert choose(replace(FACTS, gains=[(recent, 0.01)]))[0] == "warm"
    assert choose(replace(FACTS, gains=[(other, 0.03)]))[0] == "warm"  # of the same recency


def test_a_shadow_gains_what_it_gains_on_the_worse_block_over_the_best_of_the_champion(
    make_work: MakeWork,
) -> None:
    work = make_work()
    good, bad = points(2)
    held = Blend((Member(good, 0.5), Member(bad, 0.5)))
    better = replace(RECIPE, half_life=0.25)
    lucky, late, gone = (replace(RECIPE, half_life=0.25, seed=i) for i in (1, 2, 3))
    says = {good: 0.6, bad: 0.9, better: 0.5, lucky: 0.3, late: 0.3}
    say(work, says)
    say(work, {lucky: 0.9}, since=1)
    remembered = [Past(trial(r), 1.0, 1) for r in (good, better, lucky, late, gone)]
    known = {(r.id, b): {} for r in says for b in (0, 1) if (r, b) != (late, 1)}

    told = dict(shadow_gains(work, known, held, remembered))

    assert set(told) == {better, lucky}, "the late one has not answered both blocks"
    mine, its = (blend_losses(work, Blend.single(r)) for r in (good, better))
    assert told[better] == pytest.approx(min(1 - i / m for i, m in zip(its, mine, strict=True)))
    assert told[better] > 0
    assert told[lucky] < 0, "the best on one block, not on the other"
    assert shadow_gains(work, known, None, remembered) == []
    assert shadow_gains(work, {}, held, remembered) == [], "nothing to compare with"


def test_the_best_of_a_search_does_not_bring_the_next_one_back() -> None:
    found = [trial(replace(p, half_life=0.25), newest=0.9) for p in points(20)]
    searched = finished("full", 1000, trial(newest=1.0), *found)
    assert choose(replace(FACTS, past=(searched,)))[0] == "warm"


@pytest.mark.parametrize("asked", ["refit", "warm", "full"])
def test_what_was_asked_for_is_done_unless_there_is_no_champion(asked: str) -> None:
    assert choose(FACTS, asked) == (asked, "asked for")
    assert choose(replace(FACTS, champion=None), asked)[0] == "full"


def points(count: int, family: str = "lightgbm") -> list[Recipe]:
    """Different recipes of one family."""
    return [Recipe(family, {"learning_rate": 0.05 + i / 1000}, 0) for i in range(count)]


def test_the_live_set_is_the_best_by_age_without_the_champion_and_of_two_families() -> None:
    good, better, old = points(3)
    linear = Recipe("linear", {"C": 1.0}, 0)
    remembered = [
        Past(trial(RECIPE), 1.0, 1),
        Past(trial(better), 1.0, 1),
        Past(trial(good), 1.01, 1),
        Past(trial(old), 0.999, 9),  # one look, long ago
        Past(trial(linear), 1.2, 1),
    ]
    assert live_set(remembered, {RECIPE.id}, 2) == (better, linear)
    assert live_set(remembered, {RECIPE.id}, 3)[:2] == (better, good)


def test_losses_are_remembered_relative_to_the_best_of_their_cycle() -> None:
    class Families:
        offered = frozenset({"lightgbm"})

    first, second = points(2)
    past = [finished("full", 1000, trial(first, 3.0), trial(second, 2.0))]
    told = {p.trial.recipe.id: (p.relative, p.age) for p in remember(past, Families())}  # type: ignore[arg-type]
    assert told == {first.id: (pytest.approx(1.5), 1), second.id: (1.0, 1)}


def test_lessons_are_trials_of_todays_space_in_todays_losses() -> None:
    family = load_family(str(family_folder() / "lightgbm.py"), family_folder())
    shape = Shape(rows=50_000, columns=10, classes=2, task="binary")
    study = optuna.create_study()
    recipes = []
    for i in range(MOST + 3):
        asked = study.ask()
        recipes.append(suggest_recipe(family, asked, shape, i))
        study.tell(asked, 1.0)
    past = [Past(trial(r, 5.0), 1 + i / 100, 1) for i, r in enumerate(recipes)]
    foreign = Past(trial(Recipe("lightgbm", {"gone": 1}, 0)), 0.5, 1)
    told = lessons(family, [foreign, *past], shape, best=0.2)
    assert len(told) == MOST
    assert told[0].value == pytest.approx(0.2 * 1.002)
    assert set(told[0].params) >= {"half_life", "recent", "trend"}
    new = optuna.create_study()
    new.add_trials(told)
    asked = new.ask()
    suggest_recipe(family, asked, shape, 0)  # the sampler takes them


def daily(problem: Problem, block: str, days: int) -> list[str]:
    """Plans of daily cycles without any other trigger."""
    problem = problem.model_copy(update={"validation": ValidationSection(block=Span.parse(block))})
    past: list[Finished] = []
    plans: list[str] = []
    for day in range(days):
        as_of = START + timedelta(days=day)
        whole = not past or whole_block_since(problem, past[0].as_of, as_of)
        facts = replace(FACTS, past=tuple(past), rows=1000, whole_block=whole)
        kind, _ = choose(facts)
        plans.append(str(kind))
        if kind != "refit":  # mere refits are no searches
            past.insert(0, Finished(as_of, kind, 1000, "same", ()))
    return plans


@pytest.mark.parametrize("delay", ["", 'label_delay = "2d"\n'])
def test_daily_cycles_search_once_per_block(make_problem: MakeProblem, delay: str) -> None:
    problem = make_problem(replace={'label_delay = "1d"\n': delay})
    plans = daily(problem, "7d", 64)
    assert [day for day, kind in enumerate(plans) if kind != "refit"] == list(range(0, 64, 7))
    assert plans[0] == plans[56] == "full", "after eight searches a full one is due"
    assert plans[7:56:7] == ["warm"] * 7


def test_one_more_retraining_in_the_week_does_not_put_off_the_next_search(
    make_problem: MakeProblem,
) -> None:
    problem = make_problem()
    monday = START
    weekly = problem.model_copy(update={"schedule": ScheduleSection(retrain="0 0 * * 1")})
    assert not whole_block_since(weekly, monday, monday + timedelta(days=3))
    assert whole_block_since(weekly, monday, monday + timedelta(days=7))
    assert whole_block_since(weekly, monday + timedelta(days=3), monday + timedelta(days=7)), (
        "a search between two slots judges on the blocks of the slot before"
    )
