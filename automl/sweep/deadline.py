"""The time of a sweep: when a search must end, so that the refit of who is likely to win still fits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from automl.modeling.ensemble import MOST_MEMBERS
from automl.modeling.recipes import Blend
from automl.sweep.encoding import Matrices
from automl.sweep.leaderboard import Plan, Trial, Work, makespan

__all__ = ["Clock"]

REFIT_SHARE = 0.3  # of the budget, at most, for the refit of the winner
LIKELY_MEMBERS = 3  # time is kept for refitting so many; a costlier blend is not chosen


@dataclass(slots=True, eq=False)
class Clock:
    """What is left of a budget, and for what; all moments are monotonic, infinite without a budget."""

    work: Work
    plan: Plan
    anchor: Blend | None  # whoever holds the champion's place
    deadline: float  # of sweep and refit
    grown: float  # all rows over those that the fits of a search see
    matrices: Matrices[Any]
    finished: Sequence[Trial]  # grows while the sweep runs
    started: float = field(default_factory=time.monotonic)

    @property
    def whole(self) -> float:
        """The budget. An interrupted sweep has less time left, but its refit takes as long."""
        budget = self.work.problem.sweep.budget
        left = self.deadline - self.started
        return max(left, budget.seconds) if budget else left

    def search_end(self) -> float:
        """When no fit of the search may run any more."""
        if self.plan.seconds is None:
            return self._before_refit()
        return min(self._before_refit(), self.started + self.plan.seconds)

    def affords(self, family: str) -> bool:
        """Whether another recipe of the family would probably end in time."""
        seconds = [
            t.seconds / max(1, len(t.losses))
            for t in self.finished
            if t.recipe.family == family and t.losses
        ]
        expected = 1.2 * float(np.median(seconds)) if seconds else 0.0
        return time.monotonic() + expected < self.search_end()

    def refittable(self, trial: Trial) -> bool:
        """Whether its refit may be afforded at all."""
        return trial.seconds_refit <= 0.75 * REFIT_SHARE * self.whole

    def overhead(self) -> float:
        """Encoding all rows, writing them, and starting two processes, in seconds."""
        return 1.5 + 1.5 * self.matrices.slowest * self.grown

    def time_to_refit(self) -> float:
        """Seconds that one refit may take now."""
        return max(1.0, (self.deadline - time.monotonic() - self.overhead()) / 1.2)

    def seconds_for_members(self) -> float:
        """Core-seconds that the refits of a blend may take together."""
        return self.work.workers * min(0.75 * REFIT_SHARE * self.whole, self.time_to_refit())

    def _before_refit(self) -> float:
        if not np.isfinite(self.deadline):
            return self.deadline
        complete = sorted(
            (t for t in self.finished if t.status == "complete"), key=lambda t: t.loss
        )
        likely = [t.seconds_refit for t in complete[:LIKELY_MEMBERS] if self.refittable(t)]
        # whoever holds the champion's place, or stands in for one, may keep it, and is refitted then
        if self.anchor:
            held = {m.recipe.id for m in self.anchor.members}
            holder = [t.seconds_refit for t in complete if t.recipe.id in held]
        else:
            starts = [t for t in complete if t.source == "start" and self.refittable(t)]
            holder = [t.seconds_refit for t in starts[:MOST_MEMBERS]]
        costs = makespan(likely, self.work.workers), makespan(holder, self.work.workers)
        # where a person decides, the champion and who would take its place are both refit
        both = self.work.problem.promotion.mode == "review" and holder
        most = REFIT_SHARE * self.whole
        return self.deadline - min(
            most, 1.3 * (sum(costs) if both else max(costs)) + self.overhead()
        )
