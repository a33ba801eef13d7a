"""The command line with one part of the sweep taken out, for ablations; never imported by the product.

python -m benchmarks.lacking recency|ensemble|time|studies COMMAND ...
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna

from automl.cli import main
from automl.modeling import families
from automl.modeling.recipes import Blend, Recipe
from automl.modeling.splits import Block, make_blocks
from automl.promotion.guards import checks
from automl.sweep import Trial, blending, proposals
from automl.sweep.proposals import Proposal, Proposals


def recency() -> None:
    """No half-lives, no stage on the newest rows, no time among the columns of trees."""

    def of_start(family: Any, start: dict[str, Any], seed: int) -> Recipe:
        recipe = families.recipe_of_start(family, start, seed)
        return replace(recipe, half_life=None, recent=0.0, trend=False)

    proposals.recipe_of_start = of_start  # type: ignore[attr-defined]
    families.HALF_LIVES, families.RECENT = (None,), (0.0,)  # type: ignore[attr-defined]
    families.TRENDS = (False,)  # type: ignore[attr-defined]


def single() -> None:
    """The best recipe alone, no blend."""

    def reference(_: Any, finished: Sequence[Trial]) -> Blend | None:
        complete = [t for t in finished if t.source == "start" and t.status == "complete"]
        best = min(complete, key=lambda t: t.loss, default=None)
        return Blend.single(best.recipe, best.learned) if best else None

    def best_alone(_: Any, trials: Iterable[Trial], __: Any) -> dict[str, float]:
        return {min(trials, key=lambda t: t.loss).recipe.id: 1.0}

    blending.Blending.reference = reference  # type: ignore[method-assign, assignment]
    blending.Blending._greedy = best_alone  # type: ignore[method-assign, assignment]
    blending.Blending._hedged = lambda _, weights, __: weights  # type: ignore[method-assign, assignment]


def time_order() -> None:
    """Scored on rows drawn at random, as many as the blocks had."""
    from automl.retrain import training_data

    def random_blocks(frame: Any, problem: Any, as_of: Any) -> list[Block]:
        blocks = make_blocks(frame, problem, as_of)
        drawn = np.random.default_rng(0).permutation(len(frame))
        shuffled, at = [], 0
        for block in blocks:
            count = len(block.validation)
            validation = np.sort(drawn[at : at + count])
            shuffled.append(
                replace(block, validation=validation, train=np.setdiff1d(drawn, validation))
            )
            at += count
        return shuffled

    checks.LARGEST = 5000  # deep trees that rows drawn at random call for outgrow the guard
    training_data.make_blocks = random_blocks  # type: ignore[attr-defined]


class _Prefixed:
    """A trial that puts the family before every name."""

    def __init__(self, trial: Any, family: str) -> None:
        self.trial, self.family = trial, family

    def __getattr__(self, what: str) -> Any:
        suggest = getattr(self.trial, what)
        return lambda name, *args, **kwargs: suggest(f"{self.family}.{name}", *args, **kwargs)


def one_study() -> None:
    """One study for all families, the family being one of its choices."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5))

    def propose(self: Proposals, _: str) -> Proposal | None:
        trial = study.ask()
        name = trial.suggest_categorical("family", sorted(self.work.families))
        family = self.work.families[name]
        prefixed: Any = _Prefixed(trial, name)  # ranges of one name differ from family to family
        recipe = families.suggest_recipe(family, prefixed, self.shape(family), self._seed)
        self.studies[name] = study
        if recipe.id in self.seen:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return None
        self.seen.add(recipe.id)
        self.proposed[name] += 1
        return Proposal(recipe, "search", trial)

    Proposals._propose = propose  # type: ignore[method-assign, assignment]


PARTS = {"recency": recency, "ensemble": single, "time": time_order, "studies": one_study}

if __name__ == "__main__":
    PARTS[sys.argv.pop(1)]()
    main()
