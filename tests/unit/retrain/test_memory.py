"""What earlier searches teach the next: relative losses, live recipes, lessons of today's space."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import optuna
import pytest

from automl.modeling.families import Shape, load_family, suggest_recipe
from automl.modeling.recipes import Recipe
from automl.problem import family_folder
from automl.retrain.memory import PastSearch, live_recipes, past_trials
from automl.sweep import Past, Trial
from automl.sweep.spaces import Spaces
from automl.sweep.warm_start import MOST, lessons

START = datetime(2026, 3, 2, tzinfo=UTC)
RECIPE = Recipe("lightgbm", {"learning_rate": 0.1}, 0)


def trial(recipe: Recipe = RECIPE, loss: float = 1.0) -> Trial:
    """A complete trial on two blocks."""
    losses = (loss, loss)
    return Trial(
        number=0, recipe=recipe, source="start", status="complete", losses=losses, scores=losses
    )


def points(count: int, family: str = "lightgbm") -> list[Recipe]:
    """Different recipes of one family."""
    return [Recipe(family, {"learning_rate": 0.05 + i / 1000}, 0) for i in range(count)]


def test_the_live_set_is_the_best_by_age_without_the_champion_and_of_two_families() -> None:
    good, better, old = points(3)
    linear = Recipe("linear", {"C": 1.0}, 0)
    trials = [
        Past(trial(RECIPE), 1.0, 1),
        Past(trial(better), 1.0, 1),
        Past(trial(good), 1.01, 1),
        Past(trial(old), 0.999, 9),  # a single look, long ago
        Past(trial(linear), 1.2, 1),
    ]
    assert live_recipes(trials, {RECIPE.id}, 2) == (better, linear)
    assert live_recipes(trials, {RECIPE.id}, 3)[:2] == (better, good)


def test_losses_are_remembered_relative_to_the_best_of_their_cycle() -> None:
    class Families:
        offered = frozenset({"lightgbm"})

    first, second = points(2)
    trials = (trial(first, 3.0), trial(second, 2.0))
    before = PastSearch(
        as_of=START - timedelta(days=7), kind="full", rows=1000, signature="same", trials=trials
    )
    losses = {p.trial.recipe.id: (p.relative, p.age) for p in past_trials([before], Families())}  # type: ignore[arg-type]
    assert losses == {first.id: (pytest.approx(1.5), 1), second.id: (1.0, 1)}


def test_lessons_are_trials_of_todays_space_in_todays_losses() -> None:
    family = load_family(str(family_folder() / "lightgbm.py"), family_folder())
    shape = Shape(rows=50_000, columns=10, classes=2, task="binary")
    study = optuna.create_study()
    recipes = []
    for i in range(MOST + 3):
        proposal = study.ask()
        recipes.append(suggest_recipe(family, proposal, shape, i))
        study.tell(proposal, 1.0)
    past = [Past(trial(r, 5.0), 1 + i / 100, 1) for i, r in enumerate(recipes)]
    foreign = Past(trial(Recipe("lightgbm", {"gone": 1}, 0)), 0.5, 1)
    taught = lessons(family, [foreign, *past], shape, best=0.2, spaces=Spaces())
    assert len(taught) == MOST
    assert taught[0].value == pytest.approx(0.2 * 1.002)
    assert set(taught[0].params) >= {"half_life", "recent", "trend"}
    new = optuna.create_study()
    new.add_trials(taught)
    suggest_recipe(family, new.ask(), shape, 0)  # the sampler takes them
