"""The steps of a retraining: fresh history, a sweep, a decision on evidence, a release.

What the steps do is in the modules of this package; what a cycle leaves behind is in the store, so that the
same command resumes a cycle that was killed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from automl import history
from automl.cycles.after_commit import AfterCommit
from automl.cycles.job import AlreadyEndedError, Job, open_job
from automl.cycles.options import RunOptions
from automl.cycles.projections import caught_up
from automl.cycles.result import CycleResult, Staged, finished
from automl.cycles.steps import Runner, Step, call, step
from automl.errors import UnreachableError
from automl.history import Snapshot
from automl.monitoring.alerts import alerting
from automl.monitoring.realised import record_realised
from automl.predictions import clean
from automl.problem import Problem
from automl.processes import warm_up
from automl.promotion.records import leave_record, write_record
from automl.promotion.release import commit_release, ended_as
from automl.retrain.choice import Choice
from automl.retrain.choose import make_choice
from automl.retrain.consult import consult_policy
from automl.retrain.cycle_run import (
    leave_cycle_record,
    log_roles,
    logging_trials,
    open_run,
    update_mlflow,
)
from automl.retrain.for_report import keep_for_report
from automl.retrain.plan import make_plan, narrowed
from automl.retrain.refit import fit_chosen
from automl.retrain.register import register_challenger, register_model
from automl.retrain.search import Sweep, cache_fits, fit_cache, predict_with_cached_fits, search
from automl.retrain.skipped import end_skipped
from automl.retrain.training_data import check_contract, make_work, pull_history, settle_maturity
from automl.store import Release
from automl.sweep import Refits
from automl.tracking import CycleRecord
from automl.workspace import Workspace

__all__ = ["Scoring", "retrain"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scoring:
    """The steps of a scoring that a cycle runs: the batch before the sweep, its predictions before the release."""

    pull: Step[[Job], Snapshot]
    stage: Step[[Job, Release, Snapshot], Staged]


measure_realised = step("measure realised performance", io=True)(record_realised)


def retrain(
    problem: Problem,
    workspace: Workspace,
    options: RunOptions | None = None,
    *,
    run: Runner = call,
    scoring: Scoring | None = None,
) -> CycleResult:
    """Retrain as of one moment; if this cycle has already ended, return its result and change nothing.

    With `scoring` (given by `cycle`), the batch is pulled and checked before the sweep: a training whose
    predictions have nowhere to go is refused at once. Predictions are staged before the release, and published
    in the transaction that releases the model. Without it no batch is needed, and none is pulled.

    Raises
    ------
    DiskError
        The disk failed. If that was after the commit, the message says so, and what was committed stays.
    AutomlError
        The cycle was refused or failed. Champion and predictions are unchanged.
    """
    options = options or RunOptions()
    with alerting(problem, workspace, "retrain", trial=options.dry_run):
        done = finished(problem, workspace, "retrain", options)
        if done is None:
            try:
                result = _retrain(problem, workspace, options, run, scoring)
                return result if scoring else result.require_finished()
            except AlreadyEndedError as ended:
                done = ended.result
        return caught_up(done, problem, workspace, run)


def _retrain(
    problem: Problem,
    workspace: Workspace,
    options: RunOptions,
    run: Runner,
    scoring: Scoring | None,
) -> CycleResult:
    with open_job(problem, workspace, "retrain", options) as opened:
        warm_up()
        snapshot = run(pull_history, opened)
        job = settle_maturity(opened, snapshot)
        contract, warnings = run(check_contract, job.problem, job.as_of, snapshot, job.families)
        run(measure_realised, job, snapshot, contract)
        policy = run(consult_policy, job, snapshot, contract)
        if policy.action == "skip":
            return run(end_skipped, job, policy.reason, warnings)
        batch = run(scoring.pull, job) if scoring and not options.dry_run else None
        work = make_work(job, snapshot, contract)
        cache = fit_cache(job)
        cached = run(predict_with_cached_fits, cache, work)
        plan = run(make_plan, job, work, policy, cached)
        work = narrowed(work, plan)
        run_id = run(open_run, job, work, snapshot, plan)
        with logging_trials(job, work, run_id) as log, Refits(work) as refits:
            sweep = run(search, job, refits, plan, log)
            choice = run(make_choice, job, sweep)
            if options.dry_run:
                return _end_dry_run(job, sweep, choice, run_id, warnings)
            log_roles(job, log, sweep.leaderboard, choice)
            fitted = run(fit_chosen, job, refits, sweep, choice)
        warnings += fitted.warnings
        # two steps: register, guards
        release, guards = register_model(job, sweep, fitted, run_id, run)
        choice = fitted.choice
        if fitted.challenger:
            choice = run(register_challenger, job, work, fitted, run_id)
        staged = run(scoring.stage, job, release, batch) if scoring and batch else None
        version = release.model_version
        record = run(leave_cycle_record, job, sweep, choice, guards, version, run_id)
        release = run(release_choice, job, choice, release, staged)
        after = AfterCommit(workspace.home)
        with after.trying("MLflow is not up to date; the next command updates it"):
            run(update_mlflow, job, record)
        with after.trying("no fits are cached for the next cycle", needed=True):
            cache_fits(job, cache, sweep, fitted.fits)
        if job.workspace.reports:
            with after.trying("the report will lack its diagnostics"):
                run(keep_for_report, job, sweep, fitted, warnings)
        with after.trying("what is no longer needed was not deleted", needed=True):
            _clean(job, sweep)
        result = _result(job, sweep, choice, release, staged, run_id=run_id, warnings=warnings)
        return after.ended(result)


@step("release")
def release_choice(job: Job, choice: Choice, release: Release, staged: Staged | None) -> Release:
    """Make the decision effective; with staged predictions, publish them in the same transaction."""
    return commit_release(
        job.store,
        job.hold,
        job.problem,
        job.cycle,
        decision=choice.pending,
        release=release,
        generation=staged.generation if staged else None,
    )


def _clean(job: Job, sweep: Sweep) -> None:
    """Delete what neither readers nor later cycles need."""
    name = job.problem.name
    clean(job.store, job.hold, job.problem)
    history.clean(history.Folders(job.workspace.history(name)), job.store.referred(name))
    shutil.rmtree(sweep.work.scratch, ignore_errors=True)


def _end_dry_run(
    job: Job, sweep: Sweep, choice: Choice, run_id: str, warnings: list[str]
) -> CycleResult:
    reason = (
        f"dry run: nothing released or published; the decision would be: {choice.pending.reason}"
    )
    record = CycleRecord(run_id=run_id, tags={"decision": "dry-run"}, note=reason)
    leave_record(job.store, job.cycle, record)
    job.store.end_cycle(job.cycle, "dry-run", reason)
    try:
        write_record(job.store, job.registry, job.cycle, record)
    except UnreachableError as error:
        warnings.append(f"MLflow is not up to date; the next command updates it: {error}")
    return CycleResult(
        problem=job.problem,
        as_of=job.as_of,
        status="dry-run",
        reason=reason,
        leaderboard=sweep.leaderboard,
        decision=choice.decision,
        run_id=run_id,
        experiment=job.registry.experiment,
        warnings=warnings,
    )


def _result(
    job: Job,
    sweep: Sweep,
    choice: Choice,
    release: Release,
    staged: Staged | None,
    *,
    run_id: str,
    warnings: list[str],
) -> CycleResult:
    return CycleResult(
        problem=job.problem,
        as_of=job.as_of,
        status=ended_as(choice.pending, staged.generation if staged else None),
        reason=choice.pending.reason,
        model_version=release.model_version,
        generation=staged.generation if staged else None,
        rows=staged.rows if staged else None,
        leaderboard=sweep.leaderboard,
        decision=choice.decision,
        run_id=run_id,
        experiment=job.registry.experiment,
        warnings=warnings,
    )
