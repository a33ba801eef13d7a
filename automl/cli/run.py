"""Commands that run a cycle or a part of it: cycle, retrain, score, schedule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from automl.cli.app import (
    RUN,
    Again,
    AsOf,
    Backfill,
    Budget,
    Debug,
    DryRun,
    File,
    Json,
    Plan,
    Reason,
    app,
)
from automl.cli.console import print_message, print_result, stdout_to_stderr
from automl.cli.inputs import open_problem, run_options
from automl.errors import AutomlError

if TYPE_CHECKING:
    from automl.cycles.options import RunOptions
    from automl.cycles.result import CycleResult
    from automl.problem import Problem
    from automl.workspace import Workspace

__all__ = ["cycle", "retrain", "run_pipeline", "schedule", "score", "score_missed_slots"]

NEWEST_MISSED = 24  # missed slots that one command scores afterwards


@app.command(group=RUN)
def cycle(
    file: File,
    *,
    as_of: AsOf = None,
    budget: Budget = None,
    plan: Plan = "auto",
    again: Again = False,
    reason: Reason = "",
    backfill: Backfill = False,
    dry_run: DryRun = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Retrain and score; release and publish in one transaction."""
    options = run_options(
        as_of=as_of,
        budget=budget,
        plan=plan,
        again=again,
        reason=reason,
        backfill=backfill,
        dry_run=dry_run,
    )
    return run_pipeline("cycle", file, options, as_json=json)


@app.command(group=RUN)
def retrain(
    file: File,
    *,
    as_of: AsOf = None,
    budget: Budget = None,
    plan: Plan = "auto",
    again: Again = False,
    reason: Reason = "",
    backfill: Backfill = False,
    dry_run: DryRun = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Pull history, sweep, decide, release. Predictions change with the next score."""
    options = run_options(
        as_of=as_of,
        budget=budget,
        plan=plan,
        again=again,
        reason=reason,
        backfill=backfill,
        dry_run=dry_run,
    )
    return run_pipeline("retrain", file, options, as_json=json)


@app.command(group=RUN)
def score(
    file: File,
    *,
    as_of: AsOf = None,
    again: Again = False,
    reason: Reason = "",
    backfill: Backfill = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Predict the coming rows with the champion and publish them."""
    options = run_options(as_of=as_of, again=again, reason=reason, backfill=backfill)
    return run_pipeline("score", file, options, as_json=json)


@app.command(group=RUN)
def schedule(*files: File, check: bool = False, debug: Debug = False) -> int:
    """Run problem files on their schedules until stopped. Needs a Prefect server.

    Parameters
    ----------
    check
        Only print the deployments and their next slots.
    """
    problems = [open_problem(file)[0] for file in files]
    from automl.report import schedule_text

    print_message(schedule_text(problems))
    if check:
        return 0
    from flows.schedule import serve_problems

    serve_problems([p.file for p in problems])
    return 0


def run_pipeline(
    verb: Literal["cycle", "retrain", "score"], file: Path, options: RunOptions, *, as_json: bool
) -> int:
    """Run a cycle, or print the result of one that has already ended; returns the exit code."""
    problem, workspace = open_problem(file)
    from automl import report

    if not options.dry_run:
        with stdout_to_stderr():
            _approve_if_tagged(problem, workspace)
    result = report.finished(problem, workspace, verb, options)
    if result is None:
        with stdout_to_stderr():
            if verb != "score":  # workers import their libraries while this process imports its own
                from automl.modeling.workers import warm_up

                warm_up()
            result = _pipeline(verb)(problem, workspace, options)
    if verb != "retrain" and options.as_of is None and result.status == "published":
        score_missed_slots(problem, workspace)
    return print_result(result, workspace, as_json=as_json)


def _pipeline(verb: str) -> Callable[[Problem, Workspace, RunOptions], CycleResult]:
    from automl.retrain import retrain
    from automl.score import cycle, score

    pipelines: dict[str, Callable[..., CycleResult]] = {
        "cycle": cycle,
        "retrain": retrain,
        "score": score,
    }
    return pipelines[verb]


def score_missed_slots(problem: Problem, workspace: Workspace) -> None:
    """Score the slots that the schedule missed, each with the champion of its time.

    Readers keep the newest predictions; the others join `<table>_history`. A slot that cannot be
    scored is reported as a warning.
    """
    from automl.cycles.missed import missed_slots
    from automl.cycles.options import RunOptions
    from automl.store import Store
    from automl.workspace import now

    missed = missed_slots(Store(workspace), problem, now())[-NEWEST_MISSED:]
    if not missed:
        return
    with stdout_to_stderr():
        from automl.score import score  # heavy imports only then

        for slot in missed:
            window = f"{slot:%Y-%m-%d %H:%M} to {problem.until(slot):%Y-%m-%d %H:%M} UTC"
            try:
                result = score(problem, workspace, RunOptions(as_of=slot, backfill=True))
                print_message(f"scored a missed slot: {result.rows} rows, {window}")
            except AutomlError as error:
                print_message(f"warning: the missed slot {window} could not be scored: {error}")


def _approve_if_tagged(problem: Problem, workspace: Workspace) -> None:
    """Release the challenger awaiting approval if its version is tagged as approved in MLflow."""
    from automl.store import Store

    if Store(workspace).waiting(problem.name) is None:
        return
    from automl.review import approve_if_tagged  # heavy imports only then

    result = approve_if_tagged(problem, workspace)
    if result is not None:
        print_message(
            f"version {result.model_version} was approved by a tag in MLflow: {result.reason}"
        )
