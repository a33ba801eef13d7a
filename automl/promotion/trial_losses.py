"""Losses of the single recipes of a past sweep, as the store keeps its trials; fits nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from automl.modeling.losses import BlockLoss
from automl.modeling.recipes import Blend, Recipe

__all__ = ["losses_of_stored"]


def losses_of_stored(
    trials: Iterable[Mapping[str, Any]], evidence: Sequence[BlockLoss]
) -> list[BlockLoss]:
    """Every complete recipe by itself, in-sample, except blends that the evidence has.

    Parameters
    ----------
    trials
        As the store keeps them.
    evidence
        Of the same cycle: it dates the blocks of the trials' losses, which are newest first.
    """
    blocks = {e.start: e for e in evidence}
    newest_first = [blocks[start] for start in sorted(blocks, reverse=True)]
    known = {e.blend for e in evidence}
    return [
        BlockLoss(
            cycle=like.cycle,
            blend=name,
            start=like.start,
            end=like.end,
            rows=like.rows,
            loss=float(loss),
            baseline_loss=like.baseline_loss,
            kind="in_sample",
            metric=like.metric,
        )
        for content in trials
        if content["status"] == "complete"
        for name in [Blend.single(Recipe.from_json(content["recipe"])).id]
        if name not in known
        for like, loss in zip(newest_first, content["losses"], strict=False)
    ]
