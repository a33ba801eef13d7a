"""The process that serves schedules: it starts runs when they are due, one at a time, and leaves none behind.

The store is the truth. Prefect says which runs are scheduled; a slot that Prefect has lost, or whose run died, is
run again, and runs of slots that newer ones have replaced end at once. While Prefect's server is away the
process waits, and a run that is under way goes on.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.deployments.runner import DeploymentApplyError
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)
from prefect.states import Cancelled, Pending

import flows
from automl.errors import AutomlError
from automl.workspace import now
from flows.arrivals import emit_arrivals
from flows.deployed import Deployed, deploy, still_deployed
from flows.leftovers import close_leftovers, close_run, owner_of
from flows.servers import denied
from flows.triage import Due, due_runs

__all__ = ["serve"]

LOOK_SECONDS = 0.2  # between two looks at a run's process
PATIENCE_SECONDS = 10.0  # of a run that was asked to end
REQUEST_SECONDS = 10.0  # a server that hangs is away
GAP = 3  # polls; after a longer time without one, slots in between were not served
_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Work:
    """The run that is under way."""

    run: FlowRun
    deployed: Deployed
    process: subprocess.Popen[bytes]
    asked_to_end: float | None = None  # monotonic


@dataclass(slots=True, kw_only=True)
class _Serving:
    """What one serving process knows from one poll to the next."""

    files: Sequence[Path]
    poll: float
    since: datetime  # served without a gap since then
    polled: datetime
    deployed: list[Deployed] = field(default_factory=list)
    work: _Work | None = None
    away: bool = False


def serve(files: Sequence[Path]) -> None:
    """Serve the problem files until a signal stops the process.

    Raises
    ------
    UnreachableError
        Prefect's server refuses the login.
    AutomlError
        A problem file cannot be read at the start.
    """
    poll = float(get_current_settings().runner.poll_frequency)
    serving = _Serving(files=files, poll=poll, since=now(), polled=now())
    # a poll that fails is repeated by the next; runs keep Prefect's own retries
    quick = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: REQUEST_SECONDS}
    with temporary_settings(quick), get_client(sync_client=True) as client:
        try:
            while True:
                _poll(serving, client)
                _wait(serving)
        finally:
            _stop(serving, client)


def _poll(serving: _Serving, client: SyncPrefectClient) -> None:
    _note_gap(serving)
    try:
        _look(serving, client)
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (401, 403):
            raise denied(error) from None
        _away(serving, error)
    except (httpx.TransportError, DeploymentApplyError) as error:
        _away(serving, error)
    except (AutomlError, OSError) as error:  # of one problem; its own runs say it too
        _log.warning("%s", error)
    else:
        if serving.away:
            serving.away, serving.since = False, now()
            _log.info("Prefect's server responds again")
    serving.polled = now()


def _note_gap(serving: _Serving) -> None:
    """Note that slots since the last poll were not served, if this process has slept."""
    moment = now()
    if moment - serving.polled > GAP * timedelta(seconds=serving.poll):
        serving.since = moment
        slept = f"{serving.polled:%Y-%m-%d %H:%M:%S} to {moment:%H:%M:%S}"
        _log.info("not served from %s UTC: this process was asleep", slept)


def _look(serving: _Serving, client: SyncPrefectClient) -> None:
    """One poll: deployments, leftovers, slots, and the next run if none is under way."""
    if not serving.deployed or not still_deployed(client, serving.deployed):
        serving.deployed = deploy(client, serving.files)
    work = serving.work
    if work is not None:
        _end_if_cancelled(work, client)
    if work is not None and work.process.poll() is not None:
        close_run(client, client.read_flow_run(work.run.id), work.deployed)
        serving.work = None
    work = serving.work
    close_leftovers(client, serving.deployed, {work.run.id} if work else set())
    busy = work.deployed.name if work else ""
    due = due_runs(client, serving.deployed, since=serving.since, busy=busy)
    emit_arrivals(client, serving.deployed)
    for found in due if serving.work is None else ():
        serving.work = _start(found, client)
        if serving.work is not None:
            return


def _start(due: Due, client: SyncPrefectClient) -> _Work | None:
    """Start the process of a run, unless another serving process has taken it."""
    if client.set_flow_run_state(due.run.id, Pending()).status != SetStateStatus.ACCEPT:
        return None
    file = str(due.run.parameters.get("file") or due.deployed.file)
    home = str(Path(flows.__file__).parents[1])
    path = os.pathsep.join(p for p in (home, os.environ.get("PYTHONPATH", "")) if p)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.run", str(due.run.id), file],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    due.deployed.started = time.monotonic()
    with suppress(httpx.HTTPError):  # the process runs; it is known here
        client.update_flow_run(due.run.id, infrastructure_pid=owner_of(process.pid))
    _log.info("started the run %s", due.run.name)
    return _Work(run=due.run, deployed=due.deployed, process=process)


def _end_if_cancelled(work: _Work, client: SyncPrefectClient) -> None:
    """End a run that was cancelled on Prefect's pages."""
    run = client.read_flow_run(work.run.id)
    if run.state is None or not run.state.is_cancelling():
        return
    if work.asked_to_end is None:
        work.asked_to_end = time.monotonic()
        _signal(work, signal.SIGTERM)
    elif time.monotonic() - work.asked_to_end > PATIENCE_SECONDS:
        _signal(work, signal.SIGKILL)
    if work.process.poll() is not None:
        client.set_flow_run_state(
            run.id, Cancelled(message="cancelled; nothing changed"), force=True
        )


def _wait(serving: _Serving) -> None:
    """Until the next poll is due, or a run has ended."""
    until = time.monotonic() + serving.poll
    while time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        if (
            serving.work is not None
            and serving.work.process.poll() is not None
            and not serving.away
        ):
            return


def _away(serving: _Serving, error: Exception) -> None:
    if not serving.away:
        _log.warning("Prefect's server does not respond, waiting for it: %s", error)
    serving.away = True


def _stop(serving: _Serving, client: SyncPrefectClient) -> None:
    """End the run that is under way; its cycle closes itself, and its slot is run again at the next start."""
    work = serving.work
    if work is None or work.process.poll() is not None:
        return
    _signal(work, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        work.process.wait(PATIENCE_SECONDS)
    _signal(work, signal.SIGKILL)
    work.process.wait()
    with suppress(httpx.HTTPError):
        close_run(client, client.read_flow_run(work.run.id), work.deployed)


def _signal(work: _Work, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(work.process.pid, number)
