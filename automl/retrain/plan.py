"""How much search a cycle deserves: refit, warm or full; and what earlier cycles hand on to it.

Searching anew each time is waste where little has changed: a warm cycle tries the champion, the best
recipes of the last cycles and a few challengers that start from what was learned. Full cycles come back
when something has changed. Sources of the triggers: robust z-score of the champion's own losses; and the
rule that a schedule, not a drift alarm, bounds how old a search may become.
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
from automl.problem import Problem
from automl.sweep import Past, Plan, PlanKind, Trial, Work, blend_losses

__all__ = [
    "Facts",
    "Finished",
    "choose",
    "favoured",
    "live_set",
    "make_plan",
    "narrowed",
    "remember",
    "revived",
    "shadow_gains",
    "signature",
    "whole_block_since",
]

FULL_AFTER = 8  # searches after which a full one is due; mere refits do not count
GROWN = 1.5  # rows, against those of the last full search
OUTLIER = 3.0  # robust z-score of the champion's newest loss
OUTLIER_BLOCKS = 6  # past losses needed to judge it
RECENCY_GAIN = 0.02  # by which another recency beat the champion on each of the newest blocks
RECENCY_BLOCKS = 2  # that many: on a single one luck alone often gives as much
MEMORY = 10  # searches whose trials are remembered
PAGE = 200  # cycles read at once when searches are looked for
DISCOUNT = 0.85  # per cycle of age
LIVE = 5  # recipes of a warm cycle, the champion's members among them
POOL_MARGIN = (
    0.01  # relative loss behind the best up to which a recipe that was dropped may come back
)
SEARCHED = ("published", "released", "waiting", "kept")  # how a cycle ends that was not broken off
CHALLENGERS = 3  # new points of a warm cycle
WARM_BLOCKS = 2  # newest blocks that a warm cycle looks at; the older ones are in the evidence
WARM_SECONDS, WARM_SHARE = (
    8.0,
    0.08,
)  # wall clock of a warm search: so much, and a share of the budget


@dataclass(frozen=True, slots=True)
class Finished:
    """What an earlier cycle left: its plan, the size of its history, its trials."""

    as_of: datetime
    kind: PlanKind
    rows: int
    signature: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the choice depends on."""

    champion: Blend | None
    past: Sequence[Finished]  # searches, newest first
    rows: int
    signature: str  # of families, columns and target
    whole_block: bool  # whether a whole block of labels came since the last search
    losses: Sequence[float]  # of the champion's published predictions, newest first
    # of shadows, on the worse of the newest blocks, over the best of the champion and its members
    gains: Sequence[tuple[Recipe, float]] = ()


@step("plan")
def make_plan(job: Job, work: Work, known: Mapping[tuple[str, int], Params]) -> Plan:
    """Gather the facts of a cycle and choose; an interrupted cycle keeps its plan.

    `known` are answers that earlier cycles' models gave on this cycle's blocks: (recipe, block).
    """
    past = _finished(job)
    told = job.cycle.receipts.get("plan")
    champion = job.champion
    held = champion.blend if champion and champion.blend.offered(work.families) else None
    remembered = remember(past, work)
    facts = Facts(
        champion=held,
        past=past,
        rows=len(work.frame),
        signature=signature(job.problem, work),
        whole_block=not past or whole_block_since(job.problem, past[0].as_of, job.as_of),
        losses=_published_losses(job, work),
        gains=shadow_gains(work, known, held, remembered),
    )
    kind, reason = (told["kind"], told["reason"]) if told else choose(facts, job.options.plan)
    job.store.note(
        job.cycle,
        plan={"kind": kind, "reason": reason, "rows": facts.rows, "signature": facts.signature},
    )
    members = {m.recipe.id for m in held.members} if held else set()
    live = live_set(remembered, members, max(1, LIVE - len(members)))
    return Plan(
        kind,
        reason,
        live=(*live, *revived(remembered, members | {r.id for r in live})),
        past=tuple(remembered),
        challengers=CHALLENGERS if kind == "warm" else None,
        seconds=_warm_seconds(job.problem) if kind == "warm" else None,
        costs={p.trial.recipe.id: p.trial.seconds_refit for p in reversed(remembered)},
        favour=favoured(remembered),
        known=known,
        shifted=_outlier(facts.losses) > OUTLIER,
    )


def narrowed(work: Work, plan: Plan) -> Work:
    """What the sweep of this plan works on."""
    return replace(work, blocks=work.blocks[:WARM_BLOCKS]) if plan.kind == "warm" else work


def _warm_seconds(problem: Problem) -> float | None:
    budget = problem.sweep.budget
    return WARM_SECONDS + WARM_SHARE * budget.seconds if budget else None


def choose(facts: Facts, forced: str = "auto") -> tuple[PlanKind, str]:
    """The plan and its reason, a pure function of the facts."""
    if facts.champion is None:
        return "full", "there is no champion that could be refit"
    if forced in ("refit", "warm", "full"):
        return forced, "asked for"  # type: ignore[return-value]
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
            "following the newest rows otherwise did better on the newest blocks",
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
    """Whether the newest block at `as_of` holds only labels that the search of `searched` did not judge on."""
    edges = problem.block_edges(as_of)
    next(edges)
    return next(edges) >= problem.newest_block_end(searched)


def signature(problem: Problem, work: Work) -> str:
    """Digest of what a search depends on beside its rows."""
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


def remember(past: Sequence[Finished], work: Work) -> list[Past]:
    """Complete trials of the last cycles, newest first, each relative to the best of its cycle."""
    told: list[Past] = []
    for age, cycle in enumerate(past[:MEMORY], start=1):
        complete = [
            t for t in cycle.trials if t.status == "complete" and t.recipe.family in work.offered
        ]
        best = min((t.loss for t in complete), default=0.0)
        if best > 0 and np.isfinite(best):
            told += [Past(t, t.loss / best, age) for t in complete]
    return told


def live_set(remembered: Sequence[Past], held: set[str], count: int) -> tuple[Recipe, ...]:
    """The recipes that did best over the last cycles, discounted by age; from two families if possible."""
    scores: dict[str, list[tuple[float, float]]] = {}
    recipes: dict[str, Recipe] = {}
    for p in remembered:
        if p.trial.recipe.id in held or p.trial.recipe.family == "baseline":
            continue
        recipes.setdefault(p.trial.recipe.id, p.trial.recipe)
        scores.setdefault(p.trial.recipe.id, []).append((p.relative, DISCOUNT**p.age))
    # few looks are pulled towards the middle: a lucky one must not lead
    ranked = sorted(recipes, key=lambda i: (_shrunk(scores[i]), i))
    chosen = ranked[:count]
    families = {recipes[i].family for i in chosen}
    other = next((i for i in ranked if recipes[i].family not in families), None)
    if len(families) == 1 and other and count > 1:
        chosen[-1] = other
    return tuple(recipes[i] for i in chosen)


def revived(remembered: Sequence[Past], taken: set[str]) -> tuple[Recipe, ...]:
    """One more recipe that was close to the best and has not been looked at for longest, if there is one."""
    newest: dict[str, Past] = {}
    for p in remembered:  # newest first
        newest.setdefault(p.trial.recipe.id, p)
    close = [
        p
        for name, p in newest.items()
        if name not in taken and p.age > 1 and p.relative <= 1 + POOL_MARGIN
    ]
    return tuple(p.trial.recipe for p in sorted(close, key=lambda p: (-p.age, p.relative))[:1])


def favoured(remembered: Sequence[Past]) -> tuple[str, ...]:
    """Families by how close their best came to the best of each cycle, discounted by age."""
    best: dict[str, dict[int, float]] = {}
    for p in remembered:
        cycles = best.setdefault(p.trial.recipe.family, {})
        cycles[p.age] = min(cycles.get(p.age, np.inf), p.relative)
    looks = {f: [(r, DISCOUNT**age) for age, r in c.items()] for f, c in best.items()}
    return tuple(sorted(looks, key=lambda f: (_shrunk(looks[f]), f)))


def _shrunk(looks: Sequence[tuple[float, float]]) -> float:
    weight = sum(w for _, w in looks)
    middle = 1.03  # where a recipe stands of which nothing is known
    return (sum(r * w for r, w in looks) + 0.3 * middle) / (weight + 0.3)


def _outlier(losses: Sequence[float]) -> float:
    if len(losses) <= OUTLIER_BLOCKS:
        return 0.0
    past = np.asarray(losses[1:])
    spread = 1.4826 * float(np.median(np.abs(past - np.median(past))))
    return (losses[0] - float(np.median(past))) / max(spread, 0.01 * float(np.median(past)), 1e-12)


def _recency_gain(facts: Facts) -> float:
    """The largest gain of a shadow whose recency no member of the champion has.

    What a search tried says nothing here: the best of many recipes chosen on a block always beats
    a champion that was not.
    """
    tried = {_recency(m.recipe) for m in facts.champion.members} if facts.champion else set()
    return max((gain for r, gain in facts.gains if _recency(r) not in tried), default=0.0)


def _recency(recipe: Recipe) -> tuple[float | None, float, bool]:
    return recipe.half_life, recipe.recent, recipe.trend


def shadow_gains(
    work: Work,
    known: Mapping[tuple[str, int], Params],
    held: Blend | None,
    remembered: Sequence[Past],
) -> list[tuple[Recipe, float]]:
    """Relative gains of recipes that the champion lacks over the best of it and its members, on the worse block.

    Only of recipes whose answers on all of the newest blocks are known before any fit, from models that
    saw none of their rows. The newest block took part in no choice.
    """
    blocks = range(len(work.blocks[:RECENCY_BLOCKS]))

    def losses(blend: Blend) -> list[float]:
        answered = all((m.recipe.id, b) in known for m in blend.members for b in blocks)
        return blend_losses(work, blend, len(blocks)) if answered else []

    members = {m.recipe.id: m.recipe for m in held.members} if held else {}
    champions = [held, *map(Blend.single, members.values())] if held else []
    mine = [its for its in map(losses, champions) if its]
    if not mine:
        return []
    best = np.maximum(np.min(mine, axis=0), 1e-12)
    shadows = {p.trial.recipe.id: p.trial.recipe for p in remembered}
    told = [(r, losses(Blend.single(r))) for i, r in shadows.items() if i not in members]
    return [(recipe, float(np.min(1 - np.divide(its, best)))) for recipe, its in told if its]


def _finished(job: Job) -> list[Finished]:
    """Earlier retrain cycles that searched and ended well, newest first."""
    found: list[Finished] = []
    before = job.as_of
    while len(found) < MEMORY:
        cycles = job.store.cycles(job.problem.name, limit=PAGE, verb="retrain", before=before)
        found += [
            Finished(
                cycle.as_of,
                cycle.receipts["plan"]["kind"],
                int(cycle.receipts["plan"]["rows"]),
                str(cycle.receipts["plan"]["signature"]),
                tuple(Trial.from_json(c) for c in job.store.trials(cycle)),
            )
            for cycle in cycles
            if cycle.status in SEARCHED
            and (cycle.receipts.get("plan") or {}).get("kind") in ("warm", "full")
        ]
        if len(cycles) < PAGE:
            break
        before = cycles[-1].as_of
    return found[:MEMORY]


def _published_losses(job: Job, work: Work) -> list[float]:
    """Losses of published predictions whose labels have come, newest first; no fit is needed for them."""
    name = job.problem.metric.name
    scored = [
        g.realised.get(name) for g in job.store.generations(job.problem.name, limit=2 * MEMORY)
    ]
    return [work.metric.loss(x) for x in scored if x is not None and np.isfinite(x)]
