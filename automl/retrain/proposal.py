"""Review mode: the champion is refitted if it can be; what would have replaced it is proposed to a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from automl.promotion.decide import Decision
from automl.promotion.release import PendingDecision
from automl.retrain.case import Case
from automl.retrain.choice import Choice, content, next_shadows, shrunk_gain
from automl.retrain.relearning import relearned
from automl.retrain.search import Sweep
from automl.store import Release, Waiting
from automl.workspace import now

__all__ = ["proposed", "wait_for_review", "without_verb"]

UNCOMPARED = "it was not compared with the champion, which cannot be fitted; it is the best blend that can be"
WAIT = timedelta(days=14)  # by then its evidence and its rows are two weekly cycles old


def proposed(case: Case, decision: Decision) -> Decision:
    """What a person is asked to approve.

    Where a family of the champion is retired, that is the best of the other blends, better or not.
    """
    if not case.retired or case.former is None:
        return decision
    blend = case.dated(decision.blend)[0]
    best = max(decision.verdicts, key=shrunk_gain, default=None)
    if decision.outcome == "keep" and best and (case.champion or best.shrunk > 0):
        blend = case.dated(best.challenger)[0]  # a person decides, so no gain need be proved
    rejected = decision.outcome == "keep" and blend.id in case.doubted
    if rejected or blend.id == case.former.blend.id:
        return replace(decision, outcome="keep")
    retired = f"family {', '.join(sorted(case.retired))} of the champion is no longer offered"
    reason = f"{retired}; {without_verb(decision.reason)}"
    return replace(decision, outcome="promote", blend=blend.id, reason=reason)


def wait_for_review(
    case: Case, sweep: Sweep, decision: Decision, details: Mapping[str, Any], *, actor: str
) -> Choice:
    """The champion refitted if it can be; a decision to promote becomes a challenger that awaits approval."""
    former = case.former
    assert former is not None  # before there is a champion, nothing waits for review
    stays = None if case.champion else former
    outcome = "stay" if stays else "keep"
    why = UNCOMPARED if stays else without_verb(decision.reason)
    waiting = _waiting(case, sweep, decision, why) if decision.outcome == "promote" else None
    reason = _unchanged(stays, sweep) if stays else "kept"
    if waiting:
        reason += f"; {case.dated(decision.blend)[0]} waits for approval"
    reason += f": {why}"
    shadows = next_shadows(case, decision)
    if waiting:
        shadows.insert(0, case.dated(decision.blend))
    champion, until = former.blend, former.labels_until
    keeping = replace(decision, outcome="keep", blend=champion.id, reason=reason)
    shadows = [s for s in shadows if s[0].id != champion.id]
    pending = PendingDecision(
        outcome=outcome,
        reason=reason,
        content={
            **content(case, sweep.leaderboard, keeping, "wait" if waiting else outcome),
            **details,
        },
        evidence=case.losses,
        shadows=shadows if sweep.leaderboard.trials else None,
        actor=actor,
        waiting=waiting,
    )
    if stays is None:
        champion, until = relearned(sweep.work, sweep.leaderboard, champion, until)
    return Choice(
        decision=keeping,
        outcome=outcome,
        blend=champion,
        labels_until=until,
        pending=pending,
        losses=case.newest(former.blend.id),
        stays=stays,
    )


def without_verb(reason: str) -> str:
    """A decision's reason without its leading `promoted:` or `kept:`."""
    return reason.removeprefix("promoted: ").removeprefix("kept: ")


def _waiting(case: Case, sweep: Sweep, decision: Decision, why: str) -> Waiting:
    blend, until = relearned(sweep.work, sweep.leaderboard, *case.dated(decision.blend))
    moment = now()
    return Waiting(
        as_of=case.as_of,
        blend=blend,
        labels_until=until,
        reason=why,
        losses=case.newest(decision.blend),
        waits_since=moment,
        expires_at=moment + WAIT,
    )


def _unchanged(stays: Release, sweep: Sweep) -> str:
    missing = ", ".join(sorted(set(stays.blend.families) - set(sweep.work.families)))
    return f"kept version {stays.model_version} unchanged: its family {missing} cannot be loaded"
