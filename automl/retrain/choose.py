"""Choose what a cycle releases, by a decision on its evidence; writes nothing.

Champion, shadows and this cycle's challenger are compared on all blocks that any cycle has evaluated for
both. The rule itself is `automl.promotion.decide`.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from automl.cycles.job import Job
from automl.cycles.steps import step
from automl.modeling.recipes import Blend
from automl.monitoring.realised import attribution
from automl.promotion.decide import (
    IN_SAMPLE_CONFIDENCE,
    REVERTED_CONFIDENCE,
    Decision,
    Probation,
    decide,
    probation,
)
from automl.promotion.evidence import duels
from automl.promotion.release import PendingDecision, current_actor
from automl.promotion.rule import Rule, decide_by
from automl.retrain.case import Case, gather
from automl.retrain.choice import Choice, content, next_shadows, shrunk_gain
from automl.retrain.proposal import proposed, wait_for_review, without_verb
from automl.retrain.relearning import relearned
from automl.retrain.search import Sweep

__all__ = ["make_choice"]

NOTHING_ADDED = "kept: the search found no recipe that adds to those in place"


@step("decide")
def make_choice(job: Job, sweep: Sweep) -> Choice:
    """Decide on all evidence between champion, challenger and shadows, and choose what to release.

    A first cycle has no champion: the blend of its start points stands in, and the challenger must be better
    by the same rule, but without the extra caution for in-sample evidence. So it is where the champion's
    family is no longer offered. While a champion is on probation, it is first compared with the previous
    champion, which takes its place back if the new champion has turned out worse. In review mode no blend
    replaces a champion before a person has approved it.
    """
    case, actor = gather(job, sweep), current_actor(job.options.trigger)
    rule = _rule(case, shifted=sweep.plan.shifted)
    every = duels([*case.past, *case.losses, *case.tried], case.holder.id)
    decision = decide_by(rule, every, decide)
    challenger = sweep.leaderboard.challenger
    if not decision.verdicts and challenger and challenger.id == case.holder.id:
        decision = replace(decision, reason=NOTHING_ADDED)
    if not decision.verdicts and sweep.leaderboard.too_small and case.champion:
        decision = replace(decision, reason=f"kept: {sweep.leaderboard.too_small}")
    probe = _probation(case)
    reverts = probe is not None and probe.outcome == "revert"
    if probe is not None and case.watched is not None and reverts:
        previous, reason = case.watched.blend.id, f"reverted: {probe.reason}"
        decision = replace(decision, outcome="promote", blend=previous, reason=reason)
    details = {
        "rule": asdict(rule),
        "probation": asdict(probe) if probe else None,
        "attribution": _attribution(job, sweep, case, decision),
    }
    if job.problem.promotion.mode == "review" and case.former:
        decision = proposed(case, decision)
        if decision.outcome == "promote" or not case.champion:
            return wait_for_review(case, sweep, decision, details, actor=actor)
    outcome, reason = _outcome(case, decision, reverts=reverts)
    shadows = [] if reverts else next_shadows(case, decision)
    pending = PendingDecision(
        outcome=outcome,
        reason=reason,
        content={**content(case, sweep.leaderboard, decision, outcome), **details},
        evidence=case.losses,
        shadows=shadows if sweep.leaderboard.trials else None,
        actor=actor,
        reverted_blend=case.holder.id if reverts else "",
    )
    blend, until = relearned(sweep.work, sweep.leaderboard, *case.dated(decision.blend))
    return Choice(
        decision=decision,
        outcome=outcome,
        blend=blend,
        labels_until=until,
        pending=pending,
        losses=case.newest(blend.id),
        watched=_watched(case, outcome),
    )


def _rule(case: Case, *, shifted: bool) -> Rule:
    shares = {name: _share(b, case.holder) for name, (b, _) in case.candidates.items()}
    return Rule(
        holder=case.holder.id,
        rivals=tuple(sorted(case.rivals)),
        confidence=case.confidence,
        # what stands in for a first champion has no place to defend: a mix of it is no smaller step
        shares=shares if case.champion else {},
        in_sample_confidence=IN_SAMPLE_CONFIDENCE if case.champion else case.confidence,
        least=dict.fromkeys(case.doubted, REVERTED_CONFIDENCE),
        shifted=shifted,
    )


def _probation(case: Case) -> Probation | None:
    if case.watched is None:
        return None
    every = [*case.past, *case.losses]
    return probation(every, case.holder.id, case.watched.blend.id, case.watched.since)


def _outcome(case: Case, decision: Decision, *, reverts: bool) -> tuple[str, str]:
    """The outcome in a word, and its reason in a sentence."""
    if reverts:
        return "revert", decision.reason
    if case.champion:
        return decision.outcome, decision.reason
    if case.former:
        head = "instead of a champion whose family is no longer offered"
        return "promote", _first_reason(decision, head)
    return "first", _first_reason(decision, "the first model of this problem")


def _first_reason(decision: Decision, head: str) -> str:
    if decision.outcome == "promote":
        return f"{head}; {decision.reason}"
    why = without_verb(decision.reason)
    return f"{head}, a blend of good start points, which no challenger beat: {why}"


def _watched(case: Case, outcome: str) -> Blend | None:
    """The previous champion, while the chosen blend is on probation."""
    if outcome == "promote" and case.champion:
        return case.holder
    return case.watched.blend if outcome == "keep" and case.watched else None


def _attribution(job: Job, sweep: Sweep, case: Case, decision: Decision) -> dict[str, Any] | None:
    """What the gain of the chosen blend, or else of the best rival, is made of."""
    if case.champion is None:
        return None
    name = decision.blend
    if decision.outcome == "keep":
        best = max(decision.verdicts, key=shrunk_gain, default=None)
        name = best.challenger if best else case.holder.id
    baseline = case.newest(case.holder.id)["baseline"]
    return attribution(job, sweep.work, case.holder, case.dated(name)[0], baseline)


def _share(blend: Blend, champion: Blend) -> float:
    """The share of a blend that is the champion's: the weight that both give to the same recipes."""
    weights = {m.recipe.id: m.weight for m in champion.members}
    return sum(min(m.weight, weights.get(m.recipe.id, 0.0)) for m in blend.members)
