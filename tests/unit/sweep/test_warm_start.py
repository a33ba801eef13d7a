"""A sweep that goes on from what models of earlier cycles have answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from automl.modeling.recipes import Blend, Member, Recipe
from automl.sweep import Plan, Work, output_file, sweep
from tests.support.sweep_work import make_work as make_work  # a fixture


def known_champion(work: Work) -> tuple[Blend, Plan]:
    """A champion whose model has answered every block already, without fault."""
    recipe = Recipe("lightgbm", {"num_leaves": 7}, 3)
    (work.scratch / "outputs").mkdir(parents=True)
    for b, block in enumerate(work.blocks):
        outcome = work.frame["late"].to_numpy()[block.validation]
        np.save(output_file(work, recipe, b), np.column_stack([1 - outcome, outcome]) * 0.8 + 0.1)
    known = {(recipe.id, b): {} for b in range(len(work.blocks))}
    plan = Plan("warm", challengers=0, known=known, costs={recipe.id: 2.5})
    return Blend((Member(recipe, 1.0, {}),)), plan


def test_a_known_answer_takes_the_place_of_a_fit(make_work: Callable[..., Work]) -> None:
    work = make_work({'"linear"]': '"linear", "lightgbm"]'})
    champion, plan = known_champion(work)
    leaderboard = sweep(work, deadline=float("inf"), carried=[champion], plan=plan)
    mine = next(t for t in leaderboard.trials if t.recipe == champion.members[0].recipe)
    assert mine.losses == (0.0, 0.0)
    assert mine.seconds == 0
    assert mine.seconds_fit == 2.5  # what a refit will cost is still known
    assert leaderboard.challenger == champion
    assert not list(work.scratch.glob("trees*"))  # no rows were encoded for it


def test_known_answers_are_read_while_every_core_is_at_work(make_work: Callable[..., Work]) -> None:
    work = replace(make_work({'"linear"]': '"linear", "lightgbm"]'}), workers=1)
    champion, plan = known_champion(work)
    ended: list[str] = []
    leaderboard = sweep(
        work,
        deadline=float("inf"),
        carried=[champion],
        plan=plan,
        on_trial=lambda trial: ended.append(trial.source),
    )
    assert ended == ["carried", "start"]  # the floor waits for its matrix meanwhile
    assert [t.source for t in leaderboard.trials] == ["start", "carried"]
