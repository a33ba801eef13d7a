"""Alerts arrive once, recover once, and never make a cycle fail or wait."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from automl.errors import BusyError, HistoryError, ProblemError
from automl.monitoring import sending
from automl.monitoring.alerts import alerting, raise_alert, recover
from automl.problem import Problem, load_problem
from automl.store import Store, open_alerts
from automl.workspace import Workspace
from tests.support.alert_receiver import Receiver
from tests.support.parcels import write_problem


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    return load_problem(write_problem(tmp_path))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def with_alerts(problem: Problem, *addresses: str) -> Problem:
    section = problem.monitoring.model_copy(update={"alerts": addresses})
    return problem.model_copy(update={"monitoring": section})


def fail(problem: Problem, workspace: Workspace, verb: str = "cycle") -> None:
    with (
        pytest.raises(HistoryError, match="no rows"),
        alerting(problem, workspace, verb),
        alerting(problem, workspace, "retrain"),  # the retraining inside a cycle
    ):
        raise HistoryError("history: no rows", code="empty", next_step="automl check FILE")


def test_a_failure_is_sent_once_and_its_recovery_once(
    problem: Problem, workspace: Workspace, receiver: Receiver
) -> None:
    problem = with_alerts(problem, receiver.address)
    fail(problem, workspace)
    fail(problem, workspace)
    [message] = receiver.messages
    assert message["title"] == "parcels: cycle failed"
    assert message["type"] == "failure"
    for line in (
        "What broke: history: no rows",
        "What still works: nothing was released before",
        "What to do: automl check FILE",
        f"Try again: automl cycle {problem.file}",
    ):
        assert line in message["message"]
    [alert] = open_alerts(Store(workspace), problem.name)
    assert (alert.kind, alert.sent_at is not None) == ("failed cycle", True)
    for _ in range(2):
        with alerting(problem, workspace, "cycle"):
            pass
    assert [m["title"] for m in receiver.messages[1:]] == ["parcels: cycle works again"]
    assert receiver.messages[1]["type"] == "success"
    assert open_alerts(Store(workspace), problem.name) == []
    fail(problem, workspace)
    assert len(receiver.messages) == 3


def test_without_addresses_an_alert_is_open_in_the_store(
    problem: Problem, workspace: Workspace
) -> None:
    fail(problem, workspace, "score")
    assert [a.kind for a in open_alerts(Store(workspace), problem.name)] == ["failed score"]


@pytest.mark.parametrize(
    "error",
    [
        BusyError("held", code="busy"),
        ProblemError("earlier", code="backwards"),
        KeyboardInterrupt(),
    ],
)
def test_what_is_no_failure_of_a_cycle_is_no_alert(
    problem: Problem, workspace: Workspace, error: BaseException
) -> None:
    with pytest.raises(type(error)), alerting(problem, workspace, "cycle"):
        raise error
    assert open_alerts(Store(workspace), problem.name) == []


def test_an_alert_that_no_address_took_is_sent_by_the_next_run(
    problem: Problem, workspace: Workspace, receiver: Receiver
) -> None:
    lost = with_alerts(problem, "json://127.0.0.1:9/alerts")
    assert not raise_alert(lost, workspace, "drift", "rows unlike the past", "x")
    assert raise_alert(with_alerts(problem, receiver.address), workspace, "drift", "t", "x")
    assert [m["title"] for m in receiver.messages] == ["t"]


def test_a_recovery_is_not_sent_where_the_alert_was_not(
    problem: Problem, workspace: Workspace, receiver: Receiver
) -> None:
    raise_alert(with_alerts(problem, "json://127.0.0.1:9/alerts"), workspace, "drift", "t", "x")
    assert not recover(with_alerts(problem, receiver.address), workspace, "drift", "t")
    assert receiver.messages == []


def test_a_server_that_hangs_costs_the_deadline_and_one_warning(
    problem: Problem,
    workspace: Workspace,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "DEADLINE", 0.5)
    hanging, working = Receiver(hangs=True), Receiver()
    try:
        sending.send(with_alerts(problem, working.address), "first", "loads Apprise", failure=True)
        began = time.monotonic()
        taken = sending.send(
            with_alerts(problem, hanging.address, working.address), "t", "x", failure=True
        )
        assert time.monotonic() - began < 2
    finally:
        hanging.close()
        working.close()
    assert taken
    assert len(working.messages) == 2
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert lines == ["monitoring.alerts[0]: no reply within 0.5 s; the message may be lost"]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("nonsense://token-of-mine", "found no address that Apprise knows"),
        ("json://127.0.0.1:9/token-of-mine", "the server did not take it"),
        ("${NO_SUCH_VARIABLE}", "environment variable NO_SUCH_VARIABLE is not set"),
    ],
)
def test_a_wrong_address_is_one_warning_without_the_address(
    problem: Problem,
    workspace: Workspace,
    caplog: pytest.LogCaptureFixture,
    address: str,
    line: str,
) -> None:
    assert not sending.send(with_alerts(problem, address), "t", "x", failure=True)
    [warning] = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warning.startswith("monitoring.alerts[0]: ")
    assert line in warning
    assert "token-of-mine" not in caplog.text


def test_a_secret_in_a_reference_reaches_the_server_and_no_message(
    problem: Problem,
    workspace: Workspace,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPS_PASSWORD", "Sw0rdfish-77")
    address = receiver.address.replace("json://", "json://ops:${OPS_PASSWORD}@")
    assert sending.send(
        with_alerts(problem, address), "Sw0rdfish-77", "it is Sw0rdfish-77", failure=True
    )
    assert "fish" not in json.dumps(receiver.messages)
