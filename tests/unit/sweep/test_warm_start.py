"""A sweep that uses predictions of models from earlier cycles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from automl.modeling.recipes import Blend, Member, Recipe
from automl.sweep import Plan, Work, output_file, sweep
from tests.support.sweep_work import make_work as make_work  # a fixture


def cached_champion(work: Work) -> tuple[Blend, Plan]:
    """A champion with cached, perfect predictions of every block."""
    recipe = Recipe("lightgbm", {"num_leaves": 7}, 3)
    (work.scratch / "outputs").mkdir(parents=True)
    for b, block in enumerate(work.blocks):
        outcome = work.frame["late"].to_numpy()[block.validation]
        np.save(output_file(work, recipe, b), np.column_stack([1 - outcome, outcome]) * 0.8 + 0.1)
    cached = {(recipe.id, b): {} for b in range(len(work.blocks))}
    plan = Plan(kind="warm", challengers=0, cached=cached, costs={recipe.id: 2.5})
    return Blend((Member(recipe, 1.0, {}),)), plan


def test_a_cached_prediction_replaces_a_fit(make_work: Callable[..., Work]) -> None:
    work = make_work({'"linear"]': '"linear", "lightgbm"]'})
    champion, plan = cached_champion(work)
    leaderboard = sweep(work, deadline=float("inf"), carried=[champion], plan=plan)
    trial = next(t for t in leaderboard.trials if t.recipe == champion.members[0].recipe)
    assert trial.losses == (0.0, 0.0)
    assert trial.seconds == 0
    assert trial.seconds_fit == 2.5  # the cost of a refit is still recorded
    assert leaderboard.challenger == champion
    assert not list(work.scratch.glob("trees*"))  # no rows were encoded for it


def test_cached_predictions_are_read_while_every_core_is_busy(
    make_work: Callable[..., Work],
) -> None:
    work = replace(make_work({'"linear"]': '"linear", "lightgbm"]'}), workers=1)
    champion, plan = cached_champion(work)
    ended: list[str] = []
    leaderboard = sweep(
        work,
        deadline=float("inf"),
        carried=[champion],
        plan=plan,
        on_trial=lambda trial: ended.append(trial.source),
    )
    assert ended == ["carried", "start"]  # the baseline waits for its matrix meanwhile
    assert [t.source for t in leaderboard.trials] == ["start", "carried"]
