"""The evidence of a cycle gathered and ruled on; what follows from it is somebody else's step.

Champion, shadows and this cycle's challenger are compared on all blocks that any cycle has evaluated
for both. The rule itself is `automl.promotion.decide`; nothing here is effective.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from itertools import islice, takewhile
from operator import attrgetter
from typing import Any

from automl.cycles.job import Job
from automl.errors import NoModelError
from automl.modeling.losses import BlockLoss
from automl.modeling.recipes import Blend
from automl.modeling.splits import day_of
from automl.monitoring.realised import attribution
from automl.problem import Problem
from automl.promotion.decide import (
    IN_SAMPLE_CONFIDENCE,
    PROBATION_CYCLES,
    REVERTED_CONFIDENCE,
    REVERTED_CYCLES,
    YOUNG_CONFIDENCE,
    YOUNG_CYCLES,
    Decision,
    Probation,
    decide,
    probation,
)
from automl.promotion.evidence import duels
from automl.promotion.release import PendingDecision, actor
from automl.retrain.block_losses import losses_of, losses_of_trials
from automl.store import Release, Store, Waiting, ledger
from automl.sweep import Leaderboard, Plan, Work, reweighed
from automl.workspace import now

__all__ = ["Choice", "PreviousChampion", "doubted", "make_choice", "previous_champion"]

NOTHING_ADDED = "kept: the search found no recipe that adds to those in place"
_shrunk = attrgetter("shrunk")  # of a verdict
MANY_DECISIONS = 400  # that are looked through for searches
UNCOMPARED = (
    "it was not compared with the champion, which cannot be fitted; it is the best of what can be"
)
WAIT = timedelta(days=14)  # by then its evidence and its rows are two weekly cycles old


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What was decided, before any of it is effective."""

    decision: Decision
    outcome: str  # first | promote | revert | keep | stay
    blend: Blend
    labels_until: datetime
    pending: PendingDecision
    losses: dict[str, float]  # of the chosen blend and of the baseline, on the newest block
    watched: Blend | None = None  # what the chosen one will be held against, while on probation
    stays: Release | None = None  # the champion, where it is not refit (outcome stay)


@dataclass(frozen=True, slots=True)
class PreviousChampion:
    """The champion before this one, while this one is on probation."""

    blend: Blend
    labels_until: datetime  # of the cycle that made the blend
    since: datetime  # end of the labels that the promotion knew


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """What a decision is made on: who holds the place, who wants it, and their losses."""

    champion: Release | None  # if it can be refit
    former: Release | None  # champion until now
    holder: Blend
    retired: frozenset[str]  # the former champion's families that are no longer offered
    known: Mapping[str, tuple[Blend, datetime]]  # holder and rivals, with what chose them
    watched: PreviousChampion | None
    losses: Sequence[BlockLoss]  # of this cycle
    past: Sequence[BlockLoss]
    tried: Sequence[BlockLoss]  # what else this sweep looked at

    @property
    def rivals(self) -> set[str]:
        return set(self.known) - {self.holder.id}


def make_choice(job: Job, work: Work, leaderboard: Leaderboard, plan: Plan) -> Choice:
    """Judge challenger and shadows against the champion on all evidence there is.

    A first cycle has no champion: what its start points give without a search stands in, and the challenger
    must be better by the same rule, only without the extra caution for evidence that took part in choosing.
    So it is where a champion is replaced because its family is no longer offered. While a champion is
    on probation, the one that it dethroned is held against it first, and takes its place back where the
    new one has turned out worse. In review mode nothing takes a champion's place: it waits for a person.
    """
    case = _gather(job, work, leaderboard)
    decision = _decide(job, case, shifted=plan.shifted)
    if (
        not decision.verdicts
        and leaderboard.challenger
        and leaderboard.challenger.id == case.holder.id
    ):
        decision = replace(decision, reason=NOTHING_ADDED)
    told = _probation(case)
    reverts = told is not None and told.outcome == "revert"
    if told is not None and case.watched is not None and reverts:
        old, why = case.watched.blend.id, f"reverted: {told.reason}"
        decision = replace(decision, outcome="promote", blend=old, reason=why)
    content = {
        "probation": asdict(told) if told else None,
        "attribution": _attribution(job, work, case, decision),
    }
    if job.problem.promotion.mode == "review" and case.former:
        decision = _proposal(job, case, decision)
        if decision.outcome == "promote" or not case.champion:
            return _waits(job, work, leaderboard, decision, case, content)
    outcome, reason = _outcome(case, decision, reverts=reverts)
    blend, until = _relearned(work, leaderboard, *_of(case, decision.blend))
    shadows = [] if reverts else _shadows(decision, decision.blend, case.known)
    return Choice(
        decision,
        outcome,
        blend,
        until,
        PendingDecision(
            outcome,
            reason,
            _content(leaderboard, decision, outcome, case) | content,
            case.losses,
            shadows if leaderboard.trials else None,
            actor(job.options.trigger),
            reverted_blend=case.holder.id if reverts else "",
        ),
        _newest(work, case.losses, blend.id),
        _watched(case, outcome),
    )


def previous_champion(store: Store, problem: Problem, as_of: datetime) -> PreviousChampion | None:
    """Who was champion before the present one, if that was promoted less than four cycles or blocks ago."""
    told = [e for e in store.ledger(problem.name) if e.kind in ledger.EFFECTIVE]
    told = sorted((e for e in told if e.as_of < as_of), key=lambda e: (e.as_of, e.id))
    change = next((e for e in reversed(told) if e.kind != "refit"), None)
    if change is None or change.kind not in ("promote", "approve"):
        return None
    refits = {e.as_of for e in told if e.as_of > change.as_of}
    releases = store.releases(problem.name)
    before = next((r for r in releases if r.model_version == change.from_version), None)
    since = problem.newest_block_end(change.as_of)
    # cycles may come more often than blocks, or less often
    blocks = takewhile(lambda edge: edge >= since, islice(problem.block_edges(as_of), 1, None))
    over = len(list(islice(blocks, PROBATION_CYCLES + 1))) > PROBATION_CYCLES
    if before is None or (over and len(refits) >= PROBATION_CYCLES):
        return None
    return PreviousChampion(before.blend, before.labels_until, since)


def doubted(store: Store, problem: str, as_of: datetime, blends: Sequence[Blend]) -> set[str]:
    """Which of these blends were put out or turned down in the last five cycles.

    Weights do not count: the same recipes, weighed a little differently, are the same on old evidence.
    """
    rows = [e for e in store.ledger(problem) if e.kind in ("rollback", "revert", "reject")]
    if not rows:
        return set()
    decided = _searched(store, problem)
    names = {
        e.blend_id
        for e in rows
        if e.as_of <= as_of and sum(e.as_of < d < as_of for d in decided) < REVERTED_CYCLES
    }
    known = [*(r.blend for r in store.releases(problem)), *(b for b, _ in store.shadows(problem))]
    alike = {b.recipes for b in known if b.id in names}
    return {b.id for b in blends if b.id in names or b.recipes in alike}


def _searched(store: Store, problem: str) -> set[datetime]:
    """as_of of the decisions that rest on a search; mere refits, which may be many, decide nothing."""
    return {
        d.as_of
        for d in store.decisions(problem, limit=MANY_DECISIONS)
        if d.content.get("sweep", {}).get("trials", True)  # older decisions do not say it
    }


def _gather(job: Job, work: Work, leaderboard: Leaderboard) -> _Case:
    mature = job.problem.mature(job.as_of)
    before = job.champion
    champion = before if before and before.blend.offered(work.families) else None
    holder = champion.blend if champion else leaderboard.reference
    if job.problem.promotion.mode == "review" and before:
        holder = holder or before.blend  # no trial ended well: nothing is proposed
    if holder is None:
        raise NoModelError(
            "no trial ended well, and there is no champion to refit",
            code="no_model",
            next_step="automl leaderboard shows why each trial failed.",
        )
    chosen_on = work.blocks[0].end
    known = _rivals(job, work, leaderboard, mature)
    known[holder.id] = (holder, champion.labels_until if champion else chosen_on)
    watched = previous_champion(job.store, job.problem, job.as_of) if champion else None
    if watched and (watched.blend.id == holder.id or not watched.blend.offered(work.offered)):
        watched = None
    judged = dict(known)
    if watched:
        judged.setdefault(watched.blend.id, (watched.blend, watched.labels_until))
    past = [e for e in job.store.evidence(job.problem.name) if e.cycle < job.as_of]
    losses = losses_of(job, work, leaderboard, judged.values(), past)
    tried = losses_of_trials(job, work, leaderboard, chosen_on)
    tried = [x for x in tried if x.blend not in judged]
    retired = frozenset(before.blend.families if before else ()) - set(work.offered)
    return _Case(champion, before, holder, retired, known, watched, losses, past, tried)


def _decide(job: Job, case: _Case, *, shifted: bool) -> Decision:
    confidence = job.problem.promotion.confidence
    searched = _searched(job.store, job.problem.name)
    if case.champion and len([at for at in searched if at < job.as_of]) < YOUNG_CYCLES:
        confidence = min(confidence, YOUNG_CONFIDENCE)
    blends = [b for b, _ in case.known.values()]
    doubts = doubted(job.store, job.problem.name, job.as_of, blends)
    every = duels([*case.past, *case.losses, *case.tried], case.holder.id)
    return decide(
        [d for d in every if d.challenger in case.rivals],
        case.holder.id,
        confidence,
        # what stands in for a first champion has no place to defend: a mix of it is no smaller step
        {name: _share(b, case.holder) for name, (b, _) in case.known.items() if case.champion},
        in_sample_confidence=IN_SAMPLE_CONFIDENCE if case.champion else confidence,
        least=dict.fromkeys(doubts, REVERTED_CONFIDENCE),
        others=[d for d in every if d.challenger not in case.rivals],
        shifted=shifted,
    )


def _probation(case: _Case) -> Probation | None:
    if case.watched is None:
        return None
    every = [*case.past, *case.losses]
    return probation(every, case.holder.id, case.watched.blend.id, case.watched.since)


def _outcome(case: _Case, decision: Decision, *, reverts: bool) -> tuple[str, str]:
    """In a word, and in a sentence."""
    if reverts:
        return "revert", decision.reason
    if case.champion:
        return decision.outcome, decision.reason
    if case.former:
        head = "instead of a champion whose family is no longer offered"
        return "promote", _first_reason(decision, head)
    return "first", _first_reason(decision, "the first model of this problem")


def _watched(case: _Case, outcome: str) -> Blend | None:
    if outcome == "promote" and case.champion:
        return case.holder
    return case.watched.blend if outcome == "keep" and case.watched else None


def _of(case: _Case, name: str) -> tuple[Blend, datetime]:
    """A blend of the case, with the end of the labels that chose it."""
    if name in case.known:
        return case.known[name]
    if case.watched is None:
        raise AssertionError("a decision names a rival, the holder, or who was dethroned")
    return case.watched.blend, case.watched.labels_until


def _attribution(job: Job, work: Work, case: _Case, decision: Decision) -> dict[str, Any] | None:
    """What the gain of the chosen, or else of the best rival, is made of."""
    if case.champion is None:
        return None
    best = max(decision.verdicts, key=_shrunk, default=None)
    kept = decision.outcome == "keep"
    rival = (best.challenger if best else case.holder.id) if kept else decision.blend
    baseline = _newest(work, case.losses, case.holder.id)["baseline"]
    return attribution(job, work, case.holder, _of(case, rival)[0], baseline)


def _proposal(job: Job, case: _Case, decision: Decision) -> Decision:
    """What waits for a person: where the champion's family is retired, the best of others, better or not."""
    if not case.retired or case.former is None:
        return decision
    blend, best = _of(case, decision.blend)[0], max(decision.verdicts, key=_shrunk, default=None)
    if decision.outcome == "keep" and best and (case.champion or best.shrunk > 0):
        blend = _of(case, best.challenger)[0]  # a person decides, so nothing need be proved
    doubts = doubted(job.store, job.problem.name, job.as_of, [blend])
    turned_down = decision.outcome == "keep" and blend.id in doubts
    if turned_down or blend.id == case.former.blend.id:
        return replace(decision, outcome="keep")
    gone = f"family {', '.join(sorted(case.retired))} of the champion is no longer offered"
    why = decision.reason.removeprefix("promoted: ").removeprefix("kept: ")
    return replace(decision, outcome="promote", blend=blend.id, reason=f"{gone}; {why}")


def _waits(
    job: Job,
    work: Work,
    leaderboard: Leaderboard,
    decision: Decision,
    case: _Case,
    content: dict[str, Any],
) -> Choice:
    """Where a person decides, the champion is refit, if it can be; what would have taken its place waits."""
    keeps = case.former
    assert keeps is not None  # before there is a champion nothing waits
    stays = None if case.champion else keeps
    told = decision.reason.removeprefix("promoted: ").removeprefix("kept: ")
    reason, one = "kept", None
    if stays is not None:
        gone = ", ".join(sorted(set(stays.blend.families) - set(work.families)))
        reason = f"kept version {stays.model_version} as it is: its family {gone} cannot be loaded"
        told = UNCOMPARED  # the table's gains are over what stands in for it
    blend, until = _of(case, decision.blend)
    shadows = _shadows(decision, decision.blend, case.known)
    if decision.outcome == "promote":
        moment, losses = now(), _newest(work, case.losses, blend.id)
        relearned = _relearned(work, leaderboard, blend, until)
        one = Waiting(job.as_of, *relearned, told, losses, moment, moment + WAIT)
        shadows.insert(0, (blend, until))
        reason += f"; {blend} waits for approval"
    reason += f": {told}"
    champion, chosen, outcome = keeps.blend, keeps.labels_until, "stay" if stays else "keep"
    held = replace(decision, outcome="keep", blend=champion.id, reason=reason)
    shadows = [s for s in shadows if s[0].id != champion.id]
    content = _content(leaderboard, held, "wait" if one else outcome, case) | content
    return Choice(
        held,
        outcome,
        *((champion, chosen) if stays else _relearned(work, leaderboard, champion, chosen)),
        PendingDecision(
            outcome,
            reason,
            content,
            case.losses,
            shadows if leaderboard.trials else None,
            actor(job.options.trigger),
            one,
        ),
        _newest(work, case.losses, champion.id),
        stays=stays,
    )


def _shadows(
    decision: Decision, chosen: str, known: Mapping[str, tuple[Blend, datetime]]
) -> list[tuple[Blend, datetime]]:
    """Those who may become champion on the next block, best first."""
    ranked = sorted(decision.verdicts, key=_shrunk, reverse=True)
    return [known[v.challenger] for v in ranked if v.challenger != chosen and v.shrunk > 0]


def _newest(work: Work, losses: Sequence[BlockLoss], blend: str) -> dict[str, float]:
    """Losses of a blend and of the baseline on the newest block."""
    start = work.blocks[0].start
    mine = next((e for e in losses if e.blend == blend and e.start == start), None)
    return (
        {"model": mine.loss, "baseline": mine.baseline_loss}
        if mine
        else {"model": 0.0, "baseline": 1.0}
    )


def _rivals(
    job: Job, work: Work, leaderboard: Leaderboard, mature: datetime
) -> dict[str, tuple[Blend, datetime]]:
    """Shadows and this cycle's challenger, each with the end of the labels that chose it."""
    if (
        not leaderboard.trials
    ):  # nothing was fitted: the champion is refit, whatever is known of others
        return {}
    rivals = {
        b.id: (b, until) for b, until in job.store.shadows(job.problem.name) if until < mature
    }
    if leaderboard.challenger is not None:
        rivals.setdefault(leaderboard.challenger.id, (leaderboard.challenger, work.blocks[0].end))
    return {name: r for name, r in rivals.items() if r[0].offered(work.offered)}


def _first_reason(decision: Decision, head: str) -> str:
    if decision.outcome == "promote":
        return f"{head}; {decision.reason}"
    why = decision.reason.removeprefix("kept: ")
    return f"{head}: a blend of good start points, which no challenger beat: {why}"


def _share(blend: Blend, champion: Blend) -> float:
    mine = {m.recipe.id: m.weight for m in champion.members}
    return sum(min(m.weight, mine.get(m.recipe.id, 0.0)) for m in blend.members)


def _relearned(
    work: Work, leaderboard: Leaderboard, blend: Blend, until: datetime
) -> tuple[Blend, datetime]:
    """The blend with what this cycle's blocks teach, and the end of the labels that it was fixed on.

    They teach what early stopping learns, and the weights; those of a blend that this very cycle has made
    are fresh already. Where nothing was searched, weights are learned from the predictions of cached fits,
    if all members have predicted all of the blocks. On blocks that taught the weights the blend is
    in-sample from now on.
    """
    newest = work.blocks[0].end
    if until < newest:
        weighed = reweighed(work, blend)
        if weighed != blend:
            blend, until = weighed, newest
    learned = {t.recipe.id: t.learned for t in leaderboard.trials if t.status == "complete"}
    members = (replace(m, learned=learned.get(m.recipe.id, m.learned)) for m in blend.members)
    return Blend(tuple(members)), until


def _content(
    leaderboard: Leaderboard, decision: Decision, outcome: str, case: _Case
) -> dict[str, Any]:
    known = dict(case.known)
    if case.watched:
        known.setdefault(case.watched.blend.id, _of(case, case.watched.blend.id))
    return {
        "outcome": outcome,
        "blends": {
            name: {"text": str(b), "labels_until": f"{until:%Y-%m-%d %H:%M}"}
            for name, (b, until) in known.items()
        },
        "verdicts": [asdict(v) for v in decision.verdicts],
        "blocks": [
            {
                "block": day_of(e.start),
                "until": day_of(e.end),  # a merged block is longer than others
                "blend": e.blend,
                "loss": e.loss,
                "rows": e.rows,
                "kind": e.kind,
            }
            for e in case.losses
        ],
        "sweep": {
            "trials": len(leaderboard.trials),
            "stopped": leaderboard.stopped,
            "seconds": round(leaderboard.seconds, 1),
            "fit_seconds": round(leaderboard.fit_seconds, 1),
            "rows": leaderboard.rows,
        },
    }
