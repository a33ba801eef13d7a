"""Deployments of problem files, served on the cron of each file until the process is stopped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import Flow, serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    StateType,
)
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.states import Crashed

from automl import __version__
from automl.problem import Problem, load_problem
from automl.report import deployments
from flows.pipelines import approvals, cycle, retrain, score

__all__ = ["make_deployments", "serve_problems"]

FLOWS: dict[str, Flow[..., Any]] = {
    "cycle": cycle,
    "retrain": retrain,
    "score": score,
    "approvals": approvals,
}
_log = logging.getLogger(__name__)


def make_deployments(problem: Problem) -> list[RunnerDeployment]:
    """`cycle/<problem>`, or `retrain/<problem>` and `score/<problem>`, on the problem's cron.

    And `approvals/<problem>` on the cron of `schedule.approvals`, if there is one.
    """
    found = [
        FLOWS[verb].to_deployment(
            name=problem.name,
            parameters={"file": str(problem.file)},
            schedule=Cron(cron, timezone=problem.schedule.timezone),
            tags=["automl", f"problem:{problem.name}"],
            version=__version__,
            description=problem.question or problem.name,
            # a courtesy: our own lock keeps two runs of a problem apart, with or without this
            concurrency_limit=ConcurrencyLimitConfig(
                limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
            ),
        )
        for verb, cron in deployments(problem)
    ]
    # for sync code none is a coroutine
    return [d for d in found if isinstance(d, RunnerDeployment)]


def serve_problems(files: Sequence[Path]) -> None:
    """Serve until stopped; first close the runs that a killed server left running."""
    problems = [load_problem(file) for file in files]
    _close_dead_runs([p.name for p in problems])
    # one cycle at a time: each uses every core
    serve(
        *(d for p in problems for d in make_deployments(p)),
        limit=1,
        pause_on_shutdown=False,
        print_starting_message=False,
    )


def _close_dead_runs(names: Sequence[str]) -> None:
    """A killed server leaves its runs in state Running for ever, and their slot taken."""
    with get_client(sync_client=True) as client:
        dead = client.read_flow_runs(
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=list(names))),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
            ),
        )
        for run in dead:
            client.set_flow_run_state(run.id, Crashed(message="its process died"), force=True)
            _log.warning("closed the dead run %s", run.name)
