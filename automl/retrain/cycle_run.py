"""The MLflow run of a cycle: opened with params and tags, its trials logged, closed with the reviewer's note."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from automl.cycles.job import Job
from automl.cycles.steps import step
from automl.history import Snapshot
from automl.monitoring.promises import live_losses
from automl.promotion.guards import Guard
from automl.promotion.records import leave_record, write_record
from automl.promotion.release import reconcile
from automl.retrain.choice import Choice
from automl.retrain.cycle_note import (
    CycleSummary,
    cycle_artifacts,
    cycle_metrics,
    cycle_note,
    cycle_series,
    cycle_tags,
)
from automl.retrain.search import Sweep
from automl.sweep import Leaderboard, Plan, Work
from automl.testing import fault
from automl.tracking import CycleRecord, TrialLog

__all__ = [
    "leave_cycle_record",
    "log_roles",
    "log_trials",
    "logging_trials",
    "open_run",
    "update_mlflow",
    "write_trials",
]

MOST_POINTS = 52  # published generations in the chart of live losses: a year of weeks


@step("open MLflow run", io=True)
def open_run(job: Job, work: Work, snapshot: Snapshot, plan: Plan) -> str:
    """The id of the cycle's run; an interrupted cycle resumes in the run that it had."""
    job.require_hold()
    before = job.cycle.receipts.get("run_id")
    if before and job.registry.reopen(before):
        return str(before)
    tags = {**_tags(job), "plan": plan.kind, "plan_reason": plan.reason}
    run_id = job.registry.open_cycle(job.tag, _params(work), tags)
    job.registry.log_snapshot(run_id, snapshot, work.contract.features)
    job.store.note(job.cycle, run_id=run_id, experiment=job.registry.experiment)
    fault("retrain.run_opened")
    return run_id


def logging_trials(job: Job, work: Work, run_id: str) -> AbstractContextManager[TrialLog]:
    """Log trials in a thread while sweep and refit wait for their fits."""
    return job.registry.logging_trials(run_id, job.tag, work.families, job.require_hold)


def log_roles(job: Job, log: TrialLog, leaderboard: Leaderboard, choice: Choice) -> None:
    """Tag trials with their roles during the refit; `log_trials` corrects roles that the refit changed."""
    job.require_hold()
    roles = _roles(choice)
    for trial in leaderboard.trials:
        log(trial, roles.get(trial.recipe.id, ""))


@step("log trials", io=True)
def log_trials(job: Job, sweep: Sweep, choice: Choice, run_id: str) -> None:
    """Log the trials that are not logged yet, and the roles of all."""
    write_trials(job, sweep, choice, run_id)


def write_trials(job: Job, sweep: Sweep, choice: Choice, run_id: str) -> None:
    """As `log_trials`, inside another step."""
    job.require_hold()
    trials, families = sweep.leaderboard.trials, sweep.work.families
    job.registry.log_trials(run_id, job.tag, trials, families, _roles(choice))
    job.store.note(job.cycle, logging_seconds=round(job.registry.waited, 2))


@step("record what MLflow shows")
def leave_cycle_record(
    job: Job, sweep: Sweep, choice: Choice, guards: Sequence[Guard], version: int, run_id: str
) -> CycleRecord:
    """Record what reviewers read, before the decision is committed: MLflow may be gone, or the process."""
    summary = CycleSummary(
        sweep=sweep,
        choice=choice,
        version=version,
        guards=guards,
        experiment=job.registry.experiment,
        run_id=run_id,
    )
    record = CycleRecord(
        run_id=run_id,
        metrics=cycle_metrics(summary),
        series=cycle_series(live_losses(job.store, job.problem, limit=MOST_POINTS)),
        tags=cycle_tags(summary),
        note=cycle_note(summary),
        artifacts=cycle_artifacts(summary),
    )
    leave_record(job.store, job.cycle, record)
    return record


@step("update MLflow", io=True)
def update_mlflow(job: Job, record: CycleRecord) -> None:
    """Move the aliases to the new release, then close the cycle's run with what reviewers read."""
    reconcile(job.store, job.registry, job.problem)
    write_record(job.store, job.registry, job.cycle, record)
    job.registry.describe(job.tag, record.run_id)
    fault("retrain.mlflow_updated")


def _roles(choice: Choice) -> dict[str, str]:
    """Roles of recipes, by id, as tags of their trials."""
    waiting = choice.pending.waiting
    roles = {m.recipe.id: "waits" for m in waiting.blend.members} if waiting else {}
    return roles | {m.recipe.id: "chosen" for m in choice.blend.members}


def _tags(job: Job) -> dict[str, str]:
    return {
        "trigger": job.options.trigger,
        "data_as_of": job.as_of.isoformat(),
        "git_sha": _commit_of(job.workspace.root),
    }


def _params(work: Work) -> dict[str, Any]:
    """What the cycle works on, and how."""
    problem, times = work.problem, work.frame[work.problem.history.time]
    return {
        "metric": problem.metric.name,
        "better": work.metric.better,
        "blocks": len(work.blocks),
        "block": problem.validation.block,
        "labels_complete_after": problem.history.label_delay or "at once",
        "horizon": problem.horizon,
        "seed": problem.sweep.seed,
        "families": ", ".join(work.offered),
        "budget": problem.sweep.budget or f"{problem.sweep.trials} trials",
        "rows": len(work.frame),
        "first": times.iloc[0],
        "last": times.iloc[-1],
        "workers": work.workers,
    }


def _commit_of(folder: Path) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
