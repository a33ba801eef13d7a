"""Losses of blends on blocks, each with how it was made: virgin or sweep.

A block is *virgin* for a blend if the blend was fixed before the block's labels existed, and *sweep* if
the block took part in choosing it. Two blends are only ever compared on a block within one cycle, where
both were fitted on the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Literal

__all__ = ["BlockLoss", "Duel", "duels", "kind_of"]

Kind = Literal["virgin", "sweep"]


@dataclass(frozen=True, slots=True)
class BlockLoss:
    """One blend on one block, as evaluated in one cycle."""

    cycle: datetime  # as_of of the cycle that evaluated it
    blend: str
    start: datetime
    end: datetime
    rows: int
    loss: float
    floor: float  # loss of the baseline on the same block
    kind: Kind


@dataclass(frozen=True, slots=True)
class Duel:
    """Challenger against champion, block by block, newest block first.

    `gains` are relative: positive means the challenger lost less. `ages` are in cycles, 0 for the
    newest block. A block is virgin only if it is virgin for both.
    """

    challenger: str
    gains: tuple[float, ...]
    kinds: tuple[Kind, ...]
    ages: tuple[int, ...]
    blocks: tuple[datetime, ...]


def kind_of(labels_until: datetime, start: datetime) -> Kind:
    """Virgin if the block starts no earlier than the labels ended when the blend was fixed.

    `labels_until` is the end of the labels known to the cycle that made the blend.
    """
    return "virgin" if start >= labels_until else "sweep"


def duels(losses: Iterable[BlockLoss], champion: str) -> list[Duel]:
    """Pair every blend with the champion on the blocks that some cycle evaluated for both.

    Where several cycles evaluated the same block, the newest counts. The gain on block b is
    (L_champion - L_challenger) / max(L_champion, 0.05 * L_floor). A loss that is not finite (ROC AUC of a
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
    starts = sorted({loss.start for loss in everything}, reverse=True)
    return [
        _duel(
            name,
            [newest[(name, start)] for start in starts if (name, start) in newest],
            reference,
            starts,
        )
        for name in dict.fromkeys(blend for blend, _ in newest)
    ]


def _duel(
    name: str,
    mine: Sequence[BlockLoss],
    reference: dict[tuple[datetime, datetime], BlockLoss],
    starts: Sequence[datetime],
) -> Duel:
    pairs = [(loss, reference[(loss.cycle, loss.start)]) for loss in mine]
    both: list[Kind] = ["virgin" if a.kind == b.kind == "virgin" else "sweep" for a, b in pairs]
    return Duel(
        challenger=name,
        gains=tuple((b.loss - a.loss) / max(b.loss, 0.05 * b.floor, 1e-12) for a, b in pairs),
        kinds=tuple(both),
        ages=tuple(starts.index(a.start) for a, _ in pairs),
        blocks=tuple(a.start for a, _ in pairs),
    )
