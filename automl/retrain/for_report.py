"""What a cycle that has committed keeps for its report, which is written once the command has ended."""

from __future__ import annotations

from collections.abc import Sequence

from automl.cycles.job import Job
from automl.cycles.steps import step
from automl.explanation import keep_inputs
from automl.modeling.recipes import Blend
from automl.retrain.refit import Fitted
from automl.retrain.search import Sweep

__all__ = ["keep_for_report"]


@step("keep for the report")
def keep_for_report(job: Job, sweep: Sweep, fitted: Fitted, warnings: Sequence[str]) -> None:
    """Keep outputs of the blocks for released blend and rival, and the model: the scratch folder is about to go."""
    choice = fitted.choice
    blends, names = {"released": choice.blend}, {"released": "released"}
    name, rival = _rival(job, sweep, fitted)
    if rival is not None and rival.id != choice.blend.id:
        blends["rival"], names["rival"] = rival, name
    keep_inputs(
        job.workspace.report_of(job.problem.name, job.as_of, job.cycle.attempt),
        sweep.work,
        blends,
        names,
        model=fitted.model,
        warnings=list(warnings),
    )


def _rival(job: Job, sweep: Sweep, fitted: Fitted) -> tuple[str, Blend | None]:
    """What the released blend is compared with, and its name: the challenger, or the champion that it replaces."""
    choice = fitted.choice
    if choice.pending.waiting is not None:
        return "awaits review", choice.pending.waiting.blend
    if choice.outcome in ("promote", "revert") and job.champion is not None:
        return "champion before", job.champion.blend
    challenger, reference = sweep.leaderboard.challenger, sweep.leaderboard.reference
    if challenger is not None and challenger.id != choice.blend.id:
        return "challenger", challenger
    return "start points", reference
