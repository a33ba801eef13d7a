"""Promotion regret of a problem's decisions, from the store alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from automl.modeling.losses import BlockLoss
from automl.problem import Problem
from automl.promotion.regret import Regret, regret_of
from automl.promotion.trial_losses import losses_of_stored
from automl.store import Cycle, DecisionRecord, Release, Store
from automl.workspace import Workspace, day_of

__all__ = ["REGRET_COLUMNS", "decisions_with_regret", "regrets"]

LOOKED_BACK = 400  # decisions and cycles
REGRET_COLUMNS = (
    "as_of", "outcome", "plan", "chosen", "rejected", "blocks", "gain", "regret", "right",
    "core_seconds", "wall_seconds", "text",
)  # fmt: skip


def regrets(
    problem: Problem, workspace: Workspace, as_of: datetime | None = None
) -> list[dict[str, Any]]:
    """Decisions, oldest first, each with its regret as far as it is known, and its cycle's cost."""
    found = decisions_with_regret(Store(workspace), problem)
    return [document for decision, document in found if as_of in (None, decision.as_of)]


def decisions_with_regret(
    store: Store, problem: Problem, *, limit: int = LOOKED_BACK
) -> list[tuple[DecisionRecord, dict[str, Any]]]:
    """The newest decisions, oldest first, each with its document."""
    cycles = {c.as_of: c for c in reversed(store.cycles(problem.name, verb="retrain", limit=limit))}
    last = {d.as_of: d for d in reversed(store.decisions(problem.name, limit=limit))}
    releases = store.releases(problem.name, limit=LOOKED_BACK)
    losses = _losses(store, problem, list(cycles.values()), last)
    ordered = sorted(last.values(), key=lambda d: d.as_of)
    return [
        (d, _document(_regret(problem, d, releases, losses), cycles.get(d.as_of))) for d in ordered
    ]


def _document(regret: Regret, cycle: Cycle | None) -> dict[str, Any]:
    """One decision as a plain document."""
    receipts: Mapping[str, Any] = cycle.receipts if cycle else {}
    return {
        "as_of": day_of(regret.as_of),
        "outcome": regret.outcome,
        "plan": (receipts.get("plan") or {}).get("kind"),
        "chosen": regret.chosen,
        "rejected": regret.rejected or None,
        "blocks": len(regret.gains),
        "gain": regret.gain,
        "regret": regret.regret,
        "right": regret.right,
        "core_seconds": (receipts.get("cost") or {}).get("core_seconds"),
        "wall_seconds": cycle.seconds if cycle else None,
        "text": regret.in_words,
    }


def _regret(
    problem: Problem,
    decision: DecisionRecord,
    releases: list[Release],
    losses: list[BlockLoss],
) -> Regret:
    made = next((r for r in releases if r.decision_id == decision.id), None)
    before = [r for r in releases if r.as_of < decision.as_of]
    former = before[0].blend.id if before else ""
    chosen = made.blend.id if made else former
    own = (e.end for e in losses if e.cycle == decision.as_of)
    known = max(own, default=problem.newest_block_end(decision.as_of))
    return regret_of(decision, chosen, former, known, losses)


def _losses(
    store: Store,
    problem: Problem,
    cycles: list[Cycle],
    decisions: Mapping[datetime, DecisionRecord],
) -> list[BlockLoss]:
    """The evidence, and the losses of single recipes in every sweep."""
    evidence = [e for e in store.evidence(problem.name) if e.metric in ("", problem.metric.name)]
    tried: list[BlockLoss] = []
    for cycle in cycles:
        metric = (cycle.receipts.get("metrics") or [""])[0]
        if cycle.as_of in decisions and metric == problem.metric.name:
            own = [e for e in evidence if e.cycle == cycle.as_of]
            tried += losses_of_stored(store.trials(cycle), own)
    return [*evidence, *tried]
