"""The pipelines as Prefect flows: what a run is called, how its steps are shown, and in which state it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from prefect import Flow, flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from automl.api.arguments import duration
from automl.api.running import Verb, run_verb
from automl.cycles.options import BACKWARDS, RunOptions
from automl.cycles.result import CycleResult
from automl.errors import AutomlError, BusyError, ProblemError
from automl.problem import Problem, load_problem
from automl.report import in_effect
from automl.review import approve_if_tagged
from automl.workspace import Workspace, now, open_workspace
from flows.artifacts import show_failure, show_result
from flows.logs import Findings, forward_logs
from flows.moments import as_of_of, name_of, run_name, utc
from flows.progress import followed
from flows.tasks import as_shown, as_task, failed_state, one_line
from flows.watching import watched_state

__all__ = ["FLOWS", "approvals", "cycle", "monitor", "retrain", "score"]

Plan = Literal["auto", "refit", "warm", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The parameters of a run beyond its file."""

    as_of: datetime | None = None
    budget: str | None = None
    plan: Plan = "auto"
    again: bool = False
    reason: str = ""
    backfill: bool = False
    event: str = ""

    def options(self, problem: Problem, verb: str) -> RunOptions:
        """As a command has them."""
        given = {"as_of": self.as_of, "event": self.event}
        return RunOptions(
            as_of=as_of_of(problem, verb, given, utc(flow_run.scheduled_start_time)),
            budget=duration(self.budget or None, "budget"),
            plan=self.plan,
            again=self.again,
            reason=self.reason,
            backfill=self.backfill,
            trigger="event" if self.event else "prefect",
        )

    @property
    def of_the_schedule(self) -> bool:
        """Whether the run has the as_of of its slot."""
        return self.as_of is None and not self.event


def _run_name() -> str:
    """Problem and as_of; for a problem file that cannot be read, its name and the time of the run."""
    given, moment = flow_run.parameters, utc(flow_run.scheduled_start_time)
    try:
        return name_of(load_problem(given["file"]), flow_run.flow_name or "", given, moment)
    except AutomlError:  # the run reports what is wrong
        return run_name(Path(given["file"]).name, moment)


@flow(name="cycle", flow_run_name=_run_name, persist_result=False)
def cycle(
    file: str,
    as_of: datetime | None = None,
    budget: str | None = None,
    plan: Plan = "auto",
    again: bool = False,
    reason: str = "",
    backfill: bool = False,
    event: str = "",
) -> State[Any]:
    """Retrain and score one problem in a single commit.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
        as_of: The time the cycle pretends it is, UTC without an offset. Empty: the slot that the run is scheduled for.
        budget: Replaces sweep.budget, such as 90s or 5m.
        plan: How much to search. Auto: by what has changed, or as retraining.when says.
        again: Run a finished cycle again; needs a reason.
        reason: Recorded with the decision of a cycle that runs again.
        backfill: Fill in a cycle older than the newest one.
        event: Name of the event that started the run. Its as_of is then the minute of the run, not a slot.
    """
    wanted = _Wanted(
        as_of=as_of,
        budget=budget,
        plan=plan,
        again=again,
        reason=reason,
        backfill=backfill,
        event=event,
    )
    return _pipeline("cycle", file, wanted)


@flow(name="retrain", flow_run_name=_run_name, persist_result=False)
def retrain(
    file: str,
    as_of: datetime | None = None,
    budget: str | None = None,
    plan: Plan = "auto",
    again: bool = False,
    reason: str = "",
    backfill: bool = False,
    event: str = "",
) -> State[Any]:
    """Retrain one problem and release its champion; predictions stay until the next score.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
        as_of: The time the cycle pretends it is, UTC without an offset. Empty: the slot that the run is scheduled for.
        budget: Replaces sweep.budget, such as 90s or 5m.
        plan: How much to search. Auto: by what has changed, or as retraining.when says.
        again: Run a finished cycle again; needs a reason.
        reason: Recorded with the decision of a cycle that runs again.
        backfill: Fill in a cycle older than the newest one.
        event: Name of the event that started the run. Its as_of is then the minute of the run, not a slot.
    """
    wanted = _Wanted(
        as_of=as_of,
        budget=budget,
        plan=plan,
        again=again,
        reason=reason,
        backfill=backfill,
        event=event,
    )
    return _pipeline("retrain", file, wanted)


@flow(name="score", flow_run_name=_run_name, persist_result=False)
def score(
    file: str,
    as_of: datetime | None = None,
    again: bool = False,
    reason: str = "",
    backfill: bool = False,
) -> State[Any]:
    """Publish the champion's predictions for the coming rows of one problem.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
        as_of: The time the cycle pretends it is, UTC without an offset. Empty: the slot that the run is scheduled for.
        again: Score a finished batch again; needs a reason.
        reason: Recorded with the decision of a cycle that runs again.
        backfill: Fill in a cycle older than the newest one.
    """
    wanted = _Wanted(as_of=as_of, again=again, reason=reason, backfill=backfill)
    return _pipeline("score", file, wanted)


@flow(name="approvals", flow_run_name=_run_name, persist_result=False)
def approvals(file: str) -> State[Any]:
    """Release the challenger that awaits approval, if its version has the tag `approved` in MLflow.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
    """

    def body(problem: Problem, workspace: Workspace, findings: Findings) -> State[Any]:
        done = as_task(approve_if_tagged, problem, workspace)
        if done is None:
            return Completed(name="Skipped", message="no challenger was approved")
        return _final_state(done, workspace, findings)

    return _reported(file, body)


@flow(name="monitor", flow_run_name=_run_name, persist_result=False)
def monitor(file: str, as_of: datetime | None = None) -> State[Any]:
    """Measure published predictions on the labels that have arrived, watch the newest rows, and send events.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
        as_of: The time the run pretends it is, UTC without an offset. Empty: the slot that it is scheduled for.
    """
    wanted = _Wanted(as_of=as_of)

    def body(problem: Problem, workspace: Workspace, findings: Findings) -> State[Any]:
        try:
            return watched_state(problem, workspace, wanted.options(problem, "monitor"), findings)
        except BusyError as error:
            if not _is_no_failure(error, wanted):
                raise
            return Completed(name="Skipped", message=one_line(str(error)))

    return _reported(file, body)


FLOWS: Mapping[str, Flow[..., Any]] = {
    "cycle": cycle,
    "retrain": retrain,
    "score": score,
    "approvals": approvals,
    "monitor": monitor,
}


def _pipeline(verb: Verb, file: str, wanted: _Wanted) -> State[Any]:
    def body(problem: Problem, workspace: Workspace, findings: Findings) -> State[Any]:
        options = wanted.options(problem, verb)
        try:
            with followed(problem, workspace):
                result = run_verb(
                    problem,
                    workspace,
                    verb,
                    options,
                    run=as_task,
                    catch_up=wanted.of_the_schedule,
                )
        except (ProblemError, BusyError) as error:
            if not _is_no_failure(error, wanted):
                raise
            return Completed(name="Skipped", message=one_line(str(error)))
        return _final_state(result, workspace, findings)

    return _reported(file, body)


def _is_no_failure(error: AutomlError, wanted: _Wanted) -> bool:
    """Whether a run without an as_of of its own is not needed: a newer one has ended, or another one is at work."""
    return wanted.as_of is None and (error.code == BACKWARDS or isinstance(error, BusyError))


def _reported(file: str, body: Callable[[Problem, Workspace, Findings], State[Any]]) -> State[Any]:
    """The state that `body` returns; of a refusal, a failed state with its sentence, and no traceback."""
    findings, began = forward_logs(), now()
    try:
        return body(load_problem(file), open_workspace(Path(file)), findings)
    except AutomlError as error:
        return _failed_state(file, error, began)
    except Exception as error:  # noqa: BLE001  raised again
        raise as_shown(error) from None


def _final_state(result: CycleResult, workspace: Workspace, findings: Findings) -> State[Any]:
    """The flow's final state; its message begins with how the cycle ended."""
    for warning in result.warnings:
        findings.add(warning)
    show_result(result, workspace, findings.rows)
    facts = [
        f"{result.status} before" if result.already else result.status,
        f"v{result.model_version}" if result.model_version else "",
        f"{result.rows} rows" if result.rows else "",
        result.reason,
    ]
    message = one_line(" · ".join(fact for fact in facts if fact))
    return (
        Completed(name="Skipped", message=message) if result.already else Completed(message=message)
    )


def _failed_state(file: str, error: AutomlError, began: datetime) -> State[Any]:
    """The flow's final state after a refusal: one line; the whole message goes to log and artifact."""
    next_step = error.next_step.replace(" FILE", f" {file}")
    name, unchanged, changed = Path(file).stem, "", False
    try:
        problem = load_problem(file)
        name = problem.name
        unchanged, changed = in_effect(problem, open_workspace(Path(file)), began)
    except Exception:  # noqa: BLE001  what is in effect cannot be read, whatever the reason
        unchanged = "champion and predictions, as far as can be seen"
    effect = f"{'in effect' if changed else 'unchanged'}: {unchanged}"
    get_run_logger().error("%s\n%s\nnext: %s", error, effect, next_step or "-")
    show_failure(name, str(error), unchanged=unchanged, next_step=next_step)
    return failed_state(error)
