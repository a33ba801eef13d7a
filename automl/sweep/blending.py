"""Blends made of trials: the challenger, the reference of a first cycle, and re-estimated weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.errors import NoModelError
from automl.modeling.ensemble import MOST_MEMBERS, Candidate, greedy, level
from automl.modeling.features import Rows, row_weights, to_outcomes
from automl.modeling.recipes import Blend, Member, Recipe
from automl.problem import LEAST_SHARE
from automl.sweep.leaderboard import Trial, Work, baseline_losses, mean, output_file

__all__ = ["Blending", "least_losses", "reweighed"]

MEMBER_MARGIN = 0.10  # a recipe whose level is further behind the best joins no new blend
EQUAL_MARGIN = 0.15  # and one further behind than this is not averaged with equal weights
TREND_SHARE = 0.4  # largest share of a blend for recipes that see the time
TREND_MARGIN = 0.05  # such recipes are ignored if further behind the best of the others
HEDGES = 2  # recipes added to a blend that has only recipes that see the time
LEAST_WEIGHT = 0.02  # of a member when weights are re-estimated
WEIGHED_BLOCKS = 2  # newest blocks from which weights are re-estimated, however many a search uses
WEIGHED_ROWS = 20_000  # evenly spaced rows of a block: enough for weights


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Blending:
    """Makes blends of ended trials whose refits fit the time left.

    Recipes are compared by their `level`. `truth` and `weights` are outcomes and weights of the validation rows
    per block, `least` is added to losses there. `rank` orders start points. `refittable` says whether a trial's
    refit fits the budget at all, `seconds` is the time for all refits of a blend, `seconds_each` for one refit.
    """

    work: Work
    truth: Sequence[NDArray[np.float64]]
    weights: Sequence[NDArray[np.float64]]
    least: Sequence[float]
    rank: Callable[[Recipe], int]
    refittable: Callable[[Trial], bool]
    seconds: float
    seconds_each: float

    def reference(self, finished: Sequence[Trial]) -> Blend | None:
        """A blend of start points alone, made without search: stands in for the champion of a first cycle.

        Half of its weight goes to the best five in equal parts, or to the better half if a small budget left
        few; the other half as greedy selection weighs all start points
        (docs/decisions/0001-the-first-cycle-is-evaluated-too.md).
        """
        starts = [t for t in finished if t.source == "start" and t.status == "complete"]
        starts = [t for t in starts if self.refittable(t)] or starts
        if not starts:
            return None
        trials = {t.recipe.id: t for t in starts}
        trusted = self._trusted(starts)
        equal, selected = self._equal(trusted), self._selected(trusted)
        halves = {i: (equal.get(i, 0.0) + selected.get(i, 0.0)) / 2 for i in {**equal, **selected}}
        weights = self._heaviest(self._hedged(self._heaviest(halves, trials), trials), trials)
        names = list(weights)
        while len(names) > 1 and sum(trials[i].seconds_refit for i in names) > self.seconds:
            names.pop()
        return _blend(trials, {i: weights[i] for i in names})

    def affords(self, blend: Blend, finished: Sequence[Trial]) -> bool:
        """Whether the members of an earlier blend can still be refitted together."""
        names = {m.recipe.id for m in blend.members}
        return sum(t.seconds_refit for t in finished if t.recipe.id in names) <= self.seconds

    def _heaviest(self, weights: dict[str, float], trials: Mapping[str, Trial]) -> dict[str, float]:
        """The `MOST_MEMBERS` largest weights, largest first, scaled to a sum of 1."""
        ranked = sorted(weights, key=lambda i: (-weights[i], self.rank(trials[i].recipe), i))
        heaviest = ranked[:MOST_MEMBERS]
        whole = sum(weights[i] for i in heaviest)
        return {i: weights[i] / whole for i in heaviest}

    def challenger(self, finished: Sequence[Trial], holder: Blend | None) -> Blend | None:
        """Greedy selection over all trials, starting from the blend in the champion's place.

        Recipes of retired families, loaded only to refit the champion, are left out.
        """
        retired = {*self.work.families} - {*self.work.offered}
        complete = {t.recipe.id: t for t in finished if t.status == "complete"}
        complete = {i: t for i, t in complete.items() if t.recipe.family not in retired}
        usable = {
            i: t
            for i, t in complete.items()
            if self.refittable(t) and t.seconds_refit <= self.seconds_each
        }
        if not usable:  # all are too slow to refit on all rows: take the cheapest, on thinned rows
            usable = dict(sorted(complete.items(), key=lambda kv: kv[1].seconds_refit)[:1])
        if not usable:
            return None
        anchor = {m.recipe.id: m.weight for m in holder.members} if holder else {}
        best = min(map(self._level, usable.values()))
        trusted = {t.recipe.id for t in self._trusted(list(usable.values()))}
        near = {i for i in trusted if self._level(usable[i]) <= best * (1 + MEMBER_MARGIN)}
        usable = {i: t for i, t in usable.items() if i in near or i in anchor}
        whole = {i: w for i, w in anchor.items() if i in usable}
        weights = self._greedy(usable.values(), whole if len(whole) == len(anchor) else None)
        if not weights:
            raise NoModelError("the sweep chose no member", code="no_model")
        return _blend(usable, self._hedged(weights, usable))

    def _equal(self, good: Sequence[Trial]) -> dict[str, float]:
        """Equal weights for the better half, at most five."""
        chosen = self._near(good)[: min(MOST_MEMBERS, (len(good) + 1) // 2)]
        return {t.recipe.id: 1 / len(chosen) for t in chosen}

    def _near(self, good: Sequence[Trial]) -> list[Trial]:
        """Trials close to the best, best first."""
        best = min(map(self._level, good))
        near = [t for t in good if self._level(t) <= best * (1 + EQUAL_MARGIN)]
        return sorted(near, key=lambda t: (self._level(t), self.rank(t.recipe), t.number))

    def _selected(self, good: Sequence[Trial]) -> dict[str, float]:
        """Weights from greedy selection."""
        most = min(map(self._level, good)) * (1 + MEMBER_MARGIN)
        return self._greedy([t for t in good if self._level(t) <= most], None)

    def _trusted(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials without recipes that see the time and are behind the best of the others.

        A recipe that follows the newest leaves may seem to correct the errors of others on a block by erring in
        the opposite direction; on the next block it is wrong alone.
        """
        most = _most_for_trend((t.recipe, self._level(t)) for t in trials)
        return [t for t in trials if not t.recipe.trend or self._level(t) <= most]

    def _level(self, trial: Trial) -> float:
        return level(trial.losses, self.least)

    def _hedged(self, weights: dict[str, float], trials: Mapping[str, Trial]) -> dict[str, float]:
        """At most `TREND_SHARE` of the weight for recipes that see the time, if others are close to the best.

        Such recipes follow the newest leaves; when a change reverses, they are all wrong together.
        """
        seeing = [i for i in sorted(weights, key=lambda i: -weights[i]) if trials[i].recipe.trend]
        whole, share = sum(weights.values()), sum(weights[i] for i in seeing)
        if share <= TREND_SHARE * whole:
            return weights
        others = {i: w for i, w in weights.items() if i not in seeing}
        if not others:
            left = self.seconds - sum(trials[i].seconds_refit for i in seeing)
            near = [t for t in self._near(list(trials.values())) if not t.recipe.trend]
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
    """The blend with weights re-estimated on the newest blocks, starting from its present weights.

    Members stay the same, so it stays the same blend. A member far behind the best falls to `LEAST_WEIGHT`, a
    member that sees the time as soon as it is slightly behind the others; no weight is smaller, so that every
    member can recover. Unchanged if a member has no outputs, or the metric is undefined.
    """
    recipes = {m.recipe.id: m.recipe for m in blend.members}
    blocks = work.blocks[:WEIGHED_BLOCKS]
    files = {i: [output_file(work, r, b) for b in range(len(blocks))] for i, r in recipes.items()}
    if len(recipes) < 2 or not all(path.exists() for row in files.values() for path in row):
        return blend
    outcomes = to_outcomes(work.frame[work.problem.history.target], work.contract)
    rows = [_spread(len(block.validation)) for block in blocks]
    truth = [outcomes[b.validation][r] for b, r in zip(blocks, rows, strict=True)]
    row_weight = row_weights(work.frame, work.problem)
    counts = [row_weight[b.validation][r] for b, r in zip(blocks, rows, strict=True)]
    candidates = {}
    for i, paths in files.items():
        outputs = [np.load(path)[r] for path, r in zip(paths, rows, strict=True)]
        triples = zip(truth, outputs, counts, strict=True)
        scores = [work.metric.score(y, x, w) for y, x, w in triples]
        losses = [work.metric.loss(score) for score in scores]
        candidates[i] = Candidate(outputs, mean(losses), 0.0)
    best = min(c.level for c in candidates.values())
    most = _most_for_trend((recipes[i], c.level) for i, c in candidates.items())
    near = {
        i: c
        for i, c in candidates.items()
        if c.level <= best * (1 + EQUAL_MARGIN) and (c.level <= most or not recipes[i].trend)
    }
    if not near:  # the metric is undefined on a block
        return blend
    present = {m.recipe.id: m.weight for m in blend.members if m.recipe.id in near}
    anchor = {i: w / sum(present.values()) for i, w in present.items()}
    selected = greedy(near, truth, work.metric, mean, weights=counts, anchor=anchor)
    weights = {i: max(LEAST_WEIGHT, selected.get(i, 0.0)) for i in recipes}
    seeing = {i: w for i, w in weights.items() if recipes[i].trend}
    if any(i not in seeing for i in near) and sum(seeing.values()) > TREND_SHARE:
        weights = _shared(seeing, {i: w for i, w in weights.items() if i not in seeing})
    whole = sum(weights.values())
    return Blend(
        tuple(replace(m, weight=round(weights[m.recipe.id] / whole, 6)) for m in blend.members)
    )


def least_losses(work: Work, rows: Rows | None = None) -> list[float]:
    """Added to losses per block before they are compared: a share of the constant baseline's loss."""
    return [LEAST_SHARE * loss for loss in baseline_losses(work, rows)]


def _most_for_trend(levels: Iterable[tuple[Recipe, float]]) -> float:
    """The worst level at which a recipe that sees the time is used."""
    others = [level for recipe, level in levels if not recipe.trend]
    return min(others, default=float("inf")) * (1 + TREND_MARGIN)


def _shared(seeing: Mapping[str, float], others: Mapping[str, float]) -> dict[str, float]:
    """Weights of recipes that see the time, scaled to `TREND_SHARE`, and of others, to the rest."""
    seen, rest = sum(seeing.values()), sum(others.values())
    return {i: TREND_SHARE * w / seen for i, w in seeing.items()} | {
        i: (1 - TREND_SHARE) * w / rest for i, w in others.items()
    }


def _spread(n_rows: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, WEIGHED_ROWS)).astype(np.int64))


def _blend(trials: dict[str, Trial], weights: dict[str, float]) -> Blend:
    whole = sum(weights.values())
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return Blend(
        tuple(Member(trials[i].recipe, round(w / whole, 6), trials[i].learned) for i, w in ranked)
    )
