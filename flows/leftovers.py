"""Runs that Prefect shows as running although their process has gone: they end as their cycle ended."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Completed, Crashed, Failed

from automl.errors import AutomlError
from automl.store import Cycle, Store
from automl.workspace import now
from flows.deployed import Deployed, Opened
from flows.moments import as_of_of, utc
from flows.tasks import one_line

__all__ = ["close_leftovers", "close_run", "owner_of"]

UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
UNOWNED = timedelta(seconds=60)  # in which a run that was started has the number of its process
_log = logging.getLogger(__name__)


def owner_of(pid: int) -> str:
    """Machine, process and its start: what a run is owned by. A number alone may be given again."""
    return f"{socket.gethostname()}:{pid}:{_started(pid)}"


def close_leftovers(
    client: SyncPrefectClient, deployed: Sequence[Deployed], busy: Collection[UUID]
) -> None:
    """Close the runs under way, other than `busy`, whose process has gone."""
    by_id = {d.id: d for d in deployed}
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=list(by_id)),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY)),
    )
    for run in client.read_flow_runs(flow_run_filter=wanted):
        if run.id not in busy and run.deployment_id in by_id and _abandoned(run):
            close_run(client, run, by_id[run.deployment_id])


def close_run(client: SyncPrefectClient, run: FlowRun, deployed: Deployed) -> None:
    """End a run whose process has ended, unless it has reported its end."""
    if run.state is None or run.state.type not in UNDER_WAY:
        return
    state = _final_state(run, deployed)
    client.set_flow_run_state(run.id, state, force=True)
    _log.warning("closed the run %s, whose process has gone: %s", run.name, state.name)


def _abandoned(run: FlowRun) -> bool:
    """Whether the process of a run has gone; of another machine, its own serving process knows."""
    host, _, process = (run.infrastructure_pid or "").rpartition(":")[0].rpartition(":")
    if not process.isdigit():
        since = utc(run.state.timestamp) if run.state else now()
        return now() - since > UNOWNED
    return host == socket.gethostname() and owner_of(int(process)) != run.infrastructure_pid


def _started(pid: int) -> str:
    """When a process started, in ticks since the machine did; `-` if there is none, and where that is unknown."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "-" if fields[0] == "Z" else fields[19]
    if not Path("/proc/self").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return "-"
        return "0"
    return "-"


def _final_state(run: FlowRun, deployed: Deployed) -> State[Any]:
    if run.state is not None and run.state.type == StateType.CANCELLING:
        return Cancelled(message="cancelled")
    cycle = _cycle(run, deployed)
    if cycle is not None and cycle.ended:
        return Completed(message=one_line(f"{cycle.status} · {cycle.reason}"))
    if cycle is not None and cycle.status in ("refused", "failed") and _since(cycle, run):
        return Failed(message=one_line(f"{cycle.status}: {cycle.reason}"))
    return Crashed(message="its process died; a slot that is still the newest is run again")


def _cycle(run: FlowRun, deployed: Deployed) -> Cycle | None:
    """The run's cycle in the store; None if there is none, or the store cannot be read now."""
    opened = Opened.of(deployed)
    if opened is None or run.expected_start_time is None:
        return None
    verb = "score" if deployed.verb == "score" else "retrain"
    try:
        moment = utc(run.expected_start_time)
        as_of = as_of_of(opened.problem, deployed.verb, run.parameters, moment)
        return Store(opened.workspace).find_cycle(opened.problem.name, verb, as_of)
    except AutomlError:
        return None


def _since(cycle: Cycle, run: FlowRun) -> bool:
    """Whether the cycle was worked on in this run."""
    return run.start_time is not None and cycle.started_at >= utc(run.start_time) - UNOWNED
