"""What earlier searches teach the next: their trials, relative to the best of each, discounted by age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from automl.modeling.losses import DISCOUNT
from automl.modeling.recipes import Recipe
from automl.store import Store
from automl.sweep import Past, PlanKind, Trial, Work

__all__ = [
    "MEMORY",
    "PastSearch",
    "families_by_success",
    "live_recipes",
    "long_unseen",
    "past_searches",
    "past_trials",
]

MEMORY = 10  # searches whose trials are remembered
PAGE = 200  # cycles read at once while searches are looked for
UNKNOWN, UNKNOWN_WEIGHT = 1.03, 0.3  # relative loss assumed of a recipe without looks; weight of it
# relative loss behind the best up to which a dropped recipe may come back
POOL_MARGIN = 0.01
SEARCHED = ("published", "released", "waiting", "kept")  # status of a cycle that was not broken off


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSearch:
    """What the search of an earlier cycle left: its plan, the size of its history, its trials."""

    as_of: datetime
    kind: PlanKind
    rows: int
    signature: str
    trials: tuple[Trial, ...]


def past_searches(store: Store, problem: str, as_of: datetime) -> list[PastSearch]:
    """Earlier retrain cycles that searched and succeeded, newest first."""
    found: list[PastSearch] = []
    before = as_of
    while len(found) < MEMORY:
        cycles = store.cycles(problem, limit=PAGE, verb="retrain", before=before)
        plans = [(c, c.receipts.get("plan") or {}) for c in cycles if c.status in SEARCHED]
        found += [
            PastSearch(
                as_of=cycle.as_of,
                kind=plan["kind"],
                rows=int(plan["rows"]),
                signature=str(plan["signature"]),
                trials=tuple(Trial.from_json(c) for c in store.trials(cycle)),
            )
            for cycle, plan in plans
            if plan.get("kind") in ("warm", "full")
        ]
        if len(cycles) < PAGE:
            break
        before = cycles[-1].as_of
    return found[:MEMORY]


def past_trials(searches: Sequence[PastSearch], work: Work) -> list[Past]:
    """Complete trials of the last searches, newest first, each relative to the best of its search."""
    trials: list[Past] = []
    for age, search in enumerate(searches[:MEMORY], start=1):
        complete = [
            t for t in search.trials if t.status == "complete" and t.recipe.family in work.offered
        ]
        best = min((t.loss for t in complete), default=0.0)
        if best > 0 and np.isfinite(best):
            trials += [Past(t, t.loss / best, age) for t in complete]
    return trials


def live_recipes(trials: Sequence[Past], without: set[str], count: int) -> tuple[Recipe, ...]:
    """The recipes that did best over the last cycles, discounted by age; from two families if possible."""
    looks: dict[str, list[tuple[float, float]]] = {}
    recipes: dict[str, Recipe] = {}
    for p in trials:
        recipe = p.trial.recipe
        if recipe.id in without or recipe.family == "baseline":
            continue
        recipes.setdefault(recipe.id, recipe)
        looks.setdefault(recipe.id, []).append((p.relative, DISCOUNT**p.age))
    ranked = sorted(recipes, key=lambda i: (_shrunk(looks[i]), i))
    chosen = ranked[:count]
    families = {recipes[i].family for i in chosen}
    other = next((i for i in ranked if recipes[i].family not in families), None)
    if len(families) == 1 and other and count > 1:
        chosen[-1] = other
    return tuple(recipes[i] for i in chosen)


def long_unseen(trials: Sequence[Past], without: set[str]) -> tuple[Recipe, ...]:
    """The recipe close to the best that has not been evaluated for longest, if there is one."""
    newest: dict[str, Past] = {}
    for p in trials:  # newest first
        newest.setdefault(p.trial.recipe.id, p)
    close = [
        p
        for name, p in newest.items()
        if name not in without and p.age > 1 and p.relative <= 1 + POOL_MARGIN
    ]
    return tuple(p.trial.recipe for p in sorted(close, key=lambda p: (-p.age, p.relative))[:1])


def families_by_success(trials: Sequence[Past]) -> tuple[str, ...]:
    """Families by how close their best came to the best of each cycle, discounted by age."""
    best: dict[str, dict[int, float]] = {}
    for p in trials:
        cycles = best.setdefault(p.trial.recipe.family, {})
        cycles[p.age] = min(cycles.get(p.age, np.inf), p.relative)
    looks = {f: [(r, DISCOUNT**age) for age, r in c.items()] for f, c in best.items()}
    return tuple(sorted(looks, key=lambda f: (_shrunk(looks[f]), f)))


def _shrunk(looks: Sequence[tuple[float, float]]) -> float:
    """Mean relative loss, shrunk towards that of an unknown recipe: one lucky look must not lead."""
    weight = sum(w for _, w in looks)
    return (sum(r * w for r, w in looks) + UNKNOWN_WEIGHT * UNKNOWN) / (weight + UNKNOWN_WEIGHT)
