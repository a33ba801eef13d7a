"""What a sweep answers: the blend that challenges, what stands in for a first cycle's champion, new weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.errors import NoModelError
from automl.modeling.ensemble import MOST_MEMBERS, Candidate, greedy, level
from automl.modeling.features.matrices import Rows, row_weights, to_outcomes
from automl.modeling.recipes import Blend, Member, Recipe
from automl.problem import LEAST_SHARE
from automl.sweep.leaderboard import Trial, Work, baseline_losses, mean, output_file

__all__ = ["Answer", "least_losses", "reweighed"]

MEMBER_MARGIN = 0.10  # level, relative, behind the best that keeps a recipe out of a new blend
ALIKE_MARGIN = 0.15  # and out of the best that are averaged alike
TREND_SHARE = 0.4  # of a blend, at most, for recipes that see the time
TREND_MARGIN = 0.05  # level, relative, behind the best of the others that leaves them no say
HEDGES = 2  # recipes that join a blend of such recipes alone
LEAST_WEIGHT = 0.02  # of a member when weights are learned again
WEIGHED_BLOCKS = 2  # newest blocks that they are learned from, whatever a search looks at
WEIGHED_ROWS = 20_000  # of a block, evenly spread: weights need no more


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Blends made of finished trials, as far as their refits can be paid for.

    Recipes are compared by their `level`, block by block as decisions are. `truth` are the outcomes of the
    judged rows per block, `weights` theirs, `least` what is added to losses there, `rank` orders start points, `refittable` says
    whether a trial's refit may be afforded at all, `seconds` is what the refits of a blend may cost
    together, `left` what one may cost now.
    """

    work: Work
    truth: Sequence[NDArray[np.float64]]
    weights: Sequence[NDArray[np.float64]]
    least: Sequence[float]
    rank: Callable[[Recipe], int]
    refittable: Callable[[Trial], bool]
    seconds: float
    left: float

    def reference(self, finished: Sequence[Trial]) -> Blend | None:
        """What the start points give without any search: stands in for the champion a first cycle lacks.

        Half of it are the best five, or the better half if a small budget left few, averaged alike,
        whatever the blocks say of their order; the other half is what greedy selection takes of them all
        (docs/decisions/0001-the-first-cycle-is-evaluated-too.md).
        """
        starts = [t for t in finished if t.source == "start" and t.status == "complete"]
        starts = [t for t in starts if self.refittable(t)] or starts
        if not starts:
            return None
        known = {t.recipe.id: t for t in starts}
        trusted = self._trusted(starts)
        alike, selected = self._best_alike(trusted), self._selected(trusted)
        halves = {i: (alike.get(i, 0.0) + selected.get(i, 0.0)) / 2 for i in {**alike, **selected}}
        weights = self._most(self._hedged(self._most(halves, known), known), known)
        names = list(weights)
        while len(names) > 1 and sum(known[i].seconds_refit for i in names) > self.seconds:
            names.pop()
        return _blend(known, {i: weights[i] for i in names})

    def affords(self, blend: Blend, finished: Sequence[Trial]) -> bool:
        """Whether the members of a blend that was made before can still be refit together."""
        names = {m.recipe.id for m in blend.members}
        return sum(t.seconds_refit for t in finished if t.recipe.id in names) <= self.seconds

    def _most(self, weights: dict[str, float], known: Mapping[str, Trial]) -> dict[str, float]:
        """As many of the heaviest as a blend may have, heaviest first; weights sum to 1."""
        ranked = sorted(weights, key=lambda i: (-weights[i], self.rank(known[i].recipe), i))
        kept = ranked[:MOST_MEMBERS]
        whole = sum(weights[i] for i in kept)
        return {i: weights[i] / whole for i in kept}

    def challenger(self, finished: Sequence[Trial], held: Blend | None) -> Blend | None:
        """Greedy selection over all trials, beginning with what holds the champion's place.

        Recipes of families that are only here to refit the champion are no part of it.
        """
        retired = {*self.work.families} - {*self.work.offered}
        complete = {t.recipe.id: t for t in finished if t.status == "complete"}
        complete = {i: t for i, t in complete.items() if t.recipe.family not in retired}
        usable = {
            i: t for i, t in complete.items() if self.refittable(t) and t.seconds_refit <= self.left
        }
        if not usable:  # everything is too slow to refit on all rows: the cheapest, on thinned rows
            usable = dict(sorted(complete.items(), key=lambda kv: kv[1].seconds_refit)[:1])
        if not usable:
            return None
        anchor = {m.recipe.id: m.weight for m in held.members} if held else {}
        best = min(map(self._level, usable.values()))
        trusted = {t.recipe.id for t in self._trusted(list(usable.values()))}
        near = {i for i in trusted if self._level(usable[i]) <= best * (1 + MEMBER_MARGIN)}
        usable = {i: t for i, t in usable.items() if i in near or i in anchor}
        whole = {i: w for i, w in anchor.items() if i in usable}
        weights = self._greedy(usable.values(), whole if len(whole) == len(anchor) else None)
        if not weights:
            raise NoModelError("the sweep chose no member", code="no_model")
        return _blend(usable, self._hedged(weights, usable))

    def _best_alike(self, good: Sequence[Trial]) -> dict[str, float]:
        """The better half, at most five, averaged alike."""
        chosen = self._near(good)[: min(MOST_MEMBERS, (len(good) + 1) // 2)]
        return {t.recipe.id: 1 / len(chosen) for t in chosen}

    def _near(self, good: Sequence[Trial]) -> list[Trial]:
        """Those close to the best, best first."""
        best = min(map(self._level, good))
        near = [t for t in good if self._level(t) <= best * (1 + ALIKE_MARGIN)]
        return sorted(near, key=lambda t: (self._level(t), self.rank(t.recipe), t.number))

    def _selected(self, good: Sequence[Trial]) -> dict[str, float]:
        """As greedy selection weighs them."""
        most = min(map(self._level, good)) * (1 + MEMBER_MARGIN)
        return self._greedy([t for t in good if self._level(t) <= most], None)

    def _trusted(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those that see the time only if they are no worse than the best of the others, or little.

        One that follows the newest leaves may seem to mend what others get wrong on a block, by being wrong
        the other way; on the next block it is wrong alone.
        """
        most = _most_for_trend((t.recipe, self._level(t)) for t in trials)
        return [t for t in trials if not t.recipe.trend or self._level(t) <= most]

    def _level(self, trial: Trial) -> float:
        return level(trial.losses, self.least)

    def _hedged(self, weights: dict[str, float], known: Mapping[str, Trial]) -> dict[str, float]:
        """At most `TREND_SHARE` of the weight for recipes that see the time, if others come near.

        They follow the newest leaves; where the world turns back, they are all wrong together.
        """
        seeing = [i for i in sorted(weights, key=lambda i: -weights[i]) if known[i].recipe.trend]
        whole, share = sum(weights.values()), sum(weights[i] for i in seeing)
        if share <= TREND_SHARE * whole:
            return weights
        others = {i: w for i, w in weights.items() if i not in seeing}
        if not others:
            left = self.seconds - sum(known[i].seconds_refit for i in seeing)
            near = [t for t in self._near(list(known.values())) if not t.recipe.trend]
            for trial in near[:HEDGES]:
                if trial.seconds_refit <= left:
                    others[trial.recipe.id] = 1.0
                    left -= trial.seconds_refit
            seeing = seeing[: MOST_MEMBERS - len(others)]
        if not others:
            return weights
        return _shared({i: weights[i] for i in seeing}, others)

    def _greedy(self, trials: Any, anchor: dict[str, float] | None) -> dict[str, float]:
        return greedy(
            {t.recipe.id: self._candidate(t) for t in trials},
            self.truth,
            self.work.metric,
            lambda losses: level(losses, self.least),
            weights=self.weights,
            anchor=anchor,
            seconds=self.seconds,
        )

    def _candidate(self, trial: Trial) -> Candidate:
        blocks = range(len(self.work.blocks))
        outputs = [np.load(output_file(self.work, trial.recipe, b)) for b in blocks]
        return Candidate(outputs, self._level(trial), trial.seconds_refit)


def reweighed(work: Work, blend: Blend) -> Blend:
    """The blend with weights that suit the work's newest blocks, starting from those that it has.

    Its own members only, so that it stays the same blend. Who has fallen far behind the best of them has no
    say, who sees the time already when it is a little behind those that do not; none falls below 2 %, so
    that each may come back. Unchanged if a member has no outputs, or the metric no value.
    """
    recipes = {m.recipe.id: m.recipe for m in blend.members}
    blocks = work.blocks[:WEIGHED_BLOCKS]
    files = {i: [output_file(work, r, b) for b in range(len(blocks))] for i, r in recipes.items()}
    if len(recipes) < 2 or not all(path.exists() for row in files.values() for path in row):
        return blend
    outcomes = to_outcomes(work.frame[work.problem.history.target], work.contract)
    rows = [_spread(len(block.validation)) for block in blocks]
    truth = [outcomes[b.validation][r] for b, r in zip(blocks, rows, strict=True)]
    user = row_weights(work.frame, work.problem)
    counts = [user[b.validation][r] for b, r in zip(blocks, rows, strict=True)]
    known = {}
    for i, paths in files.items():
        outputs = [np.load(path)[r] for path, r in zip(paths, rows, strict=True)]
        triples = zip(truth, outputs, counts, strict=True)
        scores = [work.metric.score(y, x, w) for y, x, w in triples]
        losses = [work.metric.loss(score) for score in scores]
        known[i] = Candidate(outputs, mean(losses), 0.0)
    best = min(c.level for c in known.values())
    most = _most_for_trend((recipes[i], c.level) for i, c in known.items())
    near = {
        i: c
        for i, c in known.items()
        if c.level <= best * (1 + ALIKE_MARGIN) and (c.level <= most or not recipes[i].trend)
    }
    if not near:  # the metric is undefined on a block
        return blend
    held = {m.recipe.id: m.weight for m in blend.members if m.recipe.id in near}
    anchor = {i: w / sum(held.values()) for i, w in held.items()}
    found = greedy(near, truth, work.metric, mean, weights=counts, anchor=anchor)
    weights = {i: max(LEAST_WEIGHT, found.get(i, 0.0)) for i in recipes}
    seeing = {i: w for i, w in weights.items() if recipes[i].trend}
    if any(i not in seeing for i in near) and sum(seeing.values()) > TREND_SHARE:
        weights = _shared(seeing, {i: w for i, w in weights.items() if i not in seeing})
    whole = sum(weights.values())
    return Blend(
        tuple(replace(m, weight=round(weights[m.recipe.id] / whole, 6)) for m in blend.members)
    )


def least_losses(work: Work, rows: Rows | None = None) -> list[float]:
    """What is added to losses per block before they are compared: a share of who knows nothing's."""
    return [LEAST_SHARE * loss for loss in baseline_losses(work, rows)]


def _most_for_trend(standing: Iterable[tuple[Recipe, float]]) -> float:
    """Where a recipe that sees the time must stand, at worst, to have a say."""
    others = [stands for recipe, stands in standing if not recipe.trend]
    return min(others, default=float("inf")) * (1 + TREND_MARGIN)


def _shared(seeing: Mapping[str, float], others: Mapping[str, float]) -> dict[str, float]:
    """Weights of those that see the time, scaled to their most, and of others, to the rest."""
    mine, rest = sum(seeing.values()), sum(others.values())
    return {i: TREND_SHARE * w / mine for i, w in seeing.items()} | {
        i: (1 - TREND_SHARE) * w / rest for i, w in others.items()
    }


def _spread(n_rows: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, WEIGHED_ROWS)).astype(np.int64))


def _blend(known: dict[str, Trial], weights: dict[str, float]) -> Blend:
    whole = sum(weights.values())
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return Blend(
        tuple(Member(known[i].recipe, round(w / whole, 6), known[i].learned) for i, w in ranked)
    )
