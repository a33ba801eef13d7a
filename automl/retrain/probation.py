"""What the ledger says of blends: the previous champion, still on probation, and blends that were turned down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, takewhile

from automl.modeling.recipes import Blend
from automl.problem import Problem
from automl.promotion.decide import PROBATION_CYCLES, REVERTED_CYCLES
from automl.store import Store, ledger

__all__ = ["PreviousChampion", "doubted", "previous_champion", "searched_cycles"]

MANY_DECISIONS = 400  # that are read to find searches


@dataclass(frozen=True, slots=True)
class PreviousChampion:
    """The champion before this one, while this one is on probation."""

    blend: Blend
    labels_until: datetime  # of the cycle that made the blend
    since: datetime  # end of the labels that the promotion knew


def previous_champion(store: Store, problem: Problem, as_of: datetime) -> PreviousChampion | None:
    """The champion before the present one, if that was promoted less than four cycles or blocks ago."""
    entries = [e for e in store.ledger(problem.name) if e.kind in ledger.EFFECTIVE]
    entries = sorted((e for e in entries if e.as_of < as_of), key=lambda e: (e.as_of, e.id))
    change = next((e for e in reversed(entries) if e.kind != "refit"), None)
    if change is None or change.kind not in ("promote", "approve"):
        return None
    refits = {e.as_of for e in entries if e.as_of > change.as_of}
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
    """Ids of those blends that were rolled back, reverted or rejected in the last five cycles.

    Weights do not count: on old evidence, the same recipes with slightly different weights are the same blend.
    """
    entries = [e for e in store.ledger(problem) if e.kind in ("rollback", "revert", "reject")]
    if not entries:
        return set()
    decided = searched_cycles(store, problem)
    names = {
        e.blend_id
        for e in entries
        if e.as_of <= as_of and sum(e.as_of < d < as_of for d in decided) < REVERTED_CYCLES
    }
    recorded = [
        *(r.blend for r in store.releases(problem)),
        *(b for b, _ in store.shadows(problem)),
    ]
    recipes = {b.recipes for b in recorded if b.id in names}
    return {b.id for b in blends if b.id in names or b.recipes in recipes}


def searched_cycles(store: Store, problem: str) -> set[datetime]:
    """as_of of the decisions that rest on a search; a mere refit decides nothing."""
    return {
        d.as_of
        for d in store.decisions(problem, limit=MANY_DECISIONS)
        if d.content.get("sweep", {}).get("trials", True)  # older decisions lack the count
    }
