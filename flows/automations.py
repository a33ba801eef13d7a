"""Automations on Prefect's server that start a retraining when something has happened to a problem."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from automl.errors import ProblemError
from automl.problem import Problem, load_problem
from automl.report import deployments
from flows.deployed import apply, make_deployments
from flows.events import EVENTS, resource_of
from flows.servers import connected, require_server

__all__ = ["automations", "install", "uninstall"]

RETRAINING = ("cycle", "retrain")


def automations(problem: Problem, verb: str, deployment: UUID) -> list[AutomationCore]:
    """One automation per event, each of which runs the deployment that retrains the problem."""
    return [
        AutomationCore(
            name=_name(problem.name, event),
            description=f"Retrain {problem.name}: {about}.",
            enabled=True,
            trigger=EventTrigger(
                expect={event},
                match={"prefect.resource.id": resource_of(problem.name)},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[
                RunDeployment(
                    source="selected",
                    job_variables=None,
                    deployment_id=deployment,
                    parameters={
                        "event": event.partition(".")[2],
                        # an event may name a plan; the policy of the problem decides otherwise
                        "plan": {
                            "__prefect_kind": "jinja",
                            "template": "{{ event.payload.plan | default('auto', true) }}",
                        },
                    },
                )
            ],
            tags=["automl", f"problem:{problem.name}", verb],
        )
        for event, about in EVENTS.items()
    ]


def install(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Create or update the automations of problem files, and the deployments that they run.

    Raises
    ------
    ProblemError
        A file cannot be read, or has no schedule that retrains.
    UnreachableError
        Prefect's server does not respond, or refuses the login.
    """
    require_server()
    problems = [load_problem(file) for file in files]
    verbs = {p.name: _retraining(p) for p in problems}
    found: list[dict[str, Any]] = []
    with connected() as client:
        for problem in problems:
            verb = verbs[problem.name]
            deployment = _deployment(client, problem, verb)
            for wanted in automations(problem, verb, deployment):
                found.append(_installed(client, problem, wanted))
    return found


def uninstall(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Remove the automations of problem files; deployments and their schedules stay.

    Raises
    ------
    UnreachableError
        Prefect's server does not respond, or refuses the login.
    """
    require_server()
    found: list[dict[str, Any]] = []
    with connected() as client:
        for problem in [load_problem(file) for file in files]:
            for event in EVENTS:
                for present in client.read_automations_by_name(_name(problem.name, event)):
                    client.delete_automation(present.id)
                    found.append(_document(problem, present.name, event, "removed"))
    return found


def _name(problem: str, event: str) -> str:
    return f"automl · {problem} · {event.partition('.')[2]}"


def _retraining(problem: Problem) -> str:
    """The verb of the deployment that retrains."""
    verb = next((verb for verb, _ in deployments(problem) if verb in RETRAINING), None)
    if verb is None:
        raise ProblemError(
            f"{problem.file.name}: found no schedule.retrain; wanted one, because events start a retraining",
            code="no_schedule",
            next_step="Add retrain = to [schedule].",
        )
    return verb


def _deployment(client: SyncPrefectClient, problem: Problem, verb: str) -> UUID:
    """The deployment that retrains; created if the schedule was never served."""
    try:
        return client.read_deployment_by_name(f"{verb}/{problem.name}").id
    except ObjectNotFound:
        return apply(next(d for v, d in make_deployments(problem) if v == verb))


def _installed(
    client: SyncPrefectClient, problem: Problem, wanted: AutomationCore
) -> dict[str, Any]:
    event = next(iter(wanted.trigger.expect))  # type: ignore[union-attr]
    present = client.read_automations_by_name(wanted.name)
    for twice in present[1:]:
        client.delete_automation(twice.id)
    if not present:
        client.create_automation(wanted)
        return _document(problem, wanted.name, event, "created")
    client.update_automation(present[0].id, wanted)
    return _document(problem, wanted.name, event, "updated")


def _document(problem: Problem, name: str, event: str, done: str) -> dict[str, Any]:
    return {
        "problem": problem.name,
        "automation": name,
        "event": event,
        "resource": resource_of(problem.name),
        "done": done,
    }
