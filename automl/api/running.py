"""A run as every caller wants it: approvals first, finished cycles at once, missed slots afterwards.

Commands, notebooks and flows run this code. What it has to say beyond the result goes to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from automl import progress
from automl.cycles.steps import Runner, call
from automl.errors import AutomlError, UnreachableError

if TYPE_CHECKING:
    from automl.cycles.options import RunOptions
    from automl.cycles.result import CycleResult
    from automl.problem import Problem
    from automl.workspace import Workspace

__all__ = ["Verb", "run_verb", "score_missed_slots"]

NEWEST_MISSED = 24  # missed slots that one run scores afterwards
Verb = Literal["cycle", "retrain", "score"]
_log = logging.getLogger(__name__)


def run_verb(
    problem: Problem,
    workspace: Workspace,
    verb: Verb,
    options: RunOptions,
    *,
    run: Runner = call,
    catch_up: bool | None = None,
) -> CycleResult:
    """Run a cycle, or return the result of one that has already ended.

    Parameters
    ----------
    run
        Runs the steps.
    catch_up
        Whether missed slots are scored afterwards, if the problem's schedule wants it. Default: without an as_of.

    Raises
    ------
    AutomlError
        Refused or failed; champion and predictions are unchanged.
    """
    from automl import report

    if not options.dry_run:
        _approve_if_tagged(problem, workspace, run)
    result = report.finished(problem, workspace, verb, options)
    if result is None:
        if verb != "score":  # workers import their libraries while this process imports its own
            from automl.processes import warm_up

            warm_up()
        result = _run_with_report(problem, workspace, verb, options, run)
    wanted = options.as_of is None if catch_up is None else catch_up
    if wanted and verb != "retrain" and result.status == "published":
        score_missed_slots(problem, workspace)
    return result


def _run_with_report(
    problem: Problem, workspace: Workspace, verb: Verb, options: RunOptions, run: Runner
) -> CycleResult:
    """Run the pipeline; a cycle leaves its report, however it ended, and never fails because of it."""
    from dataclasses import replace

    from automl.api.reporting import report_of_cycle, report_of_failed
    from automl.cycles.options import default_as_of
    from automl.workspace import now

    reported = workspace.reports and verb != "score" and not options.dry_run
    began = now()
    try:
        with progress.step("load libraries"):
            pipeline = _pipeline(verb)
        result = pipeline(problem, workspace, options, run=run)
    except Exception:
        if reported:
            as_of = options.as_of or default_as_of(problem, verb, began)
            report_of_failed(problem, workspace, as_of, began)
        raise
    if not reported or result.already:
        return result
    warning = report_of_cycle(problem, workspace, result.as_of)
    return replace(result, warnings=[*result.warnings, warning]) if warning else result


def _pipeline(verb: Verb) -> Callable[..., CycleResult]:
    from automl.retrain import retrain
    from automl.score import cycle, score

    pipelines: dict[str, Callable[..., CycleResult]] = {
        "cycle": cycle,
        "retrain": retrain,
        "score": score,
    }
    return pipelines[verb]


def score_missed_slots(problem: Problem, workspace: Workspace) -> None:
    """With `schedule.catch_up = "all"`, score the slots that the schedule missed, each with the champion of its time.

    Readers keep the newest predictions; the others join `<table>_history`. A slot that cannot be
    scored is logged as a warning.
    """
    from automl.cycles.missed import missed_slots
    from automl.cycles.options import RunOptions
    from automl.store import Store
    from automl.workspace import day_of, now

    if problem.schedule.catch_up != "all":
        return
    missed = missed_slots(Store(workspace), problem, now())[-NEWEST_MISSED:]
    if not missed:
        return
    from automl.score import score  # heavy imports only then

    with progress.step("missed slots"):
        for done, slot in enumerate(missed):
            progress.show(f"score of {day_of(slot)}", done=done, of=len(missed))
            window = f"{slot:%Y-%m-%d %H:%M} to {problem.until(slot):%Y-%m-%d %H:%M} UTC"
            try:
                result = score(problem, workspace, RunOptions(as_of=slot, backfill=True))
                _log.info("scored a missed slot: %s rows, %s", result.rows, window)
            except AutomlError as error:
                _log.warning("the missed slot %s could not be scored: %s", window, error)


def _approve_if_tagged(problem: Problem, workspace: Workspace, run: Runner) -> None:
    """Release the challenger awaiting approval if its version is tagged as approved in MLflow."""
    from automl.store import Store

    if Store(workspace).waiting(problem.name) is None:
        return
    from automl.review import approve_if_tagged  # heavy imports only then

    try:
        result = run(approve_if_tagged, problem, workspace)
    except UnreachableError as error:
        # a cycle that has ended needs no MLflow, any other finds out itself
        _log.warning("whether a version is tagged as approved is not known: %s", error)
        return
    if result is not None:
        _log.info(
            "version %s was approved by a tag in MLflow: %s", result.model_version, result.reason
        )
