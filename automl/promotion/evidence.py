"""Duels: challenger and champion compared block by block, out-of-sample or in-sample.

A block is *out-of-sample* for a blend if the blend was fixed before the block's labels existed, and
*in-sample* if the block took part in choosing it. Two blends are only compared on a block within one
cycle, where both were fitted on the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.modeling.losses import BlockLoss, Evidence
from automl.problem import LEAST_SHARE

__all__ = [
    "GAIN",
    "Array",
    "Attribution",
    "Duel",
    "attribute",
    "correlations",
    "disjoint",
    "duels",
    "gain_line",
    "new_shares",
    "shown_probability",
]

Array = NDArray[np.float64]
Span = tuple[datetime, datetime]  # of a block: start, end
GAIN = "raw gain "  # begins the numbers of a decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """Challenger against champion, block by block, newest block first.

    `gains` are relative: positive means the challenger lost less. `ages` are in whole blocks that do not
    overlap, 0 for the newest block of any blend. A block is out-of-sample only if it is so for both.
    `blocks` are their starts; without `ends` no block overlaps another.
    """

    challenger: str
    gains: tuple[float, ...]
    kinds: tuple[Evidence, ...]
    ages: tuple[int, ...]
    blocks: tuple[datetime, ...]
    ends: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a gain is made of, relative to the loss of what was published; 0.01 = 1 %."""

    fresh: float  # from refitting the champion's recipe on newer rows
    recipe: float  # from the challenger's recipe instead of the refitted champion's

    @property
    def total(self) -> float:
        """The challenger's gain over what was published."""
        return self.fresh + self.recipe


def duels(losses: Iterable[BlockLoss], champion: str) -> list[Duel]:
    """Pair every blend with the champion on the blocks that some cycle evaluated for both.

    Where several cycles evaluated the same block, the newest counts. The gain on block b is
    (L_champion - L_challenger) / max(L_champion, 0.05 * L_baseline). A loss that is not finite (ROC AUC of a
    block with one class) is no evidence.
    """
    newest: dict[tuple[str, datetime], BlockLoss] = {}
    reference: dict[tuple[datetime, datetime], BlockLoss] = {}
    everything = sorted(
        (loss for loss in losses if isfinite(loss.loss)), key=lambda loss: loss.cycle
    )
    for loss in everything:
        if loss.blend == champion:
            reference[(loss.cycle, loss.start)] = loss
    for loss in everything:
        if loss.blend != champion and (loss.cycle, loss.start) in reference:
            newest[(loss.blend, loss.start)] = loss
    ages = _ages({loss.start: loss.end for loss in everything})
    return [
        _duel(
            name,
            [newest[(name, start)] for start in ages if (name, start) in newest],
            reference,
            ages,
        )
        for name in dict.fromkeys(blend for blend, _ in newest)
    ]


def _duel(
    name: str,
    losses: Sequence[BlockLoss],
    reference: dict[tuple[datetime, datetime], BlockLoss],
    ages: Mapping[datetime, int],
) -> Duel:
    pairs = [(loss, reference[(loss.cycle, loss.start)]) for loss in losses]
    both: list[Evidence] = [
        "out_of_sample" if a.kind == b.kind == "out_of_sample" else "in_sample" for a, b in pairs
    ]
    return Duel(
        challenger=name,
        gains=tuple((b.loss - a.loss) / _unit(b.loss, b.baseline_loss) for a, b in pairs),
        kinds=tuple(both),
        ages=tuple(ages[a.start] for a, _ in pairs),
        blocks=tuple(a.start for a, _ in pairs),
        ends=tuple(a.end for a, _ in pairs),
    )


def _ages(ends: Mapping[datetime, datetime]) -> dict[datetime, int]:
    """Age of the block that begins at each start, newest first: 1 per block, less where two overlap.

    A block that overlaps the next newer one is older by the part of it that the newer one lacks. A gap
    between two blocks counts as no more than one block.
    """
    ages: dict[datetime, int] = {}
    age, newer = 0.0, None
    for start in sorted(ends, reverse=True):
        if newer is not None:
            age += min(1.0, (newer - start) / (ends[start] - start))
        ages[start] = round(age)
        newer = start
    return ages


def disjoint(duel: Duel) -> bool:
    """Whether no two blocks of a duel overlap."""
    newer, older = duel.blocks, duel.ends[1:]
    return all(end <= start for start, end in zip(newer, older, strict=False))


def new_shares(duel: Duel) -> Array:
    """Share of each block's span that no newer block of the duel covers, shape (n_blocks,).

    Two blocks that overlap hold the same rows twice; a row counts in the newest block that has it.
    """
    if disjoint(duel):
        return np.ones(len(duel.gains))
    spans = list(zip(duel.blocks, duel.ends, strict=True))
    return np.array([_uncovered(span, spans[:i]) for i, span in enumerate(spans)])


def correlations(duel: Duel) -> Array:
    """Correlation of the noise of each two blocks, shape (n_blocks, n_blocks), by the span that they share.

    Assumes that days are independent of each other, and that two cycles which evaluate the same rows see the same
    noise; if they do not, overlapping blocks are worth a little more than this says.
    """
    if disjoint(duel):
        return np.eye(len(duel.gains))
    first = duel.blocks[-1]
    starts = np.array([(moment - first).total_seconds() for moment in duel.blocks])
    ends = np.array([(moment - first).total_seconds() for moment in duel.ends])
    shared = np.minimum.outer(ends, ends) - np.maximum.outer(starts, starts)
    lengths = ends - starts
    return np.maximum(shared, 0.0) / np.sqrt(np.outer(lengths, lengths))


def _uncovered(span: Span, newer: Sequence[Span]) -> float:
    """Share of a span that none of the newer ones covers; those begin later."""
    start, end = span
    free, at = timedelta(0), start
    for begin, until in sorted(newer):
        free += max(timedelta(0), min(begin, end) - at)
        at = max(at, min(until, end))
    return (free + (end - at)) / (end - start)


def attribute(published: float, refit: float, challenger: float, baseline: float) -> Attribution:
    """Split a gain on one block into fresh data and new recipe.

    Parameters
    ----------
    published
        Loss of the champion as it was: of the predictions that were published for the block.
    refit
        Loss of the champion's recipe, fitted on what was known at the block's start.
    challenger, baseline
        Losses of the challenger and of the baseline, fitted on the same rows as `refit`.

    The parts have one denominator and sum to the whole. Assumes that all three were scored on the
    same rows; if not, the share of fresh data holds the difference.
    """
    unit = _unit(published, baseline)
    return Attribution((published - refit) / unit, (refit - challenger) / unit)


def gain_line(verdict: Mapping[str, Any]) -> str:
    """A verdict in one line: gain, raw and shrunk, what promotion needs, and the number of blocks."""
    probability, needed = (shown_probability(verdict[name]) for name in ("probability", "needed"))
    gain = f"{GAIN}{verdict['mean']:+.2%}, shrunk {verdict['shrunk']:+.2%}, {verdict['margin']:.2%} needed"
    interval = f"90 % interval {verdict['low']:+.2%} to {verdict['high']:+.2%}"
    blocks = f"{verdict['blocks']} blocks, {verdict['out_of_sample']} out-of-sample"
    return f"{gain}; P(better) {probability}, {needed} needed; {interval}; {blocks}"


def shown_probability(value: float) -> str:
    """Three digits, rounded down, so that a limit that was missed is never printed as reached."""
    return f"{floor(1000 * value + 1e-9) / 1000:.3f}"


def _unit(loss: float, baseline: float) -> float:
    return max(loss, LEAST_SHARE * baseline, 1e-12)
