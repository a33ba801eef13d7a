"""Losses of blends on the blocks of a cycle, each with how it was made; nothing here decides or fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from automl.cycles.job import Job
from automl.modeling.losses import BlockLoss, kind_of
from automl.modeling.recipes import Blend
from automl.sweep import Leaderboard, Work, baseline_losses, blend_losses

__all__ = ["first_out_of_sample", "losses_of", "losses_of_trials"]


def losses_of(
    job: Job,
    work: Work,
    leaderboard: Leaderboard,
    blends: Iterable[tuple[Blend, datetime]],
    past: Sequence[BlockLoss],
) -> list[BlockLoss]:
    """Losses of blends, each with the end of the labels that it was fixed on, as evidence of this cycle.

    What a blend has lost on a block out-of-sample stays its loss there, whatever it loses now.
    """
    first = first_out_of_sample(past)
    losses = [x for blend, until in blends for x in _losses(job, work, leaderboard, blend, until)]
    return [replace(first.get((x.blend, x.start, x.end), x), cycle=job.as_of) for x in losses]


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


def losses_of_trials(
    job: Job, work: Work, leaderboard: Leaderboard, chosen_on: datetime
) -> list[BlockLoss]:
    """Every recipe of this sweep by itself: no rival, but it tells how far apart recipes are."""
    return [
        BlockLoss(
            job.as_of,
            Blend.single(trial.recipe).id,
            block.start,
            block.end,
            len(block.validation),
            loss,
            1.0,
            kind_of(chosen_on, block.start),
        )
        for trial in leaderboard.trials
        if trial.status == "complete"
        for block, loss in zip(work.blocks, trial.losses, strict=False)
    ]


def _losses(
    job: Job, work: Work, leaderboard: Leaderboard, blend: Blend, until: datetime
) -> list[BlockLoss]:
    baselines: Sequence[float] | None = next(
        (
            t.losses
            for t in leaderboard.trials
            if t.recipe.family == "baseline" and t.status == "complete"
        ),
        None,
    )
    baselines = baselines or baseline_losses(work)
    return [
        BlockLoss(
            job.as_of,
            blend.id,
            block.start,
            block.end,
            len(block.validation),
            loss,
            baselines[i],
            kind_of(until, block.start),
        )
        for i, (block, loss) in enumerate(zip(work.blocks, blend_losses(work, blend), strict=False))
    ]
