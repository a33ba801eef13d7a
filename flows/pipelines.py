"""The stories as flows: one task per step, retries and timeouts on the steps that reach out only."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from prefect.states import Completed

from automl.cycles.options import BACKWARDS, CycleResult, RunOptions, default_as_of
from automl.errors import AutomlError
from automl.problem import Problem, Span, load_problem
from automl.retrain import pipeline as retrain_room
from automl.review import approve_if_tagged
from automl.score import pipeline as score_room
from automl.store import Store
from automl.workspace import open_workspace

__all__ = ["approvals", "cycle", "retrain", "score"]

T = TypeVar("T")
IO_RETRIES = 2
IO_RETRY_SECONDS = 10
IO_TIMEOUT_SECONDS = 900  # a pull or an upload that takes longer is stuck
MOST_RETRIED_CODE = 5  # only an unreachable server is worth another try; refused data stays refused


def _retriable(_task: Any, _run: Any, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return not isinstance(error, AutomlError) or error.exit_code == MOST_RETRIED_CODE


def _as_task(name: str, step: Callable[..., T], *args: Any, io: bool = False) -> T:
    """Run a step of a story as a Prefect task."""
    named: dict[str, Any] = {
        "name": name,
        "task_run_name": name,
        "persist_result": False,
        "cache_policy": NO_CACHE,
    }
    more: dict[str, Any] = (
        {
            "retries": IO_RETRIES,
            "retry_delay_seconds": IO_RETRY_SECONDS,
            "timeout_seconds": IO_TIMEOUT_SECONDS,
            "retry_condition_fn": _retriable,
        }
        if io
        else {}
    )

    def body() -> T:  # the arguments stay out of Prefect: nothing is serialised, searched or stored
        return step(*args)

    return task(**named, **more)(body)()


def _run_name() -> str:
    given = flow_run.parameters
    try:
        problem = load_problem(given["file"])
    except AutomlError:  # the run will say what is wrong with it
        return f"{Path(given['file']).name} · {given.get('as_of') or 'newest slot'}"
    if "as_of" not in given:
        return f"{problem.name} · approvals"
    when = given["as_of"] or f"{_slot(problem, flow_run.flow_name or ''):%Y-%m-%d %H:%M}"
    return f"{problem.name} · {when}"


def _slot(problem: Problem, verb: str) -> datetime:
    """The slot that this run was scheduled for; of a run that a person started, the newest one then.

    Not the newest slot of the present moment: a run that starts late would take another one's.
    """
    # Prefect's own kind of datetime loses its zone in arithmetic
    moment = datetime.fromtimestamp(flow_run.scheduled_start_time.timestamp(), UTC)
    return default_as_of(problem, verb, moment)


def _listen() -> None:
    """Show what the rooms say with the run, not only on the screen of the process that serves it."""
    rooms = logging.getLogger("automl")
    rooms.setLevel(logging.INFO)
    if any(isinstance(handler, APILogHandler) for handler in rooms.handlers):
        return
    handler = APILogHandler()
    # a thread of ours belongs to no run: Prefect would warn that it does not know where to put the line
    handler.addFilter(lambda _: bool(TaskRunContext.get() or FlowRunContext.get()))
    rooms.addHandler(handler)


@flow(name="cycle", flow_run_name=_run_name, persist_result=False)
def cycle(file: str, as_of: str | None = None, budget: str | None = None) -> State[Any]:
    """Retrain and score one problem in a single commit.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
        as_of: Logical now in UTC, such as 2026-03-02; empty: the slot that the run is scheduled for.
        budget: Instead of sweep.budget, such as 90s or 5m.
    """
    return _pipeline("cycle", score_room.cycle, file, as_of, budget)


@flow(name="retrain", flow_run_name=_run_name, persist_result=False)
def retrain(file: str, as_of: str | None = None, budget: str | None = None) -> State[Any]:
    """Retrain one problem and release its champion; predictions stay until the next score.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
        as_of: Logical now in UTC, such as 2026-03-02; empty: the slot that the run is scheduled for.
        budget: Instead of sweep.budget, such as 90s or 5m.
    """
    return _pipeline("retrain", retrain_room.retrain, file, as_of, budget)


@flow(name="score", flow_run_name=_run_name, persist_result=False)
def score(file: str, as_of: str | None = None) -> State[Any]:
    """Publish the champion's predictions for the coming rows of one problem.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
        as_of: Logical now in UTC, such as 2026-03-02; empty: the slot that the run is scheduled for.
    """
    return _pipeline("score", score_room.score, file, as_of, None)


@flow(name="approvals", flow_run_name=_run_name, persist_result=False)
def approvals(file: str) -> State[Any]:
    """Release the challenger that waits, if somebody has set the tag `approved` on it in MLflow.

    Args:
        file: Path of the problem file on the machine that serves this deployment.
    """
    _listen()
    done = _as_task(
        "heed approvals", approve_if_tagged, load_problem(file), open_workspace(Path(file)), io=True
    )
    return Completed(name="Skipped", message="nobody was approved") if done is None else _tell(done)


def _pipeline(
    verb: str,
    pipeline: Callable[..., CycleResult],
    file: str,
    as_of: str | None,
    budget: str | None,
) -> State[Any]:
    _listen()
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
            _as_task("heed approvals", approve_if_tagged, problem, workspace, io=True)
        return _tell(pipeline(problem, workspace, options, run=_as_task))
    except AutomlError as error:
        if error.code == BACKWARDS and not as_of:  # the run came so late that a newer one has ended
            return Completed(name="Skipped", message=str(error))
        get_run_logger().error("%s\nnext: %s", error, error.next_step or "-")
        raise


def _tell(result: CycleResult) -> State[Any]:
    """The flow's last state says how the cycle ended; the decision becomes an artifact."""
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
    word = "Skipped" if result.already else result.status.capitalize()
    return Completed(
        name=word,
        message=f"v{result.model_version} · {result.rows or 0} rows · {result.reason}"[:500],
    )
