"""The refit of a cycle: the chosen blend on all rows, the challenger awaiting approval, shadows in the time left."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from automl.cycles.job import Job
from automl.cycles.steps import step
from automl.errors import AutomlError, NoModelError
from automl.modeling.ensemble import assemble
from automl.modeling.recipes import Blend, Member
from automl.problem import Problem
from automl.retrain.choice import Choice
from automl.retrain.search import Sweep
from automl.store import Release, Waiting
from automl.sweep import (
    CONSTANT,
    REFIT_FAILED,
    CachedFit,
    Refits,
    Refitted,
    Work,
    columns_of,
    part_of,
)
from automl.testing import fault

__all__ = ["Fitted", "fit_chosen", "turned_away"]

SHADOWS = 3  # recipes of shadows, at most, fitted for the next block in the time left
SHADOW_SECONDS = 1.0  # left over when the last shadow should have been fitted
PROCESSES, SLOWDOWN = 2, 1.5  # as the refit reckons: two at a time, half as long again as estimated
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fitted:
    """The assembled models' files, the choice as it was fitted, and the fits to cache."""

    model: Path | None  # of the champion, unless it is not refitted
    challenger: Path | None  # that awaits approval
    choice: Choice
    warnings: list[str]
    fits: tuple[CachedFit, ...]


@step("refit")
def fit_chosen(job: Job, refits: Refits, sweep: Sweep, choice: Choice) -> Fitted:
    """Refit the chosen blend on all rows; in the time left, the shadows that the next cycle will score.

    A challenger that awaits approval is fitted with it, on the same rows.
    """
    work, leaderboard = sweep.work, sweep.leaderboard
    costs = {**sweep.plan.costs, **{t.recipe.id: t.seconds_refit for t in leaderboard.trials}}
    choice, done, warnings = _fit(refits, sweep, choice, costs, job.champion)
    model = challenger = None
    if done is not None and choice.stays is None:
        review = job.problem.promotion.mode == "review"
        choice, part, lost = _without_lost(choice, done, job.champion, review=review)
        warnings += lost
        model = None if choice.stays else _assembled(work, part, "model")
    if done is not None and done.rows < len(work.frame):
        warnings.append(
            f"refit on {done.rows} of {len(work.frame)} rows: more would not fit the budget"
        )
    for warning in warnings:
        _log.warning(warning)
    if done is not None and choice.pending.waiting is not None:
        choice, challenger = _challenger(work, done, choice, choice.pending.waiting)
    fault("retrain.refitted")
    shadows = (
        _fit_shadows(refits, sweep, choice, costs) if _scores_next(job.problem, job.as_of) else None
    )
    cost = _cost(refits, sweep) | {"refit_rows": done.rows if done else None}
    job.store.note(job.cycle, cost=cost)
    whole = [fit for fit in (done, shadows) if fit is not None and fit.rows == len(work.frame)]
    return Fitted(
        model=model,
        challenger=challenger,
        choice=choice,
        warnings=warnings,
        fits=tuple(fit for refitted in whole for fit in _to_cache(work, refitted, job.as_of)),
    )


def turned_away(choice: Choice, why: str) -> Choice:
    """The choice without the challenger that would have awaited approval."""
    reason = f"{choice.pending.reason}; but it does not wait: {why}"
    _log.warning("the challenger does not wait for approval: %s", why)
    return replace(choice, pending=replace(choice.pending, waiting=None, reason=reason))


def _fit(
    refits: Refits,
    sweep: Sweep,
    choice: Choice,
    costs: Mapping[str, float],
    champion: Release | None,
) -> tuple[Choice, Refitted | None, list[str]]:
    """Fit champion and waiting challenger; where the champion is not refitted, the challenger alone.

    If nothing could be fitted that may be released, the last release stays.
    """
    waiting, overhead = choice.pending.waiting, sweep.leaderboard.overhead
    if choice.stays and waiting is None:
        return choice, None, []
    blend = waiting.blend if choice.stays and waiting else _together(choice.blend, waiting)
    done: Refitted | None = None
    warnings: list[str] = []
    try:
        done = refits.fit(blend, sweep.deadline, costs, overhead)
        if choice.stays is None:
            _refuse_constant(choice.blend, part_of(done, choice.blend))
    except AutomlError as error:
        if error.code != REFIT_FAILED:
            raise
        if choice.stays is None:
            choice = _kept_unchanged(choice, champion, error)
            warnings = [f"{error}. {sweep.leaderboard.too_small or error.next_step}"]
        if done is None and waiting is not None:
            choice = turned_away(choice, str(error))
    return choice, done, warnings


def _kept_unchanged(choice: Choice, champion: Release | None, error: AutomlError) -> Choice:
    """The choice to keep the last release as it is, because what was chosen could not be fitted.

    Raises
    ------
    NoModelError
        There is no release to keep.
    """
    if champion is None:
        raise NoModelError(str(error), code=error.code, next_step=error.next_step) from error
    reason = f"kept version {champion.model_version} unchanged: {error}"
    if choice.outcome != "keep":
        reason += f"; without that: {choice.pending.reason}"
    return _staying(choice, champion, reason)


def _staying(choice: Choice, champion: Release, reason: str) -> Choice:
    outcome = "wait" if choice.pending.waiting else "stay"
    content = {**choice.pending.content, "outcome": outcome}
    pending = replace(choice.pending, outcome="stay", reason=reason, content=content)
    return replace(choice, outcome="stay", blend=champion.blend, pending=pending, stays=champion)


def _without_lost(
    choice: Choice, done: Refitted, champion: Release | None, *, review: bool
) -> tuple[Choice, Refitted, list[str]]:
    """The choice as it was fitted, and its part of the fits, with a warning per lost member.

    In review mode no person has approved a champion without one of its recipes: the last release stays.
    """
    part = part_of(done, choice.blend)
    if not part.lost or choice.outcome != "keep" or not review:
        warnings = [f"member {m} is left out of the release: {why}" for m, why in part.lost.items()]
        return replace(choice, blend=part.blend), part, warnings
    if champion is None:
        raise AssertionError("a champion that is kept was released")
    warnings = [f"member {m} could not be refit: {why}" for m, why in part.lost.items()]
    unchanged = f"kept version {champion.model_version} unchanged, {warnings[0]}"
    reason = choice.pending.reason.replace("kept", unchanged, 1)
    return _staying(choice, champion, reason), part, warnings


def _challenger(
    work: Work, done: Refitted, choice: Choice, waiting: Waiting
) -> tuple[Choice, Path | None]:
    """The challenger that awaits approval, as it was fitted, and its model's file."""
    try:
        part = part_of(done, waiting.blend)
        model = _assembled(work, part, "challenger")
    except AutomlError as error:
        if error.code != REFIT_FAILED:
            raise
        return turned_away(choice, str(error)), None
    fitted = replace(waiting, blend=part.blend)
    return replace(choice, pending=replace(choice.pending, waiting=fitted)), model


def _refuse_constant(blend: Blend, part: Refitted) -> None:
    """Refuse a blend of which the refit left nothing but the constant baseline.

    Raises
    ------
    AutomlError
        All other members failed, or did not end in time.
    """
    if set(part.blend.families) <= {CONSTANT} < set(blend.families):
        name, why = next(iter(part.lost.items()))
        raise AutomlError(
            f"the refit left nothing but a constant of {blend}: {name}: {why}",
            code=REFIT_FAILED,
            next_step="Raise sweep.budget, or remove the family from sweep.families.",
        )


def _together(blend: Blend, waiting: Waiting | None) -> Blend:
    if waiting is None:
        return blend
    members = {m.recipe.id: m for m in (*blend.members, *waiting.blend.members)}
    return Blend(tuple(members.values()))


def _assembled(work: Work, done: Refitted, name: str) -> Path:
    model = assemble(done.parts, work.contract, list(work.contract.features))
    path = work.scratch / f"{name}.pickle"
    path.write_bytes(pickle.dumps(model))
    return path


def _fit_shadows(
    refits: Refits, sweep: Sweep, choice: Choice, costs: Mapping[str, float]
) -> Refitted | None:
    """Fit recipes of the previous champion and of the best shadows on all rows, if time allows."""
    blends = [choice.blend, *([w.blend] if (w := choice.pending.waiting) else [])]
    fitted = {m.recipe.id for blend in blends for m in blend.members}
    candidates: dict[str, Member] = {}
    watched = [choice.watched] if choice.watched else []
    for blend in (*watched, *(b for b, _ in choice.pending.shadows or ())):
        candidates |= {m.recipe.id: m for m in blend.members if m.recipe.id not in fitted}
    seconds = sweep.deadline - time.monotonic() - SHADOW_SECONDS - sweep.leaderboard.overhead
    left = PROCESSES * seconds / SLOWDOWN
    chosen: list[Member] = []
    for member in list(candidates.values())[:SHADOWS]:
        left -= costs.get(member.recipe.id, float("inf"))
        if left > 0:
            chosen.append(replace(member, weight=1.0))
    if not chosen:
        return None
    try:
        return refits.fit(Blend(tuple(chosen)), sweep.deadline - SHADOW_SECONDS / 2, costs)
    except AutomlError as error:  # the next sweep fits them
        if error.code != REFIT_FAILED:
            raise
        _log.info("no shadow was fitted: %s", error)
        return None


def _scores_next(problem: Problem, as_of: datetime) -> bool:
    """Whether fits of this cycle can score the next block: with a label delay they know rows of its gap."""
    return problem.mature(as_of) == as_of


def _to_cache(work: Work, refitted: Refitted, as_of: datetime) -> list[CachedFit]:
    scores_next, until = _scores_next(work.problem, as_of), work.problem.mature(as_of)
    # the blend lacks members whose fits were lost, so parts and members go together
    return [
        CachedFit(
            recipe=member.recipe,
            learned=member.learned,
            labels_until=until,
            encoder=encoder if scores_next else None,
            estimator=estimator if scores_next else None,
            **columns_of(work),
        )
        for member, (_, _, encoder, estimator) in zip(
            refitted.blend.members, refitted.parts, strict=True
        )
    ]


def _cost(refits: Refits, sweep: Sweep) -> dict[str, Any]:
    """Where the time went; `core_seconds` are those of fits, encodings and refits."""
    leaderboard = sweep.leaderboard
    searched = leaderboard.fit_seconds + leaderboard.encode_seconds
    return {
        "plan": sweep.plan.kind,
        "sweep_seconds": round(leaderboard.seconds, 2),
        "fit_core_seconds": round(leaderboard.fit_seconds, 2),
        "encode_core_seconds": round(leaderboard.encode_seconds, 2),
        "refit_core_seconds": round(refits.spent, 2),
        "core_seconds": round(searched + refits.spent, 2),
        "time_in_fits": round(leaderboard.time_in_fits(sweep.work.workers), 4),
        "overrun_seconds": round(max(0.0, time.monotonic() - sweep.deadline), 2),
    }
