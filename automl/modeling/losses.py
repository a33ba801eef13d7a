"""The loss of a blend on a block, and how it was made: out-of-sample or in-sample."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

__all__ = ["DISCOUNT", "BlockLoss", "Evidence", "kind_of"]

DISCOUNT = 0.85  # weight of a block, or of a cycle's evidence, relative to the next newer one

# out-of-sample: recipes and weights were fixed before the block's labels existed;
# in-sample: the block took part in choosing either
Evidence = Literal["out_of_sample", "in_sample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLoss:
    """The loss of one blend on one block, as evaluated in one cycle."""

    cycle: datetime  # as_of of the cycle that evaluated it
    blend: str
    start: datetime
    end: datetime
    rows: int
    loss: float
    baseline_loss: float  # of a constant prediction on the same block
    kind: Evidence
    metric: str = ""  # in which the losses are; "": of a version that did not record it


def kind_of(labels_until: datetime, start: datetime) -> Evidence:
    """Out-of-sample if the block starts no earlier than the labels ended when the blend was fixed.

    `labels_until` is the end of the labels known to the cycle that made the blend.
    """
    return "out_of_sample" if start >= labels_until else "in_sample"
