"""Duels on blocks, and the decisions on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import sqrt

import numpy as np

from automl.modeling.losses import BlockLoss, Evidence
from automl.promotion.decide import Decision, Verdict, decide
from automl.promotion.evidence import Duel

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
CONFIDENCE = 0.8


def duel(name: str, gains: Sequence[float], *, out_of_sample: int | None = None) -> Duel:
    """A duel on the newest blocks, the newest `out_of_sample` of which (default: all) are out-of-sample."""
    n = len(gains)
    kinds: tuple[Evidence, ...] = tuple(
        "out_of_sample" if out_of_sample is None or i < out_of_sample else "in_sample"
        for i in range(n)
    )
    starts = tuple(FIRST - timedelta(weeks=i) for i in range(n))
    return Duel(
        challenger=name, gains=tuple(gains), kinds=kinds, ages=tuple(range(n)), blocks=starts
    )


def decide_on(
    *rivals: Duel, confidence: float = CONFIDENCE, share: Mapping[str, float] | None = None
) -> Decision:
    return decide(rivals, "champion", confidence, share or {})


def verdict_of(decision: Decision, name: str) -> Verdict:
    return next(v for v in decision.verdicts if v.challenger == name)


NOISE = 0.014  # paired block sd of relative losses, as in the simulations the rule was chosen by


def week_of_losses(
    rng: np.random.Generator, advantage: np.ndarray, *, block: int, noise: float = NOISE
) -> list[BlockLoss]:
    """One out-of-sample block: recipe i loses 0.3 (1 - advantage_i + noise); differences of two have sd `noise`."""
    start = FIRST + timedelta(weeks=block)
    losses = 0.3 * (1 - advantage + rng.normal(0, noise / sqrt(2), len(advantage)))
    return [
        BlockLoss(
            cycle=start + timedelta(weeks=1),
            blend=str(i),
            start=start,
            end=start + timedelta(weeks=1),
            rows=100,
            loss=float(x),
            baseline_loss=1.0,
            kind="out_of_sample",
        )
        for i, x in enumerate(losses)
    ]
