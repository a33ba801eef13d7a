"""Which runs are due: the newest slot of each deployment, also one that Prefect has lost; runs of older slots end as skipped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Completed, Scheduled

from automl.cycles.missed import NewestSlot, newest_slot
from automl.errors import AutomlError
from automl.store import Store
from automl.workspace import now
from flows.deployed import Deployed, Opened
from flows.moments import PIPELINES, name_of, utc

__all__ = ["MADE_UP", "Due", "due_runs", "next_attempt"]

MADE_UP = "made-up"  # the tag of runs of slots that Prefect has lost
SKIPPED_AT_ONCE = 50  # runs per poll
NAMED = 3  # coming runs of each deployment that have their name before they start
# seconds until a slot whose runs have died, or found something out of reach, is run again
WAITS = (10, 60, 300, 900)
LAST_WAIT = 3600
ATTEMPTS = 12
# names of the states after which the same slot may be run again
AGAIN = ("Crashed", "TimedOut")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A run to start now."""

    run: Any  # a flow run of Prefect's server
    deployed: Deployed


def due_runs(
    client: SyncPrefectClient,
    deployed: Sequence[Deployed],
    *,
    since: datetime,
    busy: str = "",
) -> list[Due]:
    """Runs to start now: of the deployment that has waited longest first, so that none starves behind another.

    Parameters
    ----------
    busy
        The problem of the run that is under way: whether its slot is done, its end will show.
    since
        From when on this process has served without a gap: with `catch_up = "none"`, no earlier slot is run.
    """
    moment = now()
    by_id = {d.id: d for d in deployed}
    waiting: dict[Any, list[Any]] = {identifier: [] for identifier in by_id}
    for run in client.get_scheduled_flow_runs_for_deployments(list(by_id), scheduled_before=moment):
        waiting[run.deployment_id].append(run)
    found: list[Due] = []
    for identifier, one in by_id.items():
        opened = Opened.of(one)
        runs = waiting[identifier]
        if opened is not None:
            runs = _newest_alone(client, one, opened, runs, since=since, moment=moment)
            if one.name != busy:
                runs += _lost_run(client, one, opened, runs, since=since, moment=moment)
        found += [Due(run=run, deployed=one) for run in runs]
    _name_coming(client, deployed)
    return sorted(found, key=lambda due: (due.deployed.started, due.run.expected_start_time))


def _of_the_schedule(run: Any) -> bool:
    """Whether a run is of a slot; others were started by a person, an event or a call."""
    return bool(run.auto_scheduled) or MADE_UP in run.tags


def _newest_alone(
    client: SyncPrefectClient,
    deployed: Deployed,
    opened: Opened,
    runs: Sequence[Any],
    *,
    since: datetime,
    moment: datetime,
) -> list[Any]:
    """The runs that are to be started; those of older slots are ended as skipped."""
    slots = opened.problem.slots(deployed.verb)
    if slots is None:
        return list(runs)
    newest, kept, skipped = slots.newest(moment), [], 0
    for run in runs:
        sentence = ""
        if _of_the_schedule(run):
            sentence = _skipped(opened, deployed, utc(run.expected_start_time), newest, since)
        if not sentence:
            kept.append(run)
        elif skipped < SKIPPED_AT_ONCE:
            skipped += 1
            _name(client, run, deployed, opened)
            state: State[Any] = Completed(name="Skipped", message=sentence)
            client.set_flow_run_state(run.id, state, force=True)
    return kept


def _skipped(
    opened: Opened, deployed: Deployed, slot: datetime, newest: datetime, since: datetime
) -> str:
    """Why the run of a slot is not needed; empty if it is."""
    catch_up = opened.problem.schedule.catch_up
    if slot < newest:
        shown = f"the slot {newest:%Y-%m-%d %H:%M:%S} UTC is newer"
        if deployed.verb not in ("cycle", "score"):
            return shown
        if catch_up == "all":
            return f"{shown}; its run also scores this one's rows"
        file = opened.problem.file
        return (
            f"{shown}; catch_up = {catch_up}: this one's rows are scored by hand, "
            f"automl score {file} --as-of {slot:%Y-%m-%dT%H:%M} --backfill"
        )
    if catch_up == "none" and slot < since and deployed.verb in PIPELINES:
        return f"missed: not served until {since:%Y-%m-%d %H:%M:%S} UTC, and catch_up = none"
    return ""


def _lost_run(
    client: SyncPrefectClient,
    deployed: Deployed,
    opened: Opened,
    runs: Sequence[Any],
    *,
    since: datetime,
    moment: datetime,
) -> list[FlowRun]:
    """A new run of the newest slot, if its cycle has not ended and Prefect has no run of it."""
    if deployed.verb not in PIPELINES or not deployed.active or any(map(_of_the_schedule, runs)):
        return []
    try:
        newest = _unfinished(deployed, opened, since, moment)
    except AutomlError as error:
        _log.warning("%s: %s", opened.problem.name, error)
        return []
    if newest is None:
        return []
    attempt = next_attempt(_runs_of(client, deployed, newest.slot), newest, moment)
    if attempt is None:
        return []
    slot = newest.slot
    _log.info("the slot %s of %s is run", f"{slot:%Y-%m-%d %H:%M:%S}", opened.problem.name)
    made = client.create_flow_run_from_deployment(
        deployed.id,
        state=Scheduled(scheduled_time=slot),
        name=name_of(opened.problem, deployed.verb, {}, slot),
        tags=[MADE_UP],
        # two serving processes make one run
        idempotency_key=f"{deployed.verb}/{deployed.name}/{slot.isoformat()}/{attempt}",
    )
    return [made]


def _unfinished(
    deployed: Deployed, opened: Opened, since: datetime, moment: datetime
) -> NewestSlot | None:
    """The newest slot, if it is to be run whatever happened at its time and the store has no end of its cycle."""
    store, problem = Store(opened.workspace), opened.problem
    newest = newest_slot(store, problem, deployed.verb, moment)  # type: ignore[arg-type]
    if newest.status in ("done", "refused"):
        return None
    if problem.schedule.catch_up == "none" and newest.slot < since:
        return None
    # of a problem that was never served, slots before its first deployment are not missed
    known = newest.slot.timestamp() >= deployed.created or store.cycles(problem.name, limit=1)
    return newest if known else None


def next_attempt(earlier: Sequence[Any], newest: NewestSlot, moment: datetime) -> int | None:
    """The number of the run of a slot that is to be made now; None if none is.

    Runs that ended by a refusal or an error of the problem itself are not repeated: the same would happen.
    """
    if any(run.state is None or not run.state.is_final() for run in earlier):
        return None
    if not earlier:
        return 0 if newest.status in ("missing", "running") else None
    if len(earlier) >= ATTEMPTS:
        return None
    last = max(earlier, key=lambda run: run.state.timestamp)
    # another run held the problem, and has died since
    busy = last.state.name == "Skipped" and newest.status == "running"
    if last.state.name not in AGAIN and not busy:
        return None
    wait = WAITS[len(earlier) - 1] if len(earlier) <= len(WAITS) else LAST_WAIT
    due = utc(last.state.timestamp) + timedelta(seconds=wait)
    return len(earlier) if moment >= due else None


def _runs_of(client: SyncPrefectClient, deployed: Deployed, slot: datetime) -> list[FlowRun]:
    """Prefect's runs of one slot, however they ended."""
    at = FlowRunFilterExpectedStartTime.model_validate({"after_": slot, "before_": slot})
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployed.id]), expected_start_time=at
    )
    return client.read_flow_runs(flow_run_filter=wanted, limit=2 * ATTEMPTS)


def _name_coming(client: SyncPrefectClient, deployed: Sequence[Deployed]) -> None:
    """Give the next runs of each deployment their names before they start."""
    by_id = {d.id: d for d in deployed}
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=list(by_id)),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"after_": now()}),
    )
    coming = client.read_flow_runs(
        flow_run_filter=wanted,
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=NAMED * len(by_id),
    )
    for run in coming:
        one = by_id.get(run.deployment_id) if run.deployment_id else None
        opened = Opened.of(one) if one else None
        if one is not None and opened is not None:
            _name(client, run, one, opened)


def _name(client: SyncPrefectClient, run: Any, deployed: Deployed, opened: Opened) -> None:
    name = name_of(opened.problem, deployed.verb, run.parameters, utc(run.expected_start_time))
    if run.name != name:
        client.set_flow_run_name(run.id, name)
