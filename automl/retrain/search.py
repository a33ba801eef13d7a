"""The sweep and the refit of a cycle: what was carried on to them, and what they hand on and cost."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from automl.cycles.job import Job
from automl.errors import AutomlError
from automl.modeling.ensemble import assemble
from automl.modeling.recipes import Blend, Member, Params
from automl.retrain.choose import Choice, previous_champion
from automl.store import Waiting
from automl.sweep import (
    BUDGET_ENDED,
    Leaderboard,
    Plan,
    Refits,
    Refitted,
    Trial,
    Work,
    output_file,
    part_of,
    sweep,
)
from automl.sweep.fit_cache import FitCache, Kept, columns_of
from automl.testing import fault
from automl.tracking import TrialLog

__all__ = ["Fitted", "fit_chosen", "keep_fits", "score_shadows", "search", "turned_away"]

SHADOWS = 3  # recipes of challengers that wait, at most, fitted for the next block in the time left
ANSWERS = 8  # best recipes whose answers are kept for the next cycle
SHADOW_SECONDS = 1.0  # left over when the last shadow should have been fitted
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The assembled models' files, the choice as it was fitted, and the fits for the shelf."""

    model: Path | None  # of the champion, unless it stays as it is
    waiting: Path | None  # of the challenger that a person has to approve
    choice: Choice
    warnings: list[str]
    kept: tuple[Kept, ...]


def score_shadows(job: Job, work: Work) -> dict[tuple[str, int], Params]:
    """Answers of the recipes fitted in earlier cycles on this cycle's blocks; not one fit is made."""
    return _fit_cache(job).answer(work)


def search(job: Job, refits: Refits, plan: Plan, log: TrialLog) -> tuple[Leaderboard, float]:
    """The sweep of this plan, its trials told to `log`, and when its refit must have ended."""
    work = refits.work
    _log.info("plan: %s, %s", plan.kind, plan.reason)
    done = [Trial.from_json(content) for content in job.store.trials(job.cycle)]
    # what failed or ran out of time is tried again: the family file may have been mended since
    done = [t for t in done if t.status != "failed" and t.reason != BUDGET_ENDED]
    done = [t for t in done if output_file(work, t.recipe, 0).exists()]
    budget = job.problem.sweep.budget
    spent = max((t.elapsed for t in done), default=0.0)
    left = max(0.4 * budget.seconds, budget.seconds - spent) if budget else float("inf")
    deadline = time.monotonic() + left
    if plan.kind == "refit":
        return Leaderboard((), None, None, "plan", 0.0, 0.0, len(work.frame)), deadline

    def on_trial(trial: Trial) -> None:
        job.store.require(job.hold)  # of a run that was taken over nothing is kept
        job.store.save_trial(job.cycle, trial.recipe.id, trial.to_json())
        log(trial)

    leaderboard = sweep(
        work,
        plan=plan,
        deadline=deadline,
        carried=_carried(job),
        done=done,
        on_trial=on_trial,
        refits=refits,
    )
    log.drain()
    _log.info(leaderboard.in_words)
    fault("retrain.swept")
    return leaderboard, deadline


def fit_chosen(
    job: Job, refits: Refits, leaderboard: Leaderboard, choice: Choice, deadline: float, plan: Plan
) -> Fitted:
    """Refit the chosen blend on everything; in the time left, what is to be judged next time.

    A challenger that waits for a person is fitted with it, on the same rows.
    """
    work = refits.work
    costs = {**plan.costs, **{t.recipe.id: t.seconds_refit for t in leaderboard.trials}}
    choice, done = _fit(refits, choice, deadline, costs, leaderboard.overhead)
    told: list[str] = []
    path = waiting = None
    if done is not None and choice.stays is None:
        mine = part_of(done, choice.blend)
        choice, told = _without_lost(job, choice, mine)
        path = None if choice.stays else _assembled(work, mine, "model")
    if done is not None and done.rows < len(work.frame):
        told.append(
            f"refit on {done.rows} of {len(work.frame)} rows: more would not fit the budget"
        )
    for warning in told:
        _log.warning(warning)
    one = choice.pending.waiting
    if done is not None and one is not None:
        try:
            theirs = part_of(done, one.blend)
            waiting = _assembled(work, theirs, "waiting")
            choice = _with_waiting(choice, replace(one, blend=theirs.blend))
        except AutomlError as error:
            choice = turned_away(choice, str(error))
    fault("retrain.refitted")
    shadows = (
        _fit_shadows(refits, leaderboard, choice, deadline, costs) if _scores_next(job) else None
    )
    fitted = [f for f in (done, shadows) if f is not None]
    job.store.note(job.cycle, cost=_cost(refits, leaderboard, deadline, plan))
    kept = tuple(k for f in fitted if f.rows == len(work.frame) for k in _kept(job, work, f))
    return Fitted(path, waiting, choice, told, kept)


def _fit(
    refits: Refits, choice: Choice, deadline: float, costs: Mapping[str, float], overhead: float
) -> tuple[Choice, Refitted | None]:
    """Fit what is to be released and what waits; where the champion stays as it is, what waits alone."""
    one = choice.pending.waiting
    if choice.stays is None:
        return choice, refits.fit(_together(choice.blend, one), deadline, costs, overhead)
    if one is None:
        return choice, None
    try:
        return choice, refits.fit(one.blend, deadline, costs, overhead)
    except AutomlError as error:
        return turned_away(choice, str(error)), None


def _without_lost(job: Job, choice: Choice, mine: Refitted) -> tuple[Choice, list[str]]:
    """The choice as it was fitted, with a warning per lost member.

    In review mode nobody has approved a champion without one of its recipes: it stays as it was released.
    """
    champion = job.champion
    if not mine.lost or choice.outcome != "keep" or job.problem.promotion.mode != "review":
        told = [f"member {m} is left out of the release: {why}" for m, why in mine.lost.items()]
        return replace(choice, blend=mine.blend), told
    if champion is None:
        raise AssertionError("what is kept was released")
    told = [f"member {m} could not be refit: {why}" for m, why in mine.lost.items()]
    version = f"kept version {champion.model_version} as it is, {told[0]}"
    pending = replace(
        choice.pending,
        outcome="stay",
        reason=choice.pending.reason.replace("kept", version, 1),
        content={**choice.pending.content, "outcome": "wait" if choice.pending.waiting else "stay"},
    )
    blend = champion.blend
    return replace(choice, outcome="stay", blend=blend, pending=pending, stays=champion), told


def turned_away(choice: Choice, why: str) -> Choice:
    """The choice without the challenger that would have waited for a person."""
    reason = f"{choice.pending.reason}; but it does not wait: {why}"
    _log.warning("the challenger does not wait for approval: %s", why)
    return replace(choice, pending=replace(choice.pending, waiting=None, reason=reason))


def _with_waiting(choice: Choice, one: Waiting) -> Choice:
    return replace(choice, pending=replace(choice.pending, waiting=one))


def _together(blend: Blend, one: Waiting | None) -> Blend:
    if one is None:
        return blend
    members = {m.recipe.id: m for m in (*blend.members, *one.blend.members)}
    return Blend(tuple(members.values()))


def _assembled(work: Work, done: Refitted, name: str) -> Path:
    model = assemble(done.parts, work.contract, list(work.contract.features))
    path = work.scratch / f"{name}.pickle"
    path.write_bytes(pickle.dumps(model))
    return path


def keep_fits(job: Job, work: Work, leaderboard: Leaderboard, fitted: Fitted, plan: Plan) -> None:
    """Put on the shelf what the next cycle can use."""
    ranked = [t for t in leaderboard.ranked if t.status == "complete"][:ANSWERS]
    have = {k.recipe.id for k in fitted.kept}
    answers = [
        Kept(
            t.recipe,
            t.learned,
            job.problem.mature(job.as_of),
            **columns_of(work),
        )
        for t in ranked
        if t.recipe.id not in have
    ]
    answered = {(t.recipe.id, b) for t in leaderboard.trials for b in range(len(t.losses))}
    blocks = range(len(work.blocks))
    answered |= {(name, b) for name, b in plan.known if b in blocks}
    _fit_cache(job).put([*fitted.kept, *answers], work, answered)


def _fit_shadows(
    refits: Refits,
    leaderboard: Leaderboard,
    choice: Choice,
    deadline: float,
    costs: Mapping[str, float],
) -> Refitted | None:
    """Recipes of who was dethroned and of the best shadows fitted on everything, if there is time."""
    have = {m.recipe.id for m in choice.blend.members}
    if choice.pending.waiting is not None:
        have |= {m.recipe.id for m in choice.pending.waiting.blend.members}
    waiting: dict[str, Member] = {}
    watched = [choice.watched] if choice.watched else []
    for blend in (*watched, *(b for b, _ in choice.pending.shadows or ())):
        waiting |= {m.recipe.id: m for m in blend.members if m.recipe.id not in have}
    left = 2 * (deadline - time.monotonic() - SHADOW_SECONDS - leaderboard.overhead) / 1.5
    chosen: list[Member] = []
    for member in list(waiting.values())[:SHADOWS]:
        left -= costs.get(member.recipe.id, float("inf"))
        if left > 0:
            chosen.append(replace(member, weight=1.0))
    if not chosen:
        return None
    try:
        return refits.fit(Blend(tuple(chosen)), deadline - SHADOW_SECONDS / 2, costs)
    except AutomlError as error:  # they are fitted in the next sweep then
        _log.info("no shadow was fitted: %s", error)
        return None


def _scores_next(job: Job) -> bool:
    """Whether fits of this cycle can score the next block: with a label delay they know rows of its gap."""
    return job.problem.mature(job.as_of) == job.as_of


def _kept(job: Job, work: Work, fitted: Refitted) -> list[Kept]:
    scores_next = _scores_next(job)
    # a member that was lost is in the blend no more, so parts and members go together
    return [
        Kept(
            member.recipe,
            member.learned,
            job.problem.mature(job.as_of),
            encoder=encoder if scores_next else None,
            estimator=estimator if scores_next else None,
            **columns_of(work),
        )
        for member, (_, _, encoder, estimator) in zip(
            fitted.blend.members, fitted.parts, strict=True
        )
    ]


def _cost(refits: Refits, leaderboard: Leaderboard, deadline: float, plan: Plan) -> dict[str, Any]:
    """Where the time went; `core_seconds` are those of fits, encodings and refits."""
    refit_seconds, searched = refits.spent, leaderboard.fit_seconds + leaderboard.encode_seconds
    return {
        "plan": plan.kind,
        "sweep_seconds": round(leaderboard.seconds, 2),
        "fit_core_seconds": round(leaderboard.fit_seconds, 2),
        "encode_core_seconds": round(leaderboard.encode_seconds, 2),
        "refit_core_seconds": round(refit_seconds, 2),
        "core_seconds": round(searched + refit_seconds, 2),
        "time_in_fits": round(leaderboard.time_in_fits(refits.work.workers), 4),
        "overrun_seconds": round(max(0.0, time.monotonic() - deadline), 2),
    }


def _carried(job: Job) -> list[Blend]:
    champion = job.champion
    shadows = [
        b
        for b, until in job.store.shadows(job.problem.name)
        if until < job.problem.mature(job.as_of)
    ]
    watched = previous_champion(job.store, job.problem, job.as_of)
    told = [
        *([champion.blend] if champion else []),
        *([watched.blend] if watched else []),
        *shadows,
    ]
    return list({blend.id: blend for blend in told}.values())


def _fit_cache(job: Job) -> FitCache:
    return FitCache(job.workspace.fit_cache(job.problem.name))
