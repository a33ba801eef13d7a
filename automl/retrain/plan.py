"""How much search a cycle deserves: the more has changed, the more a cycle searches.

A refit fits the champion again. A warm cycle tries the champion, the best recipes of the last cycles and a
few challengers that start from what was learned. A full search comes when something has changed; it is
triggered by a robust z-score of the champion's own losses and by a schedule, which bounds how old a search
may become.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from automl.cycles.job import Job
from automl.cycles.steps import step
from automl.modeling.recipes import Blend, Params, Recipe
from automl.problem import Problem, Span
from automl.retrain.memory import (
    MEMORY,
    PastSearch,
    families_by_success,
    live_recipes,
    long_unseen,
    past_searches,
    past_trials,
)
from automl.retrain.situation import PolicyChoice
from automl.store import Store
from automl.sweep import Past, Plan, PlanKind, Work, blend_losses

__all__ = [
    "Facts",
    "choose_plan",
    "make_plan",
    "narrowed",
    "shadow_gains",
    "signature",
    "whole_block_since",
]

FULL_AFTER = 8  # searches after which a full one is due; mere refits do not count
GROWN = 1.5  # rows, compared with those of the last full search
OUTLIER = 3.0  # robust z-score of the champion's newest loss
OUTLIER_BLOCKS = 6  # past losses that an outlier is measured on
RECENCY_GAIN = 0.02  # by which another recency beat the champion on each of the newest blocks
RECENCY_BLOCKS = 2  # newest blocks; on a single one luck alone often gives as much
LIVE = 5  # recipes of a warm cycle, the champion's members among them
CHALLENGERS = 3  # new points of a warm cycle
WARM_BLOCKS = 2  # newest blocks that a warm cycle evaluates; the older ones are in the evidence
WARM_SECONDS = 8.0  # wall clock of a warm search, ...
WARM_SHARE = 0.08  # ... and a share of the budget, ...
WARM_MOST = 0.2  # ... which together are at most this share of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the choice of a plan depends on."""

    champion: Blend | None
    past: Sequence[PastSearch]  # newest first
    rows: int
    signature: str  # of families, columns and target
    whole_block: bool  # whether a whole block of labels came since the last search
    losses: Sequence[float]  # of the champion's published predictions, newest first
    # of shadows, on the worse of the newest blocks, over the best of the champion and its members
    gains: Sequence[tuple[Recipe, float]] = ()


@step("plan")
def make_plan(
    job: Job, work: Work, policy: PolicyChoice, cached: Mapping[tuple[str, int], Params]
) -> Plan:
    """Gather the facts of a cycle and choose its plan; an interrupted cycle keeps the plan that it had.

    Parameters
    ----------
    policy
        What the problem's policy chose; `--plan` overrides it.
    cached
        (recipe, block) of this cycle that fits of earlier cycles have predicted, with learned params.
    """
    champion = job.champion
    blend = champion.blend if champion and champion.blend.offered(work.families) else None
    searches = past_searches(job.store, job.problem.name, job.as_of)
    trials = past_trials(searches, work)
    facts = Facts(
        champion=blend,
        past=searches,
        rows=len(work.frame),
        signature=signature(job.problem, work),
        whole_block=not searches or whole_block_since(job.problem, searches[0].as_of, job.as_of),
        losses=_published_losses(job.store, work),
        gains=shadow_gains(work, cached, blend, trials),
    )
    receipt = job.cycle.receipts.get("plan")
    kind, reason = (
        (receipt["kind"], receipt["reason"]) if receipt else _plan(facts, job.options.plan, policy)
    )
    job.store.note(
        job.cycle,
        plan={"kind": kind, "reason": reason, "rows": facts.rows, "signature": facts.signature},
        metrics=[job.problem.metric.name, *job.problem.metric.also],
    )
    members = {m.recipe.id for m in blend.members} if blend else set()
    live = live_recipes(trials, members, max(1, LIVE - len(members)))
    warm = kind == "warm"
    return Plan(
        kind=kind,
        reason=reason,
        live=(*live, *long_unseen(trials, members | {r.id for r in live})),
        past=tuple(trials),
        challengers=CHALLENGERS if warm else None,
        seconds=warm_seconds(job.problem.sweep.budget) if warm else None,
        costs={p.trial.recipe.id: p.trial.seconds_refit for p in reversed(trials)},
        favour=families_by_success(trials),
        cached=cached,
        shifted=_outlier(facts.losses) > OUTLIER,
    )


def warm_seconds(budget: Span | None) -> float | None:
    """Wall clock of a warm search with this budget; None without a budget, where trials count."""
    if budget is None:
        return None
    return min(WARM_SECONDS + WARM_SHARE * budget.seconds, WARM_MOST * budget.seconds)


def narrowed(work: Work, plan: Plan) -> Work:
    """What the sweep of this plan works on."""
    return replace(work, blocks=work.blocks[:WARM_BLOCKS]) if plan.kind == "warm" else work


def _plan(facts: Facts, requested: str, policy: PolicyChoice) -> tuple[PlanKind, str]:
    if requested != "auto":
        return choose_plan(facts, requested)
    kind, reason = choose_plan(facts, policy.action, policy.reason)
    shown = policy.reason and reason != policy.reason
    return kind, f"{reason}; {policy.reason}" if shown else reason


def choose_plan(facts: Facts, forced: str = "auto", why: str = "requested") -> tuple[PlanKind, str]:
    """The plan and its reason, a pure function of the facts."""
    if facts.champion is None:
        return "full", "there is no champion that could be refit"
    if forced in ("refit", "warm", "full"):
        return forced, why  # type: ignore[return-value]
    searches = [c for c in facts.past if c.kind != "refit"]
    searched = next((i for i, c in enumerate(searches) if c.kind == "full"), None)
    if searched is None:
        return "full", "no full search is remembered"
    last = searches[searched]
    behind = _outlier(facts.losses)
    changes = [
        (last.signature != facts.signature, "families, columns or target have changed"),
        (facts.rows >= GROWN * last.rows, f"rows grew from {last.rows} to {facts.rows}"),
    ]
    on_new_blocks = [
        (
            searched + 1 >= FULL_AFTER,
            f"{searched + 1} searches have passed since the last full one began",
        ),
        (behind > OUTLIER, f"the champion's newest loss is {behind:.1f} deviations above its past"),
        (
            _recency_gain(facts) > RECENCY_GAIN,
            "a recipe that weighs recent rows differently did better on the newest blocks",
        ),
    ]
    for holds, reason in [*changes, *(on_new_blocks if facts.whole_block else ())]:
        if holds:
            return "full", reason
    if not facts.whole_block:
        return "refit", "no whole block of labels is new since the last search"
    since = f"nothing has changed since the full search of {last.as_of:%Y-%m-%d}"
    return "warm", f"a whole block of labels is new, {since}"


def whole_block_since(problem: Problem, searched: datetime, as_of: datetime) -> bool:
    """Whether the newest block at `as_of` has only labels that the search of `searched` did not evaluate on."""
    edges = problem.block_edges(as_of)
    next(edges)
    return next(edges) >= problem.newest_block_end(searched)


def signature(problem: Problem, work: Work) -> str:
    """Digest of what a search depends on, apart from its rows."""
    content = [
        sorted(work.offered),
        dict(sorted(work.contract.features.items())),
        list(work.contract.classes),
        problem.metric.name,
        str(problem.validation.block),
        *([work.columns.digest] if work.columns else []),
        *([problem.history.weight] if problem.history.weight else []),
    ]
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:16]


def shadow_gains(
    work: Work,
    cached: Mapping[tuple[str, int], Params],
    champion: Blend | None,
    trials: Sequence[Past],
) -> list[tuple[Recipe, float]]:
    """Relative gains of other recipes over the best of the champion and its members, on the worse block.

    Only of recipes whose predictions of all of the newest blocks are known before any fit, from models that
    saw none of their rows. The newest block took part in no choice.
    """
    blocks = range(len(work.blocks[:RECENCY_BLOCKS]))

    def losses(blend: Blend) -> list[float]:
        predicted = all((m.recipe.id, b) in cached for m in blend.members for b in blocks)
        return blend_losses(work, blend, len(blocks)) if predicted else []

    members = {m.recipe.id: m.recipe for m in champion.members} if champion else {}
    incumbents = [champion, *map(Blend.single, members.values())] if champion else []
    champion_losses = [found for found in map(losses, incumbents) if found]
    if not champion_losses:
        return []
    best = np.maximum(np.min(champion_losses, axis=0), 1e-12)
    recipes = {p.trial.recipe.id: p.trial.recipe for p in trials}
    shadows = [(r, losses(Blend.single(r))) for i, r in recipes.items() if i not in members]
    return [
        (recipe, float(np.min(1 - np.divide(found, best)))) for recipe, found in shadows if found
    ]


def _recency_gain(facts: Facts) -> float:
    """The largest gain of a shadow whose recency no member of the champion has.

    Trials of a search do not count: the best of many recipes chosen on a block always beats a champion that
    was not chosen on it.
    """
    tried = {_recency(m.recipe) for m in facts.champion.members} if facts.champion else set()
    return max((gain for r, gain in facts.gains if _recency(r) not in tried), default=0.0)


def _recency(recipe: Recipe) -> tuple[float | None, float, bool]:
    return recipe.half_life, recipe.recent, recipe.trend


def _outlier(losses: Sequence[float]) -> float:
    """Robust z-score of the newest loss; 0 if there are too few past losses."""
    if len(losses) <= OUTLIER_BLOCKS:
        return 0.0
    past = np.asarray(losses[1:])
    spread = 1.4826 * float(np.median(np.abs(past - np.median(past))))
    return (losses[0] - float(np.median(past))) / max(spread, 0.01 * float(np.median(past)), 1e-12)


def _published_losses(store: Store, work: Work) -> list[float]:
    """Losses of published predictions whose labels have come, newest first."""
    problem = work.problem
    generations = store.generations(problem.name, limit=2 * MEMORY)
    scores = [g.realised.get(problem.metric.name) for g in generations]
    return [work.metric.loss(x) for x in scores if x is not None and np.isfinite(x)]
