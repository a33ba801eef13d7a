"""A problem's decisions over thirty simulated cycles: worlds of recipes with known losses, and a store in memory.

No model is fitted. Evidence arises as in a real cycle: the sweep looks at the newest blocks and proposes the
best recipe as challenger; a challenger that is not promoted becomes a shadow and is scored out-of-sample on the next
block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from automl.modeling.ensemble import block_weights
from automl.modeling.losses import BlockLoss, kind_of
from automl.promotion.decide import (
    PROBATION_CYCLES,
    REVERTED_CONFIDENCE,
    REVERTED_CYCLES,
    YOUNG_CONFIDENCE,
    YOUNG_CYCLES,
    Decision,
    decide,
    probation,
)
from automl.promotion.evidence import duels
from automl.promotion.release import MOST_SHADOWS
from automl.retrain.plan import FULL_AFTER, WARM_BLOCKS

__all__ = [
    "APART",
    "CONFIDENCE",
    "CYCLES",
    "FIRST",
    "NOISE",
    "ORIGINS",
    "RECIPES",
    "WEEK",
    "Array",
    "State",
    "World",
    "best_recipe",
    "live",
    "world",
]

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = timedelta(weeks=1)
CYCLES, RECIPES, ORIGINS = 30, 10, 3
NOISE = 0.014  # paired block standard deviation of relative losses
APART = 0.005  # standard deviation of recipes' true levels, where they differ
CONFIDENCE = 0.8
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """True advantages and losses per block and recipe, shapes (n_blocks, n_recipes)."""

    advantage: Array
    losses: Array
    arrives: Array  # first cycle in which a recipe can be tried, shape (n_recipes,)


@dataclass(slots=True)
class State:
    """What a problem's store holds between two cycles."""

    champion: int
    until: datetime  # end of the labels that chose the champion
    shadows: dict[int, datetime] = field(default_factory=dict)
    past: list[BlockLoss] = field(default_factory=list)
    # recipe, end of the labels that chose it, cycle in which it was replaced
    previous_champion: tuple[int, datetime, int] | None = None
    reverted: dict[int, int] = field(default_factory=dict)  # recipe -> cycle
    promotions: int = 0
    reverts: int = 0


# ---------------------------------------------------------------- worlds


def world(
    seed: int, levels: Array, *, keeps: float = 1.0, noise: float = NOISE, arrives: int = 0
) -> World:
    """A world of so many recipes; the last of them can be tried from cycle `arrives` on."""
    random = np.random.default_rng(seed)
    blocks = CYCLES + ORIGINS
    advantage = np.empty((blocks, len(levels)))
    advantage[0] = levels
    for b in range(1, blocks):
        moved = random.normal(0, APART * sqrt(1 - keeps**2), len(levels))
        advantage[b] = keeps * advantage[b - 1] + moved
    luck = random.normal(0, noise / sqrt(2), advantage.shape)
    since = np.zeros(len(levels))
    since[-1] = arrives
    return World(advantage, 0.3 * (1 - advantage + luck), since)


# ---------------------------------------------------------------- a cycle, step by step as in a retraining


def live(place: World, first: int | None = None, *, others: bool = True) -> tuple[list[int], State]:
    """The champion after each cycle, and the final state. Without `first` the best of cycle 0 starts.

    With `others` the decision also gets the evidence of the other recipes that were tried.
    """
    start = best_recipe(place, 0) if first is None else first
    state = State(start, _mature(0))
    history = []
    for cycle in range(CYCLES):
        _cycle(place, state, cycle, others=others)
        history.append(state.champion)
    return history, state


def _cycle(place: World, state: State, cycle: int, *, others: bool) -> None:
    mature = _mature(cycle)
    if state.previous_champion and cycle > state.previous_champion[2] + PROBATION_CYCLES:
        state.previous_champion = None
    rivals = {i: until for i, until in state.shadows.items() if until < mature}
    best = best_recipe(place, cycle)
    if best != state.champion:
        rivals.setdefault(best, mature)
    watched = (
        {state.previous_champion[0]: state.previous_champion[1]} if state.previous_champion else {}
    )
    scored = {**watched, **rivals, state.champion: state.until}
    losses = [x for i, until in scored.items() for x in _losses(place, cycle, i, until)]
    tried = [i for i in _pool(place, cycle) if i not in scored]
    rest = [x for i in tried for x in _losses(place, cycle, i, mature)]
    evidence = [*state.past, *losses]
    state.past = evidence
    if _reverts(state, evidence, cycle):
        return
    every = duels([*evidence, *rest], str(state.champion))
    decision = decide(
        [d for d in every if int(d.challenger) in rivals],
        str(state.champion),
        min(CONFIDENCE, YOUNG_CONFIDENCE) if cycle < YOUNG_CYCLES else CONFIDENCE,
        {},
        least={
            str(i): REVERTED_CONFIDENCE
            for i, since in state.reverted.items()
            if cycle <= since + REVERTED_CYCLES
        },
        others=[d for d in every if others and int(d.challenger) not in rivals],
    )
    _release(state, decision, rivals, cycle)


def _reverts(state: State, evidence: Sequence[BlockLoss], cycle: int) -> bool:
    if state.previous_champion is None:
        return False
    old, until, since = state.previous_champion
    verdict = probation(evidence, str(state.champion), str(old), _mature(since))
    if verdict.outcome != "revert":
        return False
    state.reverted[state.champion] = cycle
    state.champion, state.until, state.previous_champion = old, until, None
    state.shadows = {}
    state.reverts += 1
    return True


def _release(state: State, decision: Decision, rivals: dict[int, datetime], cycle: int) -> None:
    ranked = sorted(decision.verdicts, key=lambda v: -v.shrunk)
    waiting = [v.challenger for v in ranked if v.challenger != decision.blend and v.shrunk > 0]
    state.shadows = {int(name): rivals[int(name)] for name in waiting[:MOST_SHADOWS]}
    if decision.outcome == "promote":
        state.previous_champion = (state.champion, state.until, cycle)
        state.champion = int(decision.blend)
        state.until = rivals[state.champion]
        state.promotions += 1


def _losses(place: World, cycle: int, recipe: int, until: datetime) -> list[BlockLoss]:
    starts = {b: FIRST + b * WEEK for b in _window(cycle)}
    return [
        BlockLoss(
            cycle=_mature(cycle),
            blend=str(recipe),
            start=start,
            end=start + WEEK,
            rows=1000,
            loss=float(place.losses[b, recipe]),
            baseline_loss=1.0,
            kind=kind_of(until, start),
        )
        for b, start in starts.items()
    ]


def _window(cycle: int) -> list[int]:
    """The blocks of a cycle, newest first; a warm one looks at fewer."""
    newest = cycle + ORIGINS - 1
    return [newest - i for i in range(ORIGINS if cycle % FULL_AFTER == 0 else WARM_BLOCKS)]


def _mature(cycle: int) -> datetime:
    """End of the labels of a cycle."""
    return FIRST + (cycle + ORIGINS) * WEEK


def _pool(place: World, cycle: int) -> list[int]:
    return [int(i) for i in np.flatnonzero(place.arrives <= cycle)]


def best_recipe(place: World, cycle: int) -> int:
    """The recipe with the lowest weighted loss on the blocks of this cycle's sweep."""
    window = _window(cycle)
    pool = _pool(place, cycle)
    means = block_weights(len(window)) @ place.losses[window][:, pool]
    return pool[int(np.argmin(means))]
