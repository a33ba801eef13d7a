"""How the decision does over thirty cycles of made-up rivals: luck, skill and what both cost.

Ten recipes, one of them the champion; a recipe's loss on a block is its own level plus noise, and two
recipes' difference has a standard deviation of 1.4 % of the loss per block (paired). Evidence arises as in a
real cycle: the sweep looks at the newest blocks, the best of it challenges, and a challenger that is not
promoted becomes a shadow, which the next block scores out-of-sample. No model is fitted.

Jumps: a shadow equals the champion for eight blocks and then is 5 or 20 % better for good, where a block's
gain varies by 1.4, 5, 10 or 15 %; eight other recipes are up to some percent worse. The figure is the number of cycles
from the change to the promotion.

    python -m benchmarks.decisions [--small] [--json] [--runs N] [--keep]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from automl.modeling.losses import BlockLoss
from automl.modeling.recipes import Blend, Recipe
from automl.problem import Problem
from automl.promotion.decide import decide
from automl.promotion.evidence import duels
from automl.retrain.memory import PastSearch
from automl.retrain.plan import Facts, choose_plan, whole_block_since
from benchmarks.provenance import provenance
from benchmarks.simulated import (
    APART,
    CONFIDENCE,
    CYCLES,
    FIRST,
    NOISE,
    ORIGINS,
    RECIPES,
    WEEK,
    Array,
    World,
    best_recipe,
    live,
    world,
)

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "decisions.json"
KEEPS = 0.95  # of its level from cycle to cycle, under slow drift
ARRIVES = 5  # cycle in which the better rival is first tried
JUMPS = (0.05, 0.2)
# percent in a figure's name: paired block deviation
JUMP_NOISES = {1: 0.014, 5: 0.05, 10: 0.1, 15: 0.15}
JUMP_AT, JUMP_CYCLES = 8, 40  # block of the change, and how many cycles are looked at
NEVER = JUMP_CYCLES - JUMP_AT + 1  # counted for a rival that was not promoted by then
BEHIND = 0.03  # standard deviation of how far the other recipes are behind


def main() -> None:
    """Simulate every world, print the table or the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--small", action="store_true", help="40 runs a world")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=400, help="of a world")
    parser.add_argument(
        "--keep", action="store_true", help="write benchmarks/results/decisions.json"
    )
    args = parser.parse_args()
    document = _document(40 if args.small else args.runs)
    if args.keep:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(document) + "\n" if args.json else _table(document))


# ---------------------------------------------------------------- other rules, for comparison


def _best_of_cycle(place: World) -> list[int]:
    return [best_recipe(place, cycle) for cycle in range(CYCLES)]


def _never(place: World) -> list[int]:
    return [best_recipe(place, 0)] * CYCLES


def _ours(place: World) -> list[int]:
    return live(place)[0]


def _regret(place: World, champions: Sequence[int]) -> float:
    """Mean relative loss above the best recipe's, on the block after each cycle, in percent."""
    after = place.advantage[ORIGINS:]
    return 100 * float(np.mean(after.max(axis=1) - after[np.arange(CYCLES), list(champions)]))


# ---------------------------------------------------------------- the document


def _document(runs: int) -> dict[str, Any]:
    started = time.monotonic()
    null = [live(world(seed, np.zeros(RECIPES)), 0)[1] for seed in range(runs)]
    ties = [live(world(seed, np.zeros(RECIPES), noise=0.0), 0)[1] for seed in range(3)]
    alone = [live(world(s, np.zeros(RECIPES)), 0, others=False)[1] for s in range(runs)]
    adopted = {size: _adopted(size, runs) for size in (2.0, 1.0, 0.5)}
    worlds = {name: _regrets(keeps, runs) for name, keeps in (("static", 1.0), ("drift", KEEPS))}

    def regret(rule: str) -> float:
        return round(float(np.mean([regrets[rule] for regrets in worlds.values()])), 4)

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
        "challengers_alone": {
            "null_promotions_per_30": round(float(np.mean([p.promotions for p in alone])), 3),
            "adopted_within_3": _adopted(2.0, runs, others=False)["within_3"],
        },
        "jumps": {f"{j:.0f} % at {n} %": x for (j, n), x in jumps.items()},
        "adopted": {str(size): shares for size, shares in adopted.items()},
        "worlds": worlds,
        "seconds": round(time.monotonic() - started, 1),
    }


def searched_weeks(block: str, days: int) -> float:
    """Share of the weeks of so many daily cycles in which one of them searches, warm or in full."""
    problem = Problem.model_validate(
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
        whole = not past or whole_block_since(problem, past[0].as_of, as_of)
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


def _adopted(size: float, runs: int, *, others: bool = True) -> dict[str, float]:
    """Share of runs in which a rival better by so many block deviations is champion by then."""
    levels = np.zeros(RECIPES)
    levels[-1] = size * NOISE
    places = [world(10_000 + s, levels, arrives=ARRIVES) for s in range(runs)]
    histories = [live(place, 0, others=others)[0] for place in places]
    shares = {
        f"within_{n}": np.mean([h[ARRIVES + n - 1] == RECIPES - 1 for h in histories])
        for n in (1, 2, 3, 5, 10)
    }
    shares["in_the_end"] = np.mean([h[-1] == RECIPES - 1 for h in histories])
    return {name: round(float(share), 4) for name, share in shares.items()}


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
    regrets: dict[str, list[float]] = {name: [] for name in rules}
    switched: list[int] = []
    worse: list[float] = []
    for seed in range(runs):
        levels = np.random.default_rng(50_000 + seed).normal(0, APART, RECIPES)
        place = world(20_000 + seed, levels, keeps=keeps)
        for name, rule in rules.items():
            champions = rule(place)
            regrets[name].append(_regret(place, champions))
            if name == "ours":
                pairs = zip([champions[0], *champions], champions, strict=False)
                switched.append(sum(a != b for a, b in pairs))
                after = place.advantage[ORIGINS:]
                rows = np.arange(CYCLES)
                worse.append(float(np.mean(after[rows, champions] < after[rows, champions[0]])))
    return {
        **{name: round(float(np.mean(values)), 4) for name, values in regrets.items()},
        "standard_error": round(float(np.std(regrets["ours"]) / sqrt(runs)), 4),
        "switches": round(float(np.mean(switched)), 3),
        "worse_than_never": round(float(np.mean(worse)), 4),
    }


def _table(document: dict[str, Any]) -> str:
    lines = [f"{document['runs']} runs of {CYCLES} cycles in {document['seconds']:.0f} s", ""]
    lines += [f"{name:30}{value:>8}" for name, value in document["figures"].items()]
    for name, values in {
        "null": document["null"],
        **document["worlds"],
        **document["adopted"],
        **document["jumps"],
    }.items():
        lines.append(f"{name:14}" + "  ".join(f"{k} {v}" for k, v in values.items()))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
