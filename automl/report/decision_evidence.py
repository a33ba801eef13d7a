"""The evidence of one decision, block by block, as the decision read it: raw gains, the shrunk gain, what was needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from automl.modeling.losses import DISCOUNT, BlockLoss
from automl.problem import Problem
from automl.promotion.evidence import Duel, duels
from automl.promotion.noise import Noise, block_noise, block_weights
from automl.store import Cycle, Store
from automl.workspace import day_of

__all__ = ["evidence_of_decision"]

Z90 = 1.6449  # standard deviations to either end of a 90 % interval
SHOWN_BLOCKS = 14


def evidence_of_decision(
    store: Store, problem: Problem, cycle: Cycle, why: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The verdict on the best challenger with its gain on every block; None where no challenger was compared."""
    verdict = _chosen(why.get("verdicts") or (), why.get("outcome"))
    holder = (why.get("rule") or {}).get("holder")
    if verdict is None or holder is None:
        return None
    every = duels(_losses(store, problem, cycle), holder)
    duel = next((d for d in every if d.challenger == verdict["challenger"]), None)
    blends = why.get("blends", {})
    return {
        **verdict,
        "challenger_text": blends.get(verdict["challenger"], {}).get("text", ""),
        "holder": holder,
        "holder_text": blends.get(holder, {}).get("text", ""),
        "first": why.get("outcome") == "first",
        "gains": _gains(duel, block_noise(every)) if duel else [],
        "others": len(why.get("verdicts") or ()) - 1,
        **_raw_interval(verdict, duel, block_noise(every) if every else None),
    }


def _chosen(verdicts: Sequence[Mapping[str, Any]], outcome: str | None) -> dict[str, Any] | None:
    """The verdict that decided: the best one that passed, or else the best."""
    passed = [v for v in verdicts if v["passed"]] if outcome != "keep" else []
    best = max(passed or verdicts, key=lambda v: v["shrunk"], default=None)
    return dict(best) if best else None


def _losses(store: Store, problem: Problem, cycle: Cycle) -> list[BlockLoss]:
    """What the cycle knew, in its metric."""
    metric = (cycle.receipts.get("metrics") or [problem.metric.name])[0]
    found = store.evidence(problem.name)
    return [e for e in found if e.cycle <= cycle.as_of and e.metric in ("", metric)]


def _gains(duel: Duel, noise: Noise) -> list[dict[str, Any]]:
    """Per block, newest first; the interval is the usual noise of a block."""
    weights, half = block_weights(duel, DISCOUNT), Z90 * sqrt(noise.variance)
    ends = duel.ends or duel.blocks
    return [
        {
            "block": day_of(start),
            "until": day_of(end),
            "gain": gain,
            "low": gain - half,
            "high": gain + half,
            "kind": kind,
            "weight": float(weight / weights.sum()),
        }
        for start, end, gain, kind, weight in zip(
            duel.blocks, ends, duel.gains, duel.kinds, weights, strict=True
        )
    ][:SHOWN_BLOCKS]


def _raw_interval(
    verdict: Mapping[str, Any], duel: Duel | None, noise: Noise | None
) -> dict[str, float]:
    """90 % interval of the raw gain, before it is shrunk."""
    if duel is None or noise is None:
        return {}
    half = Z90 * sqrt(noise.variance / max(1e-9, verdict["n_effective"]))
    return {"raw_low": verdict["mean"] - half, "raw_high": verdict["mean"] + half}
