"""The sweep of a cycle: what earlier cycles hand on to it, and what it leaves for the next."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isinf

from automl import progress
from automl.cycles.job import Job
from automl.cycles.steps import step
from automl.modeling.recipes import Blend, Params
from automl.problem import Problem
from automl.retrain.probation import previous_champion
from automl.store import Cycle, Release, Store
from automl.sweep import (
    BUDGET_ENDED,
    CachedFit,
    FitCache,
    Leaderboard,
    Plan,
    Refits,
    Trial,
    Work,
    columns_of,
    output_file,
    sweep,
)
from automl.testing import fault
from automl.tracking import TrialLog

__all__ = ["Sweep", "cache_fits", "fit_cache", "predict_with_cached_fits", "search"]

PREDICTIONS = 8  # best recipes whose predictions are cached for the next cycle
REMEMBERED = 100  # cycles whose cached fits may be read
CACHED = "fit_cache"  # the receipt: digests of the fits that a cycle cached
LEAST_SHARE = 0.4  # of the budget, which a resumed sweep has at least
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sweep:
    """A cycle's search: what it worked on, its plan, its leaderboard, and the deadline of the refit."""

    work: Work
    plan: Plan
    leaderboard: Leaderboard
    deadline: float  # of the monotonic clock


def fit_cache(job: Job) -> FitCache:
    """The problem's fits of earlier cycles."""
    before = job.store.cycles(job.problem.name, verb="retrain", limit=REMEMBERED)
    known = {digest for cycle in before for digest in cycle.receipts.get(CACHED) or ()}
    return FitCache(job.workspace.fit_cache(job.problem.name), known)


@step("score shadows")
def predict_with_cached_fits(cache: FitCache, work: Work) -> dict[tuple[str, int], Params]:
    """Predict this cycle's blocks with the fits of earlier cycles; fits nothing."""
    return cache.predict(work)


@step("sweep")
def search(job: Job, refits: Refits, plan: Plan, log: TrialLog) -> Sweep:
    """Run the sweep of this plan; every finished trial goes to the store and to `log`."""
    work = refits.work
    _log.info("plan: %s, %s", plan.kind, plan.reason)
    done = _finished_trials(job.store, job.cycle, work)
    deadline = _deadline(work, done)
    if plan.kind == "refit":
        nothing = Leaderboard(
            trials=(),
            challenger=None,
            reference=None,
            stopped="plan",
            seconds=0.0,
            fit_seconds=0.0,
            rows=len(work.frame),
        )
        return Sweep(work=work, plan=plan, leaderboard=nothing, deadline=deadline)

    def on_trial(trial: Trial) -> None:
        job.require_hold()
        job.store.save_trial(job.cycle, trial.recipe.id, trial.to_json())
        log(trial)

    progress.show("no trial has ended yet", until=None if isinf(deadline) else deadline)
    leaderboard = sweep(
        work,
        plan=plan,
        deadline=deadline,
        carried=_carried(job.store, job.problem, job.as_of, job.champion),
        done=done,
        on_trial=on_trial,
        refits=refits,
    )
    log.drain()
    _log.info(leaderboard.in_words)
    if leaderboard.too_small and job.champion:
        _log.warning("%s; the champion is kept [budget_too_small]", leaderboard.too_small)
    fault("retrain.swept")
    return Sweep(work=work, plan=plan, leaderboard=leaderboard, deadline=deadline)


def cache_fits(job: Job, cache: FitCache, sweep: Sweep, fits: Sequence[CachedFit]) -> None:
    """Replace the fit cache by what the next cycle can use: refits, and predictions of the best trials."""
    work, leaderboard = sweep.work, sweep.leaderboard
    best = [t for t in leaderboard.ranked if t.status == "complete"][:PREDICTIONS]
    fitted = {fit.recipe.id for fit in fits}
    until, columns = work.problem.mature(job.as_of), columns_of(work)
    predictions = [
        CachedFit(recipe=t.recipe, learned=t.learned, labels_until=until, **columns)
        for t in best
        if t.recipe.id not in fitted
    ]
    blocks = range(len(work.blocks))
    predicted = {(t.recipe.id, b) for t in leaderboard.trials for b in range(len(t.losses))}
    predicted |= {(name, b) for name, b in sweep.plan.cached if b in blocks}
    digests = cache.replace([*fits, *predictions], work, predicted)
    job.store.note(job.cycle, **{CACHED: digests})


def _finished_trials(store: Store, cycle: Cycle, work: Work) -> list[Trial]:
    """Trials of an interrupted run of this cycle that need not be repeated.

    Trials that failed or ran out of time are repeated: the family file may have been fixed since.
    """
    trials = [Trial.from_json(content) for content in store.trials(cycle)]
    ended = [t for t in trials if t.status != "failed" and t.reason != BUDGET_ENDED]
    return [t for t in ended if output_file(work, t.recipe, 0).exists()]


def _deadline(work: Work, done: Sequence[Trial]) -> float:
    budget = work.problem.sweep.budget
    if budget is None:
        return time.monotonic() + float("inf")
    spent = max((t.elapsed for t in done), default=0.0)
    return time.monotonic() + max(LEAST_SHARE * budget.seconds, budget.seconds - spent)


def _carried(
    store: Store, problem: Problem, as_of: datetime, champion: Release | None
) -> list[Blend]:
    """Blends that every sweep evaluates: champion, previous champion on probation, shadows."""
    mature = problem.mature(as_of)
    previous = previous_champion(store, problem, as_of)
    blends = [
        *([champion.blend] if champion else []),
        *([previous.blend] if previous else []),
        *(b for b, until in store.shadows(problem.name) if until < mature),
    ]
    return list({blend.id: blend for blend in blends}.values())
