"""What to try next: carried recipes, start points by priority, then one Optuna study per family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna

from automl.modeling.families import Family, Shape, recipe_of_start
from automl.modeling.recipes import Blend, Recipe
from automl.sweep.leaderboard import Past, Plan, Trial, Work, mean
from automl.sweep.spaces import SpaceFailedError, Spaces
from automl.sweep.warm_start import lessons

__all__ = ["Proposal", "Proposals"]

FIRST_CUT, SECOND_CUT = 3, 2  # families left after the start points, and after six more trials each
TRIALS_BETWEEN_CUTS = 6
REPEATS = 5  # a discrete space may repeat itself; after so many repeats the family is passed over
# so many failures of a space in a row, and the family is passed over; a hang is enough
FAILURES = 3
# A search is exhausted when its newest trials, so many or this share if more, have lowered the best loss by less
# than this part of its standard error
PATIENCE, PATIENCE_SHARE, LEAST_GAIN = 30, 0.2, 0.1
optuna.logging.set_verbosity(optuna.logging.WARNING)  # studies are ours alone


@dataclass(frozen=True, slots=True)
class Proposal:
    """A recipe to try; `trial` is Optuna's, if a study proposed it.

    With an `error` the space failed, and the recipe has the params suggested before.
    """

    recipe: Recipe
    source: str  # start | carried | live | search
    trial: Any = None
    error: str = ""


@dataclass(slots=True, eq=False, kw_only=True)
class Proposals:
    """The order in which a sweep tries recipes, given the trials reported so far."""

    work: Work
    plan: Plan
    carried: Sequence[Blend]
    shape: Callable[[Family], Shape]
    spaces: Spaces = field(default_factory=Spaces)
    trials: list[Trial] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    # families that take too long, or have no new recipes
    passed_over: set[str] = field(default_factory=set)
    queue: list[tuple[Recipe, str]] = field(init=False)
    starts: list[Recipe] = field(init=False)  # best priority first, the baseline last
    proposed: Counter[str] = field(default_factory=Counter)
    studies: dict[str, optuna.Study] = field(default_factory=dict)
    suggesting: dict[str, bool] = field(default_factory=dict)  # whether a family's space suggests
    failures: Counter[str] = field(default_factory=Counter)  # of a space, in a row

    def __post_init__(self) -> None:
        """Queue the recipes that need no search."""
        ordered = self._start_points()
        baseline = [r for p, r in ordered if p == 0]
        others = [r for p, r in ordered if p > 0]
        self.starts = [*others, *baseline]
        carried = [
            m.recipe
            for blend in self.carried
            for m in blend.members
            if m.recipe.family in self.work.families
        ]
        # the baseline first: every other loss is compared with it
        queue = [(r, "start") for r in baseline] + [(r, "carried") for r in carried]
        queue += [(r, "live") for r in self.plan.live]
        if self.plan.kind != "warm":
            queue += [(r, "start") for r in others]
        distinct: dict[str, tuple[Recipe, str]] = {}
        for recipe, source in queue:
            distinct.setdefault(recipe.id, (recipe, source))
        self.queue = list(distinct.values())

    def next(self, affordable: Callable[[str], bool]) -> Proposal | None:
        """The next recipe of a family that is `affordable`; None if there is none now."""
        while self.queue:
            recipe, source = self.queue.pop(0)
            if affordable(recipe.family):
                self.seen.add(recipe.id)
                return Proposal(recipe, source)
        if self.spent:
            return None
        for family in self._families_left():
            if affordable(family):
                proposal = self._propose(family)
                if proposal:
                    return proposal
        return None

    @property
    def spent(self) -> bool:
        """Whether the plan allows no more new recipes."""
        most = self.plan.challengers
        return most is not None and self.proposed.total() >= most

    @property
    def exhausted(self) -> bool:
        """Whether the newest trials of the search have improved the best loss by less than its noise."""
        searched = [t for t in self.trials if t.source == "search"]
        window = max(PATIENCE, int(PATIENCE_SHARE * len(searched)))
        complete = [t for t in self.trials if t.status == "complete"]
        if len(searched) < 2 * window or len(complete) < 2:
            return False
        newest = {t.number for t in searched[-window:]}
        before = [t for t in complete if t.number not in newest]
        best = min(complete, key=lambda t: t.loss)
        gain = (min(t.loss for t in before) - best.loss) / best.loss if before else 1.0
        return gain < LEAST_GAIN * _noise(complete, best)

    def report(self, proposal: Proposal, trial: Trial) -> None:
        """Take an ended trial into account for later proposals."""
        self.trials.append(trial)
        if proposal.trial is None:
            return
        study = self.studies[trial.recipe.family]
        if trial.losses:
            study.tell(proposal.trial, self._estimate(trial))
        else:
            study.tell(proposal.trial, state=optuna.trial.TrialState.FAIL)

    def rank(self, recipe: Recipe) -> int:
        """Position among the start points, which come before all others."""
        return self.starts.index(recipe) if recipe in self.starts else len(self.starts)

    # ---- start points

    def _start_points(self) -> list[tuple[int, Recipe]]:
        """Start points by priority; in a later full search, the best families of earlier cycles first."""
        favour = {name: i for i, name in enumerate(self.plan.favour)}
        points = [
            (priority, favour.get(family.name, 0), i, recipe_of_start(family, start, self._seed))
            for i, family in enumerate(self.work.offered.values())
            if self.work.problem.task in family.tasks
            for priority, start in family.start
        ]
        points.sort(key=lambda p: (p[0] > 0, p[1], p[0], p[2]))
        return [(p[0], p[3]) for p in points]

    @property
    def _seed(self) -> int:
        return self.work.problem.sweep.seed

    # ---- studies

    def _families_left(self) -> list[str]:
        """Families worth searching, the least searched first."""
        best: dict[str, float] = {}
        for trial in self.trials:
            if trial.status == "complete":
                best[trial.recipe.family] = min(best.get(trial.recipe.family, np.inf), trial.loss)
        ranked = sorted((f for f in best if self._searchable(f)), key=lambda f: best[f])
        searched = Counter(t.recipe.family for t in self.trials if t.source == "search")
        keep = ranked[:FIRST_CUT]
        if all(searched[f] >= TRIALS_BETWEEN_CUTS for f in keep):
            keep = ranked[:SECOND_CUT]
        return sorted(keep, key=lambda f: (self.proposed[f], best[f]))

    def _searchable(self, name: str) -> bool:
        if name in self.passed_over or name not in self.work.offered:
            return False
        if name not in self.suggesting:
            family = self.work.families[name]
            self.suggesting[name] = self.spaces.suggests(family, self.shape(family))
        return self.suggesting[name]

    def _propose(self, name: str) -> Proposal | None:
        family, study = self.work.families[name], self._study(name)
        for _ in range(REPEATS):
            trial = study.ask()
            try:
                recipe = self.spaces.recipe(family, trial, self.shape(family), self._seed)
            except SpaceFailedError as error:
                return self._failed(name, trial, error)
            self.failures[name] = 0
            if recipe.id not in self.seen:
                self.seen.add(recipe.id)
                self.proposed[name] += 1
                return Proposal(recipe, "search", trial)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        self.passed_over.add(name)
        return None

    def _failed(self, name: str, trial: optuna.Trial, error: SpaceFailedError) -> Proposal:
        self.failures[name] += 1
        if error.late or self.failures[name] >= FAILURES:
            self.passed_over.add(name)
        self.proposed[name] += 1
        return Proposal(Recipe(name, dict(trial.params), self._seed), "search", trial, str(error))

    def _study(self, name: str) -> optuna.Study:
        """A family's study, started with what is known of this cycle and of earlier ones."""
        if name not in self.studies:
            seed = self._seed + list(self.work.families).index(name)
            sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=5, multivariate=True, warn_independent_sampling=False
            )
            self.studies[name] = optuna.create_study(sampler=sampler)
            family = self.work.families[name]
            complete = [t for t in self.trials if t.status == "complete"]
            best = min(t.loss for t in complete)
            now = [Past(trial=t, relative=t.loss / max(1e-12, best), age=0) for t in complete]
            known = [p for p in [*now, *self.plan.past] if p.trial.recipe.family == name]
            for lesson in lessons(family, known, self.shape(family), best, self.spaces):
                self.studies[name].add_trial(lesson)
        return self.studies[name]

    def _estimate(self, trial: Trial) -> float:
        """The loss; for a pruned trial the incumbent's, scaled by the ratio on the same blocks."""
        complete = [t for t in self.trials if t.status == "complete"]
        if trial.status == "complete" or not complete:
            return trial.loss
        incumbent = min(complete, key=lambda t: t.loss)
        seen = mean(incumbent.losses[: len(trial.losses)], incumbent.weights)
        return incumbent.loss * trial.loss / max(1e-12, seen)


def _noise(complete: Sequence[Trial], best: Trial) -> float:
    """Standard error of a relative loss difference to the best, from its spread over blocks."""
    gaps = [
        (np.asarray(t.losses) - np.asarray(best.losses)) / np.maximum(1e-12, best.losses)
        for t in complete
        if t is not best and t.loss <= 1.1 * best.loss
    ]
    if not gaps or len(best.losses) < 2:
        return 0.0
    return float(np.sqrt(np.mean([g.var(ddof=1) for g in gaps]) / len(best.losses)))
