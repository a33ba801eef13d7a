"""Trials of earlier cycles, and of this cycle's start points, as finished trials of a new study."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import optuna

from automl.modeling.families import Family, Shape, suggested_values
from automl.sweep.leaderboard import Past
from automl.sweep.spaces import SpaceFailedError, Spaces

__all__ = ["lessons"]

MOST = 20  # per family: more would outweigh the trials of this cycle
AGEING = 0.002  # added to a relative loss per cycle of age, so that a study forgets old trials
_log = logging.getLogger(__name__)


def lessons(
    family: Family, past: Sequence[Past], shape: Shape, best: float, spaces: Spaces
) -> list[optuna.trial.FrozenTrial]:
    """The best trials of a family so far, with losses in units of `best`, this cycle's best loss.

    Losses of different cycles cannot be compared; losses relative to the best of their cycle can. A
    trial whose parameters the present space would not suggest is left out.
    """
    newest: dict[str, Past] = {}
    for p in sorted(past, key=lambda p: (p.age, p.relative)):
        newest.setdefault(p.trial.recipe.id, p)
    trials = []
    for p in sorted(
        newest.values(), key=lambda p: (p.relative + AGEING * p.age, p.trial.recipe.id)
    ):
        recipe = p.trial.recipe
        params = suggested_values(family, recipe)
        fixed = optuna.trial.FixedTrial(params)
        try:
            again = spaces.recipe(family, fixed, shape, recipe.seed)
        except SpaceFailedError as error:
            if error.late:
                break
            continue  # the space has changed
        fits = all(
            d._contains(d.to_internal_repr(params[n])) for n, d in fixed.distributions.items()
        )
        known = {**family.defaults, **recipe.params}
        if not fits or any(known.get(name) != value for name, value in again.params.items()):
            continue
        trials.append(
            optuna.trial.create_trial(
                params={n: params[n] for n in fixed.distributions},
                distributions=fixed.distributions,
                value=best * (p.relative + AGEING * p.age),
            )
        )
        if len(trials) == MOST:
            break
    return trials
