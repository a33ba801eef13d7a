"""The time of a sweep: when a search must end so that the refit of the likely winner still fits the budget."""

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
from automl.sweep.limits import CONSTANT, enough
from automl.sweep.races import OUT_OF_TIME

__all__ = ["Clock", "too_small"]

REFIT_SHARE = 0.3  # largest share of the budget for the refit of the winner
# Members for whose refit time is reserved; a blend that needs more is not chosen
LIKELY_MEMBERS = 3
# Part of that share planned for fits; the rest covers errors of the estimates
PLANNED_SHARE = 0.75
# A longer fit hangs, or does not belong in a sweep; only reached without a budget
FIT_SECONDS = 600.0
# With a budget a fit is killed after this share of it: its refit would not fit the budget either
FIT_SHARE = 0.5
# A fit that was stopped may take so many times the seconds until then
UNENDED = 3.0
# A fit may take so many times its estimate: the median fit of a family, a refit on all rows, and refits side
# by side, which slow each other down most
FIT_SLACK, REFIT_SLACK, TOGETHER_SLACK = 1.2, 1.2, 1.3
# Starting two processes takes so many seconds, and encoding and writing all rows so many times the encoding of
# a search, scaled by rows
START_SECONDS, ENCODE_SLACK = 1.5, 1.5


@dataclass(slots=True, eq=False, kw_only=True)
class Clock:
    """Time left of a budget, and for what; all moments are monotonic, infinite without a budget."""

    work: Work
    plan: Plan
    anchor: Blend | None  # the blend in the champion's place
    deadline: float  # of sweep and refit
    grown: float  # all rows over the rows of a search's fits
    matrices: Matrices[Any]
    finished: Sequence[Trial]  # grows while the sweep runs
    started: float = field(default_factory=time.monotonic)

    @property
    def whole(self) -> float:
        """The budget in seconds. A resumed sweep has less time left, but its refit takes as long."""
        budget = self.work.problem.sweep.budget
        left = self.deadline - self.started
        return max(left, budget.seconds) if budget else left

    def search_end(self) -> float:
        """The moment at which the fits of the search are stopped."""
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
        expected = FIT_SLACK * float(np.median(seconds)) if seconds else 0.0
        return time.monotonic() + expected < self.search_end()

    def refittable(self, trial: Trial) -> bool:
        """Whether its refit fits the budget at all."""
        return not self.too_long(trial.seconds_refit)

    def too_long(self, seconds: float) -> bool:
        """Whether a refit of so many seconds does not fit the budget at all."""
        return seconds > PLANNED_SHARE * REFIT_SHARE * self.whole

    def fit_end(self, *, carried: bool) -> float:
        """The moment at which a fit that starts now is killed."""
        most = FIT_SECONDS if carried else min(FIT_SECONDS, FIT_SHARE * self.whole)
        return time.monotonic() + most

    def needed(self, trials: Sequence[Trial]) -> float:
        """Seconds of a budget in which the cheapest of these trials would end and be refitted; 0 if none was timed.

        How long a fit takes that was stopped is not known: it is taken for several times the seconds until then.
        """
        blocks, share = len(self.work.blocks), PLANNED_SHARE * REFIT_SHARE
        costs = []
        for trial in trials:
            if trial.seconds:
                fit = trial.seconds / len(trial.losses) if trial.losses else UNENDED * trial.seconds
                search = blocks * fit + self.overhead()
                refit = (trial.seconds_refit or fit * self.grown) / share
                costs.append(max(search / (1 - REFIT_SHARE), refit))
        return min(costs, default=0.0)

    def overhead(self) -> float:
        """Seconds for encoding and writing all rows, and starting two processes."""
        return START_SECONDS + ENCODE_SLACK * self.matrices.slowest * self.grown

    def time_to_refit(self) -> float:
        """Seconds that one refit may take now."""
        return max(1.0, (self.deadline - time.monotonic() - self.overhead()) / REFIT_SLACK)

    def seconds_for_members(self) -> float:
        """Core-seconds that the refits of a blend may take together."""
        planned = PLANNED_SHARE * REFIT_SHARE * self.whole
        return self.work.workers * min(planned, self.time_to_refit())

    def _before_refit(self) -> float:
        if not np.isfinite(self.deadline):
            return self.deadline
        complete = sorted(
            (t for t in self.finished if t.status == "complete"), key=lambda t: t.loss
        )
        likely = [t.seconds_refit for t in complete[:LIKELY_MEMBERS] if self.refittable(t)]
        # the champion, or the blend that stands in for it, may win, and is refitted then
        if self.anchor:
            recipes = self.anchor.recipes
            holder = [t.seconds_refit for t in complete if t.recipe.id in recipes]
        else:
            starts = [t for t in complete if t.source == "start" and self.refittable(t)]
            holder = [t.seconds_refit for t in starts[:MOST_MEMBERS]]
        costs = makespan(likely, self.work.workers), makespan(holder, self.work.workers)
        # in review mode, the champion and the challenger that would replace it are both refitted
        both = self.work.problem.promotion.mode == "review" and holder
        most = REFIT_SHARE * self.whole
        return self.deadline - min(
            most, TOGETHER_SLACK * (sum(costs) if both else max(costs)) + self.overhead()
        )


def too_small(clock: Clock, *, stopped: str, proposed: int, queued: Sequence[str]) -> str:
    """Why no start point of a real family can be released, and what would do; empty if one can be.

    Families whose fits fail are another matter: their trials say why.

    Parameters
    ----------
    stopped
        What ended the search.
    proposed
        How many recipes were proposed.
    queued
        Families of the start points that were not.
    """
    real = [t for t in clock.finished if t.recipe.family != CONSTANT]
    complete = [t for t in real if t.status == "complete"]
    if any(map(clock.refittable, complete)) or set(clock.work.offered) <= {CONSTANT}:
        return ""
    section = clock.work.problem.sweep
    if stopped == "trials" and not real:
        wanted = next((i for i, family in enumerate(queued, 1) if family != CONSTANT), 1)
        return (
            f"sweep.trials: found {section.trials}, all of the constant baseline; wanted at least "
            f"{proposed + wanted}"
        )
    late = any(t.reason.startswith(OUT_OF_TIME) for t in real)
    if section.budget is None or not (stopped == "time" or complete or late):
        return ""
    return (
        f"sweep.budget: in {section.budget} no start point but the constant baseline was fitted; "
        f"wanted {enough(clock.needed(real), section.budget.seconds)}{'' if complete else ' or more'}"
    )
