"""How the decision does over thirty cycles of made-up rivals: luck, skill and what both cost.

Ten recipes, one of them the champion; a recipe's loss on a block is its own level plus noise, and two
recipes' difference has a standard deviation of 1.4 % of the loss per block (paired). Evidence arises as in a
real cycle: the sweep looks at the newest blocks, the best of it challenges, who is not promoted waits as
a shadow and meets the next block as one that had no part in choosing it. No model is fitted.

Jumps: a shadow equals the champion for eight blocks and then is 5 or 20 % better for good, where a block's
gain varies by 1.4, 5, 10 or 15 %; eight other recipes are up to some percent worse. Counted are the cycles from
the change to the promotion.

    python -m benchmarks.decisions [--small] [--json] [--runs N] [--keep]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.modeling.ensemble import block_weights
from automl.modeling.losses import BlockLoss, kind_of
from automl.modeling.recipes import Blend, Recipe
from automl.problem import Problem as Declared
from automl.promotion.decide import (
    PROBATION_CYCLES,
    REVERTED_CONFIDENCE,
    REVERTED_CYCLES,
    YOUNG_CONFIDENCE,
    YOUNG_CYCLES,
    Decision,
    decide,
    probation,
)
from automl.promotion.evidence import duels
from automl.promotion.release import MOST_SHADOWS
from automl.retrain.memory import PastSearch
from automl.retrain.plan import FULL_AFTER, WARM_BLOCKS, Facts, choose_plan, whole_block_since
from benchmarks.provenance import provenance

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "decisions.json"
FIRST = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = timedelta(weeks=1)
CYCLES, RECIPES, ORIGINS = 30, 10, 3
NOISE = 0.014  # paired block standard deviation of relative losses
APART = 0.005  # standard deviation of recipes' true levels, where they differ
KEEPS = 0.95  # of its level from cycle to cycle, under slow drift
CONFIDENCE = 0.8
ARRIVES = 5  # cycle in which the better rival is first tried
JUMPS = (0.05, 0.2)
JUMP_NOISES = {
    1: 0.014,
    5: 0.05,
    10: 0.1,
    15: 0.15,
}  # percent in a figure's name: paired block deviation
JUMP_AT, JUMP_CYCLES = 8, 40  # block of the change, and how many cycles are looked at
NEVER = JUMP_CYCLES - JUMP_AT + 1  # what a rival counts as that was not promoted by then
BEHIND = 0.03  # standard deviation of how far the other recipes are behind
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """True advantages and losses per block and recipe, shapes (n_blocks, n_recipes)."""

    advantage: Array
    losses: Array
    arrives: Array  # first cycle in which a recipe can be tried, shape (n_recipes,)


@dataclass(slots=True)
class Problem:
    """What a problem's store knows between two cycles."""

    champion: int
    until: datetime  # end of the labels that chose the champion
    shadows: dict[int, datetime] = field(default_factory=dict)
    past: list[BlockLoss] = field(default_factory=list)
    previous_champion: tuple[int, datetime, int] | None = (
        None  # recipe, labels that chose it, since cycle
    )
    reverted: dict[int, int] = field(default_factory=dict)  # recipe -> cycle
    promotions: int = 0
    reverts: int = 0


def main() -> None:
    """Simulate every world, print the table or the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--small", action="store_true", help="40 runs a world")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=400, help="of a world")
    parser.add_argument(
        "--keep", action="store_true", help="write benchmarks/results/decisions.json"
    )
    asked = parser.parse_args()
    document = _document(40 if asked.small else asked.runs)
    if asked.keep:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(document) + "\n" if asked.json else _table(document))


# ---------------------------------------------------------------- worlds


def world(
    seed: int, levels: Array, *, keeps: float = 1.0, noise: float = NOISE, arrives: int = 0
) -> World:
    """A world of so many recipes; the last of them can be tried from cycle `arrives` on."""
    random = np.random.default_rng(seed)
    blocks = CYCLES + ORIGINS
    advantage = np.empty((blocks, len(levels)))
    advantage[0] = levels
    for b in range(1, blocks):
        moved = random.normal(0, APART * sqrt(1 - keeps**2), len(levels))
        advantage[b] = keeps * advantage[b - 1] + moved
    luck = random.normal(0, noise / sqrt(2), advantage.shape)
    since = np.zeros(len(levels))
    since[-1] = arrives
    return World(advantage, 0.3 * (1 - advantage + luck), since)


# ---------------------------------------------------------------- a cycle, as the real one makes it


def live(
    place: World, first: int | None = None, *, beside: bool = True
) -> tuple[list[int], Problem]:
    """The champion after each cycle. Without `first` it is the best of the first cycle.

    With `beside` the decision is told what else was tried.
    """
    start = _best(place, 0) if first is None else first
    problem = Problem(start, _mature(0))
    history = []
    for cycle in range(CYCLES):
        _cycle(place, problem, cycle, beside=beside)
        history.append(problem.champion)
    return history, problem


def _cycle(place: World, problem: Problem, cycle: int, *, beside: bool) -> None:
    mature = _mature(cycle)
    if problem.previous_champion and cycle > problem.previous_champion[2] + PROBATION_CYCLES:
        problem.previous_champion = None
    known = {i: until for i, until in problem.shadows.items() if until < mature}
    best = _best(place, cycle)
    if best != problem.champion:
        known.setdefault(best, mature)
    watched = (
        {problem.previous_champion[0]: problem.previous_champion[1]}
        if problem.previous_champion
        else {}
    )
    judged = {**watched, **known, problem.champion: problem.until}
    losses = [x for i, until in judged.items() for x in _losses(place, cycle, i, until)]
    tried = [i for i in _pool(place, cycle) if i not in judged]
    rest = [x for i in tried for x in _losses(place, cycle, i, mature)]
    evidence = [*problem.past, *losses]
    problem.past = evidence
    if _reverts(problem, evidence, cycle):
        return
    every = duels([*evidence, *rest], str(problem.champion))
    decision = decide(
        [d for d in every if int(d.challenger) in known],
        str(problem.champion),
        min(CONFIDENCE, YOUNG_CONFIDENCE) if cycle < YOUNG_CYCLES else CONFIDENCE,
        {},
        least={
            str(i): REVERTED_CONFIDENCE
            for i, since in problem.reverted.items()
            if cycle <= since + REVERTED_CYCLES
        },
        others=[d for d in every if beside and int(d.challenger) not in known],
    )
    _release(problem, decision, known, cycle)


def _reverts(problem: Problem, evidence: Sequence[BlockLoss], cycle: int) -> bool:
    if problem.previous_champion is None:
        return False
    old, until, since = problem.previous_champion
    told = probation(evidence, str(problem.champion), str(old), _mature(since))
    if told.outcome != "revert":
        return False
    problem.reverted[problem.champion] = cycle
    problem.champion, problem.until, problem.previous_champion = old, until, None
    problem.shadows = {}
    problem.reverts += 1
    return True


def _release(problem: Problem, decision: Decision, known: dict[int, datetime], cycle: int) -> None:
    ranked = sorted(decision.verdicts, key=lambda v: -v.shrunk)
    waiting = [v.challenger for v in ranked if v.challenger != decision.blend and v.shrunk > 0]
    problem.shadows = {int(name): known[int(name)] for name in waiting[:MOST_SHADOWS]}
    if decision.outcome == "promote":
        problem.previous_champion = (problem.champion, problem.until, cycle)
        problem.champion = int(decision.blend)
        problem.until = known[problem.champion]
        problem.promotions += 1


def _losses(place: World, cycle: int, recipe: int, until: datetime) -> list[BlockLoss]:
    starts = {b: FIRST + b * WEEK for b in _window(cycle)}
    return [
        BlockLoss(
            cycle=_mature(cycle),
            blend=str(recipe),
            start=start,
            end=start + WEEK,
            rows=1000,
            loss=float(place.losses[b, recipe]),
            baseline_loss=1.0,
            kind=kind_of(until, start),
        )
        for b, start in starts.items()
    ]


def _window(cycle: int) -> list[int]:
    """The blocks of a cycle, newest first; a warm one looks at fewer."""
    newest = cycle + ORIGINS - 1
    return [newest - i for i in range(ORIGINS if cycle % FULL_AFTER == 0 else WARM_BLOCKS)]


def _mature(cycle: int) -> datetime:
    """End of the labels of a cycle."""
    return FIRST + (cycle + ORIGINS) * WEEK


def _pool(place: World, cycle: int) -> list[int]:
    return [int(i) for i in np.flatnonzero(place.arrives <= cycle)]


def _best(place: World, cycle: int) -> int:
    """The recipe that a sweep of this cycle likes best."""
    window = _window(cycle)
    pool = _pool(place, cycle)
    means = block_weights(len(window)) @ place.losses[window][:, pool]
    return pool[int(np.argmin(means))]


# ---------------------------------------------------------------- other rules, for comparison


def _best_of_cycle(place: World) -> list[int]:
    return [_best(place, cycle) for cycle in range(CYCLES)]


def _never(place: World) -> list[int]:
    return [_best(place, 0)] * CYCLES


def _ours(place: World) -> list[int]:
    return live(place)[0]


def _regret(place: World, champions: Sequence[int]) -> float:
    """Mean relative loss above the best recipe's, on the block after each cycle, in percent."""
    after = place.advantage[ORIGINS:]
    return 100 * float(np.mean(after.max(axis=1) - after[np.arange(CYCLES), list(champions)]))


# ---------------------------------------------------------------- what is told


def _document(runs: int) -> dict[str, Any]:
    started = time.monotonic()
    null = [live(world(seed, np.zeros(RECIPES)), 0)[1] for seed in range(runs)]
    ties = [live(world(seed, np.zeros(RECIPES), noise=0.0), 0)[1] for seed in range(3)]
    blind = [live(world(s, np.zeros(RECIPES)), 0, beside=False)[1] for s in range(runs)]
    adopted = {size: _adopted(size, runs) for size in (2.0, 1.0, 0.5)}
    worlds = {name: _regrets(keeps, runs) for name, keeps in (("static", 1.0), ("drift", KEEPS))}

    def regret(rule: str) -> float:
        return round(float(np.mean([told[rule] for told in worlds.values()])), 4)

    promotions = [p.promotions for p in null]
    jumps = {(100 * j, n): jump(j, sd, runs) for j in JUMPS for n, sd in JUMP_NOISES.items()}
    return {
        **provenance("decisions"),
        "runs": runs,
        "figures": {
            "null_promotions_per_30": round(float(np.mean(promotions)), 3),
            "adopted_within_3": adopted[2.0]["within_3"],
            "adopted_within_3_at_1": adopted[1.0]["within_3"],
            "adopted_within_3_at_0_5": adopted[0.5]["within_3"],
            "regret": regret("ours"),
            "regret_best_of_cycle": regret("best_of_cycle"),
            "regret_never": regret("never"),
            **{f"jump{j:.0f}_median_cycles_noise{n}": x["median"] for (j, n), x in jumps.items()},
            "warm_share_daily": round(searched_weeks("7d", 60), 3),
        },
        "null": {
            "at_most_2": round(float(np.mean([n <= 2 for n in promotions])), 4),
            "most": max(promotions),
            "reverts": round(float(np.mean([p.reverts for p in null])), 3),
            "promotions_of_ties": sum(p.promotions for p in ties),
        },
        "told_of_challengers_alone": {
            "null_promotions_per_30": round(float(np.mean([p.promotions for p in blind])), 3),
            "adopted_within_3": _adopted(2.0, runs, beside=False)["within_3"],
        },
        "jumps": {f"{j:.0f} % at {n} %": x for (j, n), x in jumps.items()},
        "adopted": {str(size): told for size, told in adopted.items()},
        "worlds": worlds,
        "seconds": round(time.monotonic() - started, 1),
    }


def searched_weeks(block: str, days: int) -> float:
    """Share of the weeks of so many daily cycles in which one of them searches, warm or in full."""
    declared = Declared.model_validate(
        {
            "file": ROOT / "problem.toml",
            "name": "daily",
            "task": "regression",
            "history": {"files": "rows.parquet", "time": "at", "target": "y", "label_delay": "1d"},
            "metric": {"name": "rmse"},
            "sweep": {"trials": 1},
            "validation": {"block": block},
        }
    )
    champion = Blend.single(Recipe("linear", {}))
    past: list[PastSearch] = []  # searches, newest first, as the cycle gathers them
    weeks = set()
    for day in range(days):
        as_of = FIRST + timedelta(days=day)
        whole = not past or whole_block_since(declared, past[0].as_of, as_of)
        facts = Facts(
            champion=champion if past else None,
            past=past,
            rows=1000,
            signature="same",
            whole_block=whole,
            losses=(),
        )
        kind, _ = choose_plan(facts)
        if kind != "refit":
            past.insert(
                0, PastSearch(as_of=as_of, kind=kind, rows=1000, signature="same", trials=())
            )
            weeks.add(day // 7)
    return len(weeks) / -(-days // 7)


def _adopted(size: float, runs: int, *, beside: bool = True) -> dict[str, float]:
    """Share of runs in which a rival better by so many block deviations is champion by then."""
    levels = np.zeros(RECIPES)
    levels[-1] = size * NOISE
    places = [world(10_000 + s, levels, arrives=ARRIVES) for s in range(runs)]
    histories = [live(place, 0, beside=beside)[0] for place in places]
    told = {
        f"within_{n}": np.mean([h[ARRIVES + n - 1] == RECIPES - 1 for h in histories])
        for n in (1, 2, 3, 5, 10)
    }
    told["in_the_end"] = np.mean([h[-1] == RECIPES - 1 for h in histories])
    return {name: round(float(share), 4) for name, share in told.items()}


def jump(size: float, noise: float, runs: int) -> dict[str, float]:
    """Cycles until a shadow that becomes better by `size` is champion, over runs that wait for the change."""
    adopted = [adoption(30_000 + seed, size, noise) for seed in range(runs)]
    cycles = [NEVER if x is None else x - JUMP_AT + 1 for x in adopted if x is None or x >= JUMP_AT]
    return {
        "median": float(np.median(cycles)) if cycles else 0.0,
        "p90": round(float(np.percentile(cycles, 90)), 1) if cycles else 0.0,
        "never": round(float(np.mean([c == NEVER for c in cycles])), 4) if cycles else 0.0,
        "promoted_before": round(1 - len(cycles) / runs, 4),
    }


def adoption(seed: int, size: float, noise: float) -> int | None:
    """The cycle that promotes the shadow; None if none does."""
    losses = _jump_losses(seed, size, noise)
    past: list[BlockLoss] = []
    for cycle in range(1, JUMP_CYCLES):
        now = [x for b in (cycle, cycle - 1) for x in _block(losses[b], b, cycle)]
        every = duels([*past, *now], "0")
        rival = [d for d in every if d.challenger == "1"]
        others = [d for d in every if d.challenger != "1"]
        if decide(rival, "0", CONFIDENCE, {}, others=others).outcome == "promote":
            return cycle
        past += [x for x in now if x.kind == "out_of_sample"]
    return None


def _jump_losses(seed: int, size: float, noise: float) -> Array:
    """Losses of champion, shadow and other recipes, shape (n_blocks, n_recipes)."""
    random = np.random.default_rng(seed)
    advantage = np.zeros((JUMP_CYCLES, RECIPES))
    advantage[JUMP_AT:, 1] = size
    advantage[:, 2:] = -np.abs(random.normal(0, BEHIND, RECIPES - 2))
    return 0.3 * (1 - advantage) * (1 + random.normal(0, noise / sqrt(2), advantage.shape))


def _block(losses: Array, block: int, cycle: int) -> list[BlockLoss]:
    """A block in a cycle: champion and shadow are older than it, the other recipes were chosen by it."""
    start, as_of = FIRST + block * WEEK, FIRST + (cycle + 1) * WEEK
    return [
        BlockLoss(
            cycle=as_of,
            blend=str(i),
            start=start,
            end=start + WEEK,
            rows=1000,
            loss=float(x),
            baseline_loss=1.0,
            kind="out_of_sample" if i < 2 else "in_sample",
        )
        for i, x in enumerate(losses)
    ]


def _regrets(keeps: float, runs: int) -> dict[str, float]:
    rules: dict[str, Callable[[World], list[int]]] = {
        "ours": _ours,
        "best_of_cycle": _best_of_cycle,
        "never": _never,
    }
    told: dict[str, list[float]] = {name: [] for name in rules}
    switched: list[int] = []
    worse: list[float] = []
    for seed in range(runs):
        levels = np.random.default_rng(50_000 + seed).normal(0, APART, RECIPES)
        place = world(20_000 + seed, levels, keeps=keeps)
        for name, rule in rules.items():
            champions = rule(place)
            told[name].append(_regret(place, champions))
            if name == "ours":
                pairs = zip([champions[0], *champions], champions, strict=False)
                switched.append(sum(a != b for a, b in pairs))
                after = place.advantage[ORIGINS:]
                rows = np.arange(CYCLES)
                worse.append(float(np.mean(after[rows, champions] < after[rows, champions[0]])))
    return {
        **{name: round(float(np.mean(values)), 4) for name, values in told.items()},
        "standard_error": round(float(np.std(told["ours"]) / sqrt(runs)), 4),
        "switches": round(float(np.mean(switched)), 3),
        "worse_than_never": round(float(np.mean(worse)), 4),
    }


def _table(document: dict[str, Any]) -> str:
    lines = [f"{document['runs']} runs of {CYCLES} cycles in {document['seconds']:.0f} s", ""]
    lines += [f"{name:30}{value:>8}" for name, value in document["figures"].items()]
    for name, told in {
        "null": document["null"],
        **document["worlds"],
        **document["adopted"],
        **document["jumps"],
    }.items():
        lines.append(f"{name:14}" + "  ".join(f"{k} {v}" for k, v in told.items()))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
