"""Blends made of trials: the challenger, and the reference of a first cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.errors import NoModelError
from automl.modeling.ensemble import (
    MOST_MEMBERS,
    Candidate,
    default_share,
    greedy,
    level,
)
from automl.modeling.families import recipe_of_start
from automl.modeling.features import Rows
from automl.modeling.recipes import Blend, Member, Recipe
from automl.problem import LEAST_SHARE
from automl.sweep.leaderboard import Trial, Work, baseline_losses, output_file

__all__ = [
    "AVERAGE_MARGIN",
    "TREND_SHARE",
    "Blending",
    "default_recipe",
    "least_losses",
    "most_for_trend",
    "shared",
    "with_default",
]

MEMBER_MARGIN = 0.10  # a recipe whose level is further behind the best joins no new blend
AVERAGE_MARGIN = 0.15  # and one further behind than this is not averaged
# The weight in an average falls to 1 / e for each tenth of the best level by which a recipe is behind
AVERAGE_FALL = 10.0
TREND_SHARE = 0.4  # largest share of a blend for recipes that see the time
TREND_MARGIN = 0.05  # such recipes are ignored if further behind the best of the others
HEDGES = 2  # recipes added to a blend that has only recipes that see the time


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

        Half of its weight is an average in which recipes weigh the less the further they are behind the best,
        the other half is what greedy selection takes of all start points
        (docs/decisions/0001-the-first-cycle-is-evaluated-too.md). The whole is shrunk towards the default recipe
        (docs/decisions/0022-blends-are-shrunk.md).
        """
        starts = [t for t in finished if t.source == "start" and t.status == "complete"]
        starts = [t for t in starts if self.refittable(t)] or starts
        if not starts:
            return None
        trials = {t.recipe.id: t for t in starts}
        trusted = self._trusted(starts)
        average, selected = self._average(trusted), self._selected(trusted)
        names = {**average, **selected}
        halves = {i: (average.get(i, 0.0) + selected.get(i, 0.0)) / 2 for i in names}
        weights = self._heaviest(self._hedged(self._heaviest(halves, trials), trials), trials)
        default = self._default(trials)
        more = {default.recipe.id} if default else set()
        while (
            len(weights) > 1
            and sum(trials[i].seconds_refit for i in {*weights, *more}) > self.seconds
        ):
            weights.popitem()
        return _blend(trials, self._shrunk(weights, trials))

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
            raise NoModelError(
                "the sweep chose no member",
                code="no_model",
                next_step="automl leaderboard FILE shows why each trial failed.",
            )
        return _blend(complete, self._shrunk(self._hedged(weights, usable), complete))

    def _average(self, good: Sequence[Trial]) -> dict[str, float]:
        """Weights that fall with the distance from the best."""
        best = min(map(self._level, good))
        behind = {t.recipe.id: self._level(t) / best - 1 for t in self._near(good)}
        weights = {i: float(np.exp(-AVERAGE_FALL * distance)) for i, distance in behind.items()}
        return {i: w / sum(weights.values()) for i, w in weights.items()}

    def _near(self, good: Sequence[Trial]) -> list[Trial]:
        """Trials close to the best, best first."""
        best = min(map(self._level, good))
        near = [t for t in good if self._level(t) <= best * (1 + AVERAGE_MARGIN)]
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
        most = most_for_trend((t.recipe, self._level(t)) for t in trials)
        return [t for t in trials if not t.recipe.trend or self._level(t) <= most]

    def _level(self, trial: Trial) -> float:
        return level(trial.losses, self.least, self.work.block_weights)

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
        return shared({i: weights[i] for i in seeing}, others)

    def _default(self, trials: Mapping[str, Trial]) -> Trial | None:
        """The trial of the default recipe, if it can be refitted."""
        recipe = default_recipe(self.work)
        trial = trials.get(recipe.id) if recipe else None
        return trial if trial and self.refittable(trial) else None

    def _shrunk(self, weights: dict[str, float], trials: Mapping[str, Trial]) -> dict[str, float]:
        """The weights with a share for the default recipe, the larger the less the blocks can tell.

        None if its refit does not fit the time left beside those of the others.
        """
        default = self._default(trials)
        if default is None or set(weights) == {default.recipe.id}:
            return weights
        if sum(trials[i].seconds_refit for i in {*weights, default.recipe.id}) > self.seconds:
            return weights
        blocks = range(len(self.work.blocks))
        mixed = [
            sum(
                w * np.load(output_file(self.work, trials[i].recipe, b)) for i, w in weights.items()
            )
            / sum(weights.values())
            for b in blocks
        ]
        losses = [
            self.work.metric.loss(self.work.metric.score(self.truth[b], mixed[b], self.weights[b]))
            for b in blocks
        ]
        plain = np.asarray(default.losses) + self.least
        gains = np.log(np.maximum(plain, 1e-12) / np.maximum(np.add(losses, self.least), 1e-12))
        return with_default(
            weights, default.recipe.id, default_share(gains, self.work.block_weights)
        )

    def _greedy(self, trials: Any, anchor: dict[str, float] | None) -> dict[str, float]:
        return greedy(
            {t.recipe.id: self._candidate(t) for t in trials},
            self.truth,
            self.work.metric,
            lambda losses: level(losses, self.least, self.work.block_weights),
            weights=self.weights,
            anchor=anchor,
            seconds=self.seconds,
        )

    def _candidate(self, trial: Trial) -> Candidate:
        blocks = range(len(self.work.blocks))
        outputs = [np.load(output_file(self.work, trial.recipe, b)) for b in blocks]
        return Candidate(outputs, self._level(trial), trial.seconds_refit)


def default_recipe(work: Work) -> Recipe | None:
    """The plain model that every blend is shrunk towards: the start point that is tried first."""
    starts = [
        (priority, recipe_of_start(family, start, work.problem.sweep.seed))
        for family in work.offered.values()
        if work.problem.task in family.tasks
        for priority, start in family.start
        if priority > 0
    ]
    return min(starts, key=lambda start: start[0])[1] if starts else None


def least_losses(work: Work, rows: Rows | None = None) -> list[float]:
    """Added to losses per block before they are compared: a share of the constant baseline's loss."""
    return [LEAST_SHARE * loss for loss in baseline_losses(work, rows)]


def most_for_trend(levels: Iterable[tuple[Recipe, float]]) -> float:
    """The worst level at which a recipe that sees the time is used."""
    others = [level for recipe, level in levels if not recipe.trend]
    return min(others, default=float("inf")) * (1 + TREND_MARGIN)


def with_default(weights: Mapping[str, float], default: str, share: float) -> dict[str, float]:
    """Weights whose sum is 1, `share` of it for the default recipe in addition to what it has."""
    whole = sum(weights.values())
    shrunk = {i: (1 - share) * w / whole for i, w in weights.items()}
    return shrunk if not share else shrunk | {default: shrunk.get(default, 0.0) + share}


def shared(seeing: Mapping[str, float], others: Mapping[str, float]) -> dict[str, float]:
    """Weights of recipes that see the time, scaled to `TREND_SHARE`, and of others, to the rest."""
    seen, rest = sum(seeing.values()), sum(others.values())
    return {i: TREND_SHARE * w / seen for i, w in seeing.items()} | {
        i: (1 - TREND_SHARE) * w / rest for i, w in others.items()
    }


def _blend(trials: dict[str, Trial], weights: dict[str, float]) -> Blend:
    whole = sum(weights.values())
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return Blend(
        tuple(Member(trials[i].recipe, round(w / whole, 6), trials[i].learned) for i, w in ranked)
    )
