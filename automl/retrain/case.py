"""The case that a decision is made on: the champion, its rivals and their losses, gathered from store and sweep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from automl.cycles.job import Job
from automl.errors import NoModelError
from automl.modeling.losses import BlockLoss
from automl.modeling.recipes import Blend
from automl.problem import Problem
from automl.promotion.decide import YOUNG_CONFIDENCE, YOUNG_CYCLES
from automl.retrain.block_losses import losses_of, losses_of_trials
from automl.retrain.probation import (
    PreviousChampion,
    doubted,
    previous_champion,
    searched_cycles,
)
from automl.retrain.search import Sweep
from automl.store import Release, Store, recent_since

__all__ = ["Case", "Dated", "gather"]

Dated = tuple[Blend, datetime]  # a blend, and the end of the labels that chose it


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Case:
    """What a decision is made on; all that follows from it is a pure function."""

    as_of: datetime
    champion: Release | None  # if it can be refitted
    former: Release | None  # champion until now
    holder: Blend  # the champion's, or what stands in for it
    retired: frozenset[str]  # the former champion's families that are no longer offered
    candidates: Mapping[str, Dated]  # holder and rivals
    watched: PreviousChampion | None
    losses: Sequence[BlockLoss]  # of this cycle
    past: Sequence[BlockLoss]
    tried: Sequence[BlockLoss]  # of the sweep's other recipes
    confidence: float  # probability of being better that a promotion needs
    doubted: frozenset[str]  # blends that were rolled back, reverted or rejected lately

    @property
    def rivals(self) -> set[str]:
        """Ids of the blends that may take the champion's place."""
        return set(self.candidates) - {self.holder.id}

    def dated(self, name: str) -> Dated:
        """A candidate or the watched blend, with the end of the labels that chose it."""
        if name in self.candidates:
            return self.candidates[name]
        if self.watched is None:
            raise AssertionError("a decision names a candidate or the previous champion")
        return self.watched.blend, self.watched.labels_until

    def newest(self, blend: str) -> dict[str, float]:
        """Losses of a blend and of the constant baseline on the newest block."""
        start = max((e.start for e in self.losses), default=None)
        found = (e for e in self.losses if e.blend == blend and e.start == start)
        loss = next(found, None)
        if loss is None:
            return {"model": 0.0, "baseline": 1.0}
        return {"model": loss.loss, "baseline": loss.baseline_loss}


def gather(job: Job, sweep: Sweep) -> Case:
    """Read what the decision of this cycle depends on.

    Raises
    ------
    NoModelError
        No trial succeeded, and there is no champion to refit.
    """
    work, former = sweep.work, job.champion
    champion = former if former and former.blend.offered(work.families) else None
    # then nothing but a constant could take the champion's place
    small = sweep.leaderboard.too_small
    holder = champion.blend if champion else None if small else sweep.leaderboard.reference
    if job.problem.promotion.mode == "review" and former:
        holder = holder or former.blend  # no trial succeeded: nothing is proposed
    if holder is None and small:
        raise NoModelError(
            f"{small}. A constant is not released",
            code="budget_too_small",
            next_step="Set it in the problem file; a budget also as an option, such as --budget 5m.",
        )
    if holder is None:
        raise NoModelError(
            "no trial succeeded, and there is no champion to refit",
            code="no_model",
            next_step="automl leaderboard shows why each trial failed.",
        )
    chosen_on = work.blocks[0].end
    candidates = _rivals(job.store, sweep, job.as_of)
    candidates[holder.id] = (holder, champion.labels_until if champion else chosen_on)
    watched = previous_champion(job.store, job.problem, job.as_of) if champion else None
    if watched and (watched.blend.id == holder.id or not watched.blend.offered(work.offered)):
        watched = None
    scored = dict(candidates)
    if watched:
        scored.setdefault(watched.blend.id, (watched.blend, watched.labels_until))
    past = _past(job, scored, min(block.start for block in work.blocks))
    # losses in two metrics are not comparable
    past = [e for e in past if e.metric in ("", work.metric.name)]
    tried = losses_of_trials(job.as_of, sweep, chosen_on)
    blends = [blend for blend, _ in scored.values()]
    return Case(
        as_of=job.as_of,
        champion=champion,
        former=former,
        holder=holder,
        retired=frozenset(former.blend.families if former else ()) - set(work.offered),
        candidates=candidates,
        watched=watched,
        losses=losses_of(job.as_of, sweep, scored.values(), past),
        past=past,
        tried=[x for x in tried if x.blend not in scored],
        confidence=_confidence(job.store, job.problem, job.as_of, champion),
        doubted=frozenset(doubted(job.store, job.problem.name, job.as_of, blends)),
    )


def _past(job: Job, scored: Iterable[str], starting: datetime) -> list[BlockLoss]:
    """Evidence of earlier cycles that still weighs anything, and every loss of these blends on the present blocks."""
    store, name = job.store, job.problem.name
    since = recent_since(store, name, job.as_of)
    blends = sorted(scored) if since is not None else ()
    known = store.evidence(name, blends=blends, starting=starting, since=since)
    return [e for e in known if e.cycle < job.as_of]


def _confidence(store: Store, problem: Problem, as_of: datetime, champion: Release | None) -> float:
    """The confidence of the problem file, lowered for a young problem."""
    confidence = problem.promotion.confidence
    searched = searched_cycles(store, problem.name)
    if champion and len([at for at in searched if at < as_of]) < YOUNG_CYCLES:
        return min(confidence, YOUNG_CONFIDENCE)
    return confidence


def _rivals(store: Store, sweep: Sweep, as_of: datetime) -> dict[str, Dated]:
    """Shadows and this cycle's challenger."""
    leaderboard, work = sweep.leaderboard, sweep.work
    if not leaderboard.trials:  # no search: the champion is refitted, whatever its rivals lost
        return {}
    mature = work.problem.mature(as_of)
    shadows = store.shadows(work.problem.name)
    rivals = {blend.id: (blend, until) for blend, until in shadows if until < mature}
    if leaderboard.challenger is not None and not leaderboard.too_small:
        rivals.setdefault(leaderboard.challenger.id, (leaderboard.challenger, work.blocks[0].end))
    return {name: r for name, r in rivals.items() if r[0].offered(work.offered)}
