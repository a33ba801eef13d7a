"""Trials of earlier cycles as finished trials of a new study."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import optuna

from automl.modeling.families import Family, Shape, suggest_recipe, suggested_values
from automl.sweep.leaderboard import Past

__all__ = ["lessons"]

MOST = 10  # per family: more would drown what this cycle finds
AGEING = (
    0.002  # by which a lesson's loss grows per cycle of age; a study has no other way to forget
)
_log = logging.getLogger(__name__)


def lessons(
    family: Family, past: Sequence[Past], shape: Shape, best: float
) -> list[optuna.trial.FrozenTrial]:
    """The best earlier trials of a family, their losses in units of `best`, this cycle's best loss.

    Losses of different cycles cannot be compared; losses relative to the best of their cycle can. A
    trial whose parameters the space of today would not suggest is left out.
    """
    known: dict[str, Past] = {}
    for p in sorted(past, key=lambda p: (p.age, p.relative)):
        known.setdefault(p.trial.recipe.id, p)
    told = []
    for p in sorted(known.values(), key=lambda p: (p.relative + AGEING * p.age, p.trial.recipe.id)):
        recipe = p.trial.recipe
        params = suggested_values(family, recipe)
        fixed = optuna.trial.FixedTrial(params)
        try:
            again = suggest_recipe(family, fixed, shape, recipe.seed)
        except (ValueError, KeyError, TypeError):
            continue  # the space has changed
        fits = all(
            d._contains(d.to_internal_repr(params[n])) for n, d in fixed.distributions.items()
        )
        if again.params != recipe.params or not fits:
            continue
        told.append(
            optuna.trial.create_trial(
                params={n: params[n] for n in fixed.distributions},
                distributions=fixed.distributions,
                value=best * (p.relative + AGEING * p.age),
            )
        )
        if len(told) == MOST:
            break
    return told
