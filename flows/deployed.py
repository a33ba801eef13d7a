"""The deployments of problem files on Prefect's server, one per cron line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from automl import __version__
from automl.errors import AutomlError
from automl.problem import Problem, load_problem
from automl.report import deployments
from automl.workspace import Workspace, export_settings, open_workspace
from flows.pipelines import FLOWS

__all__ = ["Deployed", "Opened", "apply", "deploy", "make_deployments", "still_deployed"]

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Deployed:
    """One deployment that is served, as the server last showed it."""

    id: UUID
    verb: str
    name: str  # of the problem
    file: Path
    edited: float  # when the file was last written
    created: float = 0.0  # when the server first had it
    active: bool = True  # neither it nor its schedule is paused
    started: float = 0.0  # when its last run was started here, monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A problem file as it is now, with its workspace."""

    problem: Problem
    workspace: Workspace

    @classmethod
    def of(cls, deployed: Deployed) -> Opened | None:
        """None if the file cannot be read now: its runs say why."""
        try:
            export_settings(deployed.file.parent)
            return cls(problem=load_problem(deployed.file), workspace=open_workspace(deployed.file))
        except AutomlError:
            return None


def make_deployments(problem: Problem) -> list[tuple[str, RunnerDeployment]]:
    """(verb, deployment) of each cron line of a problem.

    `cycle/<problem>`, or `retrain/<problem>` and `score/<problem>`; and `approvals/<problem>` and
    `monitor/<problem>`, if their lines are there.
    """
    found: list[tuple[str, RunnerDeployment]] = []
    for verb, cron in deployments(problem):
        made = FLOWS[verb].to_deployment(
            name=problem.name,
            parameters={"file": str(problem.file)},
            schedule=Cron(cron, timezone=problem.schedule.timezone),
            tags=["automl", f"problem:{problem.name}", verb],
            version=__version__,
            description=problem.question or problem.name,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        if isinstance(made, RunnerDeployment):  # for sync code none is a coroutine
            found.append((verb, made))
    return found


def deploy(client: SyncPrefectClient, files: Sequence[Path]) -> list[Deployed]:
    """Create or update the deployments of problem files.

    Raises
    ------
    ProblemError
        A file cannot be read, or has no schedule.
    """
    found: list[Deployed] = []
    for file in files:
        edited = file.stat().st_mtime
        problem = load_problem(file)
        for verb, deployment in make_deployments(problem):
            found.append(
                Deployed(
                    id=apply(deployment), verb=verb, name=problem.name, file=file, edited=edited
                )
            )
    still_deployed(client, found)
    return found


def apply(deployment: RunnerDeployment) -> UUID:
    """Create or update a deployment on the server; returns its id."""
    made = deployment.apply()
    if not isinstance(made, UUID):
        raise TypeError("for sync code it is no coroutine")
    return made


def still_deployed(client: SyncPrefectClient, deployed: Sequence[Deployed]) -> bool:
    """Whether the server still has all of them, and their files are unchanged; notes which are paused.

    A file that has become unreadable counts as unchanged: its runs say what is wrong.
    """
    wanted = DeploymentFilter(id=DeploymentFilterId(any_=[d.id for d in deployed]))
    present = {d.id: d for d in client.read_deployments(deployment_filter=wanted)}
    for one in deployed:
        if one.id in present:
            _note(one, present[one.id])
    return len(present) == len(deployed) and not any(_edited(d) for d in deployed)


def _note(deployed: Deployed, response: DeploymentResponse) -> None:
    active = [schedule.active for schedule in response.schedules]
    deployed.active = not response.paused and (any(active) or not active)
    deployed.created = response.created.timestamp() if response.created else 0.0


def _edited(deployed: Deployed) -> bool:
    try:
        edited = deployed.file.stat().st_mtime
        if edited == deployed.edited:
            return False
        deployed.edited = edited
        deployments(load_problem(deployed.file))
    except (OSError, AutomlError) as error:
        _log.warning("%s is served as it was: %s", deployed.file, error)
        return False
    return True
