"""The pipelines as Prefect flows: one task per step, retries and timeouts only on steps that reach out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from prefect.states import Completed

import automl.retrain
import automl.score
from automl.cycles.options import BACKWARDS, RunOptions, default_as_of
from automl.cycles.result import CycleResult
from automl.cycles.steps import Step, step
from automl.errors import AutomlError
from automl.problem import Problem, Span, load_problem
from automl.redaction import WithoutSecrets, redact
from automl.review import approve_if_tagged
from automl.store import Store
from automl.workspace import open_workspace

__all__ = ["approvals", "cycle", "retrain", "score"]

P = ParamSpec("P")
T = TypeVar("T")
IO_RETRIES = 2
IO_RETRY_SECONDS = 10
IO_TIMEOUT_SECONDS = 900  # a pull or an upload that takes longer is stuck
UNREACHABLE = 5  # exit code; other refusals would be refused again
apply_approvals = step("apply approvals", io=True)(approve_if_tagged)


def _retriable(_task: Any, _run: Any, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return not isinstance(error, AutomlError) or error.exit_code == UNREACHABLE


def as_task(step: Step[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a step of a cycle as a Prefect task; retries and a timeout if the step reaches out."""
    options: dict[str, Any] = {
        "name": step.name,
        "task_run_name": step.name,
        "persist_result": False,
        "cache_policy": NO_CACHE,
    }
    if step.io:
        options |= {
            "retries": IO_RETRIES,
            "retry_delay_seconds": IO_RETRY_SECONDS,
            "timeout_seconds": IO_TIMEOUT_SECONDS,
            "retry_condition_fn": _retriable,
        }

    def body() -> T:  # arguments stay out of Prefect: it would serialise and store them
        try:
            return step(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  raised again
            raise _as_shown(error) from None

    return task(**options)(body)()


def _as_shown(error: Exception) -> Exception:
    """The error as Prefect may log and store it; raised without its cause, whose text may hold a secret."""
    text = redact(str(error))
    if isinstance(error, AutomlError) or text == str(error):
        return error
    return AutomlError(f"{type(error).__name__}: {text}", code="unexpected")


def _run_name() -> str:
    given = flow_run.parameters
    try:
        problem = load_problem(given["file"])
    except AutomlError:  # the run reports what is wrong with it
        return f"{Path(given['file']).name} · {given.get('as_of') or 'newest slot'}"
    if "as_of" not in given:
        return f"{problem.name} · approvals"
    when = given["as_of"] or f"{_slot(problem, flow_run.flow_name or ''):%Y-%m-%d %H:%M}"
    return f"{problem.name} · {when}"


def _slot(problem: Problem, verb: str) -> datetime:
    """The slot that this run was scheduled for; the newest slot when a person started the run.

    Not the newest slot now: a run that starts late would take the slot of the next.
    """
    # Prefect's datetime type loses its zone in arithmetic
    moment = datetime.fromtimestamp(flow_run.scheduled_start_time.timestamp(), UTC)
    return default_as_of(problem, verb, moment)


def _forward_logs() -> None:
    """Show the engine's log lines with the run in Prefect, not only in the serving process."""
    logger = logging.getLogger("automl")
    logger.setLevel(logging.INFO)
    if any(isinstance(handler, APILogHandler) for handler in logger.handlers):
        return
    handler = APILogHandler()
    handler.setFormatter(WithoutSecrets())
    # a thread of ours belongs to no run: Prefect would warn that it cannot assign the line
    handler.addFilter(lambda _: bool(TaskRunContext.get() or FlowRunContext.get()))
    logger.addHandler(handler)


@flow(name="cycle", flow_run_name=_run_name, persist_result=False)
def cycle(file: str, as_of: str | None = None, budget: str | None = None) -> State[Any]:
    """Retrain and score one problem in a single commit.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
        as_of: Logical now in UTC, such as 2026-03-02; empty: the slot that the run is scheduled for.
        budget: Replaces sweep.budget, such as 90s or 5m.
    """
    return _pipeline("cycle", automl.score.cycle, file, as_of, budget)


@flow(name="retrain", flow_run_name=_run_name, persist_result=False)
def retrain(file: str, as_of: str | None = None, budget: str | None = None) -> State[Any]:
    """Retrain one problem and release its champion; predictions stay until the next score.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
        as_of: Logical now in UTC, such as 2026-03-02; empty: the slot that the run is scheduled for.
        budget: Replaces sweep.budget, such as 90s or 5m.
    """
    return _pipeline("retrain", automl.retrain.retrain, file, as_of, budget)


@flow(name="score", flow_run_name=_run_name, persist_result=False)
def score(file: str, as_of: str | None = None) -> State[Any]:
    """Publish the champion's predictions for the coming rows of one problem.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
        as_of: Logical now in UTC, such as 2026-03-02; empty: the slot that the run is scheduled for.
    """
    return _pipeline("score", automl.score.score, file, as_of, None)


@flow(name="approvals", flow_run_name=_run_name, persist_result=False)
def approvals(file: str) -> State[Any]:
    """Release the challenger that awaits approval, if its version has the tag `approved` in MLflow.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
    """
    _forward_logs()
    done = as_task(apply_approvals, load_problem(file), open_workspace(Path(file)))
    if done is None:
        return Completed(name="Skipped", message="no challenger was approved")
    return _final_state(done)


def _pipeline(
    verb: str,
    pipeline: Callable[..., CycleResult],
    file: str,
    as_of: str | None,
    budget: str | None,
) -> State[Any]:
    _forward_logs()
    problem = load_problem(file)
    if as_of:
        parsed = datetime.fromisoformat(as_of)
        moment = parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    else:
        moment = _slot(problem, verb)
    options = RunOptions(
        as_of=moment, budget=Span.parse(budget) if budget else None, trigger="prefect"
    )
    try:
        workspace = open_workspace(Path(file))
        if Store(workspace).waiting(problem.name) is not None:
            as_task(apply_approvals, problem, workspace)
        return _final_state(pipeline(problem, workspace, options, run=as_task))
    except AutomlError as error:
        if error.code == BACKWARDS and not as_of:  # a newer run has ended before this late run
            return Completed(name="Skipped", message=str(error))
        get_run_logger().error("%s\nnext: %s", error, error.next_step or "-")
        raise error from None
    except Exception as error:  # noqa: BLE001  raised again
        raise _as_shown(error) from None


def _final_state(result: CycleResult) -> State[Any]:
    """The flow's final state, named after the cycle's status; the decision becomes an artifact."""
    name = result.problem.name
    lines = [
        f"**{name} as of {result.as_of:%Y-%m-%d %H:%M}: {result.status}**",
        "",
        f"- {result.reason}",
    ]
    if result.model_version:
        lines.append(f"- champion: version {result.model_version}, MLflow run `{result.run_id}`")
    if result.generation:
        lines.append(
            f"- predictions: {result.rows} rows, generation {result.generation}, table `{result.problem.table}`"
        )
    create_markdown_artifact("\n".join(lines), key=f"decision-{name.lower().replace('_', '-')}")
    return Completed(
        name="Skipped" if result.already else result.status.capitalize(),
        message=f"v{result.model_version} · {result.rows or 0} rows · {result.reason}"[:500],
    )
