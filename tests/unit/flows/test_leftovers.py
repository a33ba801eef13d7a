"""Runs whose process has gone end as their cycle ended; runs of living processes are left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import State, StateType

from automl.problem import load_problem
from automl.store import Store
from automl.workspace import now, open_workspace
from flows.deployed import Deployed
from flows.leftovers import close_leftovers, owner_of
from tests.support.parcels import write_problem

SLOT = datetime(2026, 3, 9, 3, tzinfo=UTC)


class Server:
    """Prefect's server, with one run under way."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.state: Any = None

    def read_flow_runs(self, **_: Any) -> list[Any]:
        return [self.run]

    def set_flow_run_state(self, _: Any, state: Any, **__: bool) -> None:
        self.state = state


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    file = write_problem(tmp_path)
    file.write_text(file.read_text("utf-8") + '\n[schedule]\nretrain = "0 3 * * 1"\n', "utf-8")
    return Deployed(id=uuid4(), verb="cycle", name="parcels", file=file, edited=0)


def closed(
    deployed: Deployed, owner: str | None, *, kind: str = "RUNNING", age: timedelta = timedelta(0)
) -> Any:
    state: State[Any] = State(type=StateType(kind), timestamp=now() - age)
    run = SimpleNamespace(
        id=uuid4(), name="parcels", deployment_id=deployed.id, infrastructure_pid=owner, state=state,
        parameters={}, expected_start_time=SLOT, start_time=now() - age,
    )  # fmt: skip
    server = Server(run)
    close_leftovers(server, [deployed], set())  # type: ignore[arg-type]
    busy = Server(run)
    close_leftovers(busy, [deployed], {run.id})  # type: ignore[arg-type]
    assert busy.state is None, "of the run that is served now its process is known"
    return server.state


def gone() -> str:
    """The owner of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = owner_of(child.pid)
    child.communicate(b"\n")
    return owner


def test_a_run_is_closed_when_its_process_has_gone(deployed: Deployed) -> None:
    assert closed(deployed, owner_of(os.getpid())) is None
    state = closed(deployed, gone())
    assert (state.type.value, state.name) == ("CRASHED", "Crashed")
    assert state.message == "its process died; a slot that is still the newest is run again"


def test_another_process_of_the_same_number_is_not_its_process(deployed: Deployed) -> None:
    machine, pid, _ = owner_of(os.getpid()).split(":")
    assert closed(deployed, f"{machine}:{pid}:1").name == "Crashed"


def test_a_run_of_another_machine_is_left_to_it(deployed: Deployed) -> None:
    assert closed(deployed, "elsewhere:1:1", age=timedelta(days=9)) is None


def test_a_run_that_never_got_a_process_is_closed_after_a_minute(deployed: Deployed) -> None:
    assert closed(deployed, None, kind="PENDING") is None
    assert closed(deployed, None, kind="PENDING", age=timedelta(seconds=61)).name == "Crashed"


def test_a_run_that_was_cancelled_ends_as_cancelled(deployed: Deployed) -> None:
    assert closed(deployed, gone(), kind="CANCELLING").name == "Cancelled"


@pytest.mark.parametrize(
    ("status", "name", "message"),
    [
        ("published", "Completed", "published · one reason"),
        ("refused", "Failed", "refused: one reason"),
    ],
)
def test_a_run_that_could_not_report_its_end_ends_as_its_cycle_did(
    deployed: Deployed, status: str, name: str, message: str
) -> None:
    problem = load_problem(deployed.file)
    store = Store(open_workspace(deployed.file))
    opened = store.open_cycle(problem.name, "retrain", SLOT, 1, problem.digest)
    store.end_cycle(opened, status, "one\nreason")
    state = closed(deployed, gone())
    assert (state.name, state.message) == (name, message)
