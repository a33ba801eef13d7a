"""What a sweep answers: the blend that challenges, and what stands in for a first cycle's champion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.ensemble import MOST_MEMBERS, Candidate, greedy
from automl.errors import NoModelError
from automl.spaces import Blend, Member, Recipe
from automl.sweep.board import Trial, Work, output_file

__all__ = ["Answer"]

MEMBER_MARGIN = 0.10  # relative loss behind the best that keeps a recipe out of a new blend
ALIKE_MARGIN = 0.15  # and out of the best that are averaged alike


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Blends made of finished trials, as far as their refits can be paid for.

    `truth` are the outcomes of the judged rows per block, `rank` orders start points, `refittable` says
    whether a trial's refit may be afforded at all, `seconds` is what the refits of a blend may cost
    together, `left` what one may cost now.
    """

    work: Work
    truth: Sequence[NDArray[np.float64]]
    rank: Callable[[Recipe], int]
    refittable: Callable[[Trial], bool]
    seconds: float
    left: float

    def reference(self, finished: Sequence[Trial]) -> Blend | None:
        """What the start points give without any search: stands in for the champion a first cycle lacks.

        Half of it are the best five, or the better half if a small budget left few, averaged alike,
        whatever the blocks say of their order; the other half is what greedy selection takes of them all
        (docs/decisions/0001-the-first-cycle-is-judged-too.md).
        """
        starts = [t for t in finished if t.source == "start" and t.status == "complete"]
        starts = [t for t in starts if self.refittable(t)] or starts
        if not starts:
            return None
        weights: dict[str, float] = {}
        for half in (self._best_alike(starts), self._selected(starts)):
            for name, share in half.items():
                weights[name] = weights.get(name, 0.0) + share / 2
        known = {t.recipe.id: t for t in starts}
        ranked = sorted(weights, key=lambda i: (-weights[i], self.rank(known[i].recipe)))
        ranked = ranked[:MOST_MEMBERS]
        while len(ranked) > 1 and sum(known[i].seconds_refit for i in ranked) > self.seconds:
            ranked.pop()
        return _blend(known, {i: weights[i] for i in ranked})

    def challenger(self, finished: Sequence[Trial], held: Blend | None) -> Blend | None:
        """Greedy selection over all trials, beginning with what holds the champion's place."""
        complete = {t.recipe.id: t for t in finished if t.status == "complete"}
        usable = {
            i: t for i, t in complete.items() if self.refittable(t) and t.seconds_refit <= self.left
        }
        if not usable:  # everything is too slow to refit on all rows: the cheapest, on thinned rows
            usable = dict(sorted(complete.items(), key=lambda kv: kv[1].seconds_refit)[:1])
        if not usable:
            return None
        anchor = {m.recipe.id: m.weight for m in held.members} if held else {}
        best = min(t.loss for t in usable.values())
        usable = {
            i: t for i, t in usable.items() if i in anchor or t.loss <= best * (1 + MEMBER_MARGIN)
        }
        whole = {i: w for i, w in anchor.items() if i in usable}
        weights = self._greedy(usable.values(), whole if len(whole) == len(anchor) else None)
        if not weights:
            raise NoModelError("the sweep chose no member", code="no_model")
        return _blend(usable, weights)

    def _best_alike(self, starts: Sequence[Trial]) -> dict[str, float]:
        """The better half of the start points, at most five, averaged alike."""
        best = min(t.loss for t in starts)
        near = [t for t in starts if t.loss <= best * (1 + ALIKE_MARGIN)]
        ranked = sorted(near, key=lambda t: (t.loss, self.rank(t.recipe)))
        chosen = ranked[: min(MOST_MEMBERS, (len(starts) + 1) // 2)]
        return {t.recipe.id: 1 / len(chosen) for t in chosen}

    def _selected(self, starts: Sequence[Trial]) -> dict[str, float]:
        """Start points as greedy selection weighs them."""
        best = min(t.loss for t in starts)
        return self._greedy([t for t in starts if t.loss <= best * (1 + MEMBER_MARGIN)], None)

    def _greedy(self, trials: Any, anchor: dict[str, float] | None) -> dict[str, float]:
        return greedy(
            {t.recipe.id: self._candidate(t) for t in trials},
            self.truth,
            self.work.metric,
            anchor=anchor,
            seconds=self.seconds,
        )

    def _candidate(self, trial: Trial) -> Candidate:
        blocks = range(len(self.work.blocks))
        outputs = [np.load(output_file(self.work, trial.recipe, b)) for b in blocks]
        return Candidate(outputs, trial.loss, trial.seconds_refit)


def _blend(known: dict[str, Trial], weights: dict[str, float]) -> Blend:
    whole = sum(weights.values())
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return Blend(
        tuple(Member(known[i].recipe, round(w / whole, 6), known[i].learned) for i, w in ranked)
    )
