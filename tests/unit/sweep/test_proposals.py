"""The order of proposals, and the end of a search that gains nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from automl.modeling.families import Shape
from automl.modeling.recipes import Recipe
from automl.problem import Problem
from automl.sweep import (
    Plan,
    Trial,
    Work,
)
from automl.sweep.proposals import Proposal, Proposals
from tests.support.sweep_work import make_work as make_work  # a fixture

MakeProblem = Callable[..., Problem]


def proposals(work: Work, losses: list[float], **plan: Any) -> Proposals:
    """Proposals after search trials with these losses, in order."""
    built = Proposals(work=work, plan=Plan(**plan), carried=(), shape=lambda _: None)  # type: ignore[arg-type,return-value]
    for i, loss in enumerate(losses):
        recipe = Recipe("linear", {"C": 1.0 + i}, 0)
        pair = (loss, loss * (1 + 0.001 * (i % 3)))
        trial = Trial(
            number=i, recipe=recipe, source="search", status="complete", losses=pair, scores=pair
        )
        built.report(Proposal(recipe, "search"), trial)
    return built


def test_a_search_without_further_gain_is_exhausted(make_work: Callable[..., Work]) -> None:
    work = make_work()
    flat = [1.0] * 80
    falling = [1.0 - 0.01 * i for i in range(80)]
    assert proposals(work, flat).exhausted
    assert not proposals(work, falling).exhausted
    assert not proposals(work, flat[:10]).exhausted


def test_families_that_won_before_start_first(make_work: Callable[..., Work]) -> None:
    work = make_work({'"linear"]': '"linear", "lightgbm", "mlp"]'})
    favoured = proposals(work, [], favour=("mlp", "lightgbm", "linear")).queue
    families = list(dict.fromkeys(recipe.family for recipe, _ in favoured))
    assert families == ["baseline", "mlp", "lightgbm", "linear"]
    plain = proposals(work, []).queue
    assert [recipe.family for recipe, _ in plain][:3] == ["baseline", "lightgbm", "linear"]


def test_start_points_bring_their_recency(make_work: Callable[..., Work]) -> None:
    queue = proposals(make_work({'"linear"]': '"lightgbm"]'}), []).queue
    recency = {(recipe.half_life, recipe.recent) for recipe, _ in queue}
    assert recency >= {(None, 0.0), (0.5, 0.0), (None, 0.2)}
    assert all("half_life" not in recipe.params for recipe, _ in queue)


SHIPPED = (
    "linear",
    "lightgbm",
    "hist_gradient_boosting",
    "extra_trees",
    "mlp",
    "catboost",
    "xgboost",
)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_study_begins_with_the_start_points_of_its_family(
    make_work: Callable[..., Work], name: str
) -> None:
    built = proposals(make_work({'"linear"]': f'"{name}"]'}), [])
    built.shape = lambda _: Shape(rows=5000, columns=9, classes=2, task="binary", categories=())
    starts = [recipe for recipe, _ in built.queue if recipe.family == name]
    for i, recipe in enumerate(starts):
        pair = (1.0 + i, 1.1 + i)
        trial = Trial(
            number=i, recipe=recipe, source="start", status="complete", losses=pair, scores=pair
        )
        built.report(Proposal(recipe, "start"), trial)

    study = built._study(name)

    known = [t.value for t in study.trials]
    assert known == pytest.approx(sorted(t.loss for t in built.trials))
    assert (
        study.best_trial.params.items()
        >= {n: v for n, v in starts[0].params.items() if n in study.best_trial.params}.items()
    )
