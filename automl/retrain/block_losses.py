"""Losses of blends on the blocks of a cycle, in-sample or out-of-sample; decides nothing, fits nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from automl.modeling.losses import BlockLoss, kind_of
from automl.modeling.recipes import Blend
from automl.retrain.search import Sweep
from automl.sweep import Work, baseline_losses, blend_losses

__all__ = ["first_out_of_sample", "losses_of", "losses_of_trials"]


def losses_of(
    as_of: datetime,
    sweep: Sweep,
    blends: Iterable[tuple[Blend, datetime]],
    past: Sequence[BlockLoss],
) -> list[BlockLoss]:
    """Losses of blends on this cycle's blocks, as evidence; each blend comes with the end of the labels that fixed it.

    The first out-of-sample loss of a blend on a block is kept, whatever the blend loses there now.
    """
    first = first_out_of_sample(past)
    baselines = _baselines(sweep)
    losses = [
        x for blend, until in blends for x in _losses(as_of, sweep.work, blend, until, baselines)
    ]
    return [replace(first.get((x.blend, x.start, x.end), x), cycle=as_of) for x in losses]


def first_out_of_sample(
    past: Sequence[BlockLoss],
) -> dict[tuple[str, datetime, datetime], BlockLoss]:
    """The first out-of-sample loss of every (blend, start, end): it stays what the blend lost there.

    Later cycles evaluate the block again, with weights that were learned on it.
    """
    ordered = sorted(
        (e for e in past if e.kind == "out_of_sample"), key=lambda e: e.cycle, reverse=True
    )
    return {(e.blend, e.start, e.end): e for e in ordered}


def losses_of_trials(as_of: datetime, sweep: Sweep, chosen_on: datetime) -> list[BlockLoss]:
    """Every recipe of this sweep by itself: no rival, but evidence of how far apart recipes are."""
    return [
        BlockLoss(
            cycle=as_of,
            blend=Blend.single(trial.recipe).id,
            start=block.start,
            end=block.end,
            rows=len(block.validation),
            loss=loss,
            baseline_loss=1.0,
            kind=kind_of(chosen_on, block.start),
            metric=sweep.work.metric.name,
        )
        for trial in sweep.leaderboard.trials
        if trial.status == "complete"
        for block, loss in zip(sweep.work.blocks, trial.losses, strict=False)
    ]


def _losses(
    as_of: datetime, work: Work, blend: Blend, until: datetime, baselines: Sequence[float]
) -> list[BlockLoss]:
    return [
        BlockLoss(
            cycle=as_of,
            blend=blend.id,
            start=block.start,
            end=block.end,
            rows=len(block.validation),
            loss=loss,
            baseline_loss=baseline,
            kind=kind_of(until, block.start),
            metric=work.metric.name,
        )
        for block, loss, baseline in zip(
            work.blocks, blend_losses(work, blend), baselines, strict=False
        )
    ]


def _baselines(sweep: Sweep) -> Sequence[float]:
    """Losses of the constant baseline, from its trial if there is one."""
    trials = (
        t.losses
        for t in sweep.leaderboard.trials
        if t.recipe.family == "baseline" and t.status == "complete"
    )
    return next(trials, ()) or baseline_losses(sweep.work)
