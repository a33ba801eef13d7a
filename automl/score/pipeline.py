"""The steps of a scoring: the rows to predict, the champion, a generation, the pointer.

`cycle` retrains and scores: predictions are staged before anything is released, then champion and pointer
change in one transaction.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from automl import predictions
from automl.cycles.job import AlreadyEndedError, Job, open_job
from automl.cycles.options import RunOptions
from automl.cycles.projections import caught_up, follow_release
from automl.cycles.result import CycleResult, Staged, finished
from automl.cycles.steps import Runner, call, step
from automl.errors import NoModelError
from automl.history import Snapshot
from automl.monitoring.alerts import alerting
from automl.problem import Problem
from automl.promotion.release import commit_publish
from automl.retrain import Scoring, retrain
from automl.score.batch import pull_checked_batch, stage_batch
from automl.score.standby import try_standby
from automl.store import UNSCORED, Release, Store
from automl.workspace import Workspace

__all__ = ["cycle", "score"]


def score(
    problem: Problem, workspace: Workspace, options: RunOptions | None = None, *, run: Runner = call
) -> CycleResult:
    """Score one batch with the champion; if this cycle has already ended, return its result and change nothing.

    Raises
    ------
    AutomlError
        The scoring was refused or failed. Published predictions are unchanged.
    """
    options = options or RunOptions()
    with alerting(problem, workspace, "score", trial=options.dry_run):
        done = finished(problem, workspace, "score", options)
        if done is None:
            try:
                return _score(problem, workspace, options, run)
            except AlreadyEndedError as ended:
                done = ended.result
        return caught_up(done, problem, workspace, run)


def _score(problem: Problem, workspace: Workspace, options: RunOptions, run: Runner) -> CycleResult:
    with open_job(problem, workspace, "score", options) as job:
        champion = _champion(job.store, problem, job.as_of)
        run(follow_release, job.store, job.registry, problem)
        # three steps: pull batch, predict and stage, audit
        staged = stage_batch(job, champion, run)
        reason = f"{staged.rows} rows by version {champion.model_version}"
        if staged.reused:
            reason += f", {staged.reused} of them reused"
        run(publish_generation, job, staged.generation, reason)
        run(export_and_clean, job)
        # during probation: stand by
        try_standby(job, champion, staged.generation, run)
        return CycleResult(
            problem=problem,
            as_of=job.as_of,
            status="published",
            reason=reason,
            model_version=champion.model_version,
            generation=staged.generation,
            rows=staged.rows,
            run_id=champion.run_id,
            experiment=job.registry.experiment,
        )


def cycle(
    problem: Problem, workspace: Workspace, options: RunOptions | None = None, *, run: Runner = call
) -> CycleResult:
    """Retrain and score: champion and published predictions change in one transaction.

    Raises
    ------
    AutomlError
        As `retrain` and `score`. Champion and predictions are unchanged.
    """
    options = options or RunOptions()
    scoring = Scoring(pull=pull_checked_batch, stage=stage_predictions)
    with alerting(problem, workspace, "cycle", trial=options.dry_run):
        result = retrain(problem, workspace, options, run=run, scoring=scoring)
        # an earlier `automl retrain` has ended: only the scoring is missing
        if result.status in UNSCORED and not options.dry_run:
            options = replace(options, as_of=result.as_of, again=False)
            return _after(result, score(problem, workspace, options, run=run))
        return caught_up(result, problem, workspace, run).require_finished()


def _after(retrained: CycleResult, scored: CycleResult) -> CycleResult:
    """The result of a cycle whose retraining ended by itself; a skip has its reason in it."""
    if retrained.status != "skipped":
        return scored
    return replace(
        scored,
        reason=f"retraining skipped, {retrained.reason}; {scored.reason}",
        warnings=[*retrained.warnings, *scored.warnings],
    )


@step("stage predictions")
def stage_predictions(job: Job, release: Release, batch: Snapshot) -> Staged:
    """Stage the batch as scored by a release that a retraining is about to commit, and its standby."""
    staged = stage_batch(job, release, call, batch)
    try_standby(job, release, staged.generation, call)
    return staged


@step("publish")
def publish_generation(job: Job, generation: int, reason: str) -> None:
    """Point readers at the staged generation."""
    commit_publish(
        job.store, job.hold, job.problem, job.cycle, generation=generation, reason=reason
    )


@step("export", io=True)
def export_and_clean(job: Job) -> None:
    """Write the parquet copy and delete generations that are no longer kept."""
    predictions.export(job.store, job.problem)
    predictions.clean(job.store, job.hold, job.problem)


def _champion(store: Store, problem: Problem, as_of: datetime) -> Release:
    champion = store.champion(problem.name, at=as_of)
    if champion is None:
        raise NoModelError(
            f"{problem.name}: no model was released at or before {as_of:%Y-%m-%d %H:%M}",
            code="no_champion",
            next_step=f"automl retrain {problem.file.name}",
        )
    return champion
