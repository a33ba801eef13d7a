"""Every request to MLflow ends: in a result, or within seconds in exit code 5, whatever a server does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from sklearn.linear_model import LinearRegression

from automl.errors import UnreachableError
from automl.problem import load_problem
from automl.tracking import Registry, connection
from automl.workspace import Workspace, open_workspace
from tests.support.failing_server import QUOTED, RESPONSES, SILENT, failing
from tests.support.parcels import write_problem

DENIED = ("401", "401 json", "403")
NEXT = {
    "500": "Look into the log of that server",
    "429": "Look into the log of that server",
    "login page": "to the address of an MLflow server",
    "404 page": "to the address of an MLflow server",
    "hang": "MLFLOW_HTTP_REQUEST_TIMEOUT",
}
OPEN = """
import sys
from pathlib import Path
from automl.tracking import Connection
from automl.workspace import open_workspace
found = Connection(open_workspace(Path(sys.argv[1]) / "problem.toml")).search_experiments()
print(len(found))
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds as short as the test needs them."""
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.8)
    monkeypatch.setattr(connection, "RETRY_AFTER", 0.05)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)


def refused(workspace: Workspace, uri: str, make_problem: Callable[..., Any]) -> UnreachableError:
    """The error with which MLflow at this address is opened."""
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="MLflow at ") as caught:
        Registry(make_problem(), replace(workspace, tracking_uri=uri))
    assert time.monotonic() - began < 8, "it took too long"
    assert caught.value.exit_code == 5
    assert QUOTED not in f"{caught.value} {caught.value.next_step}", (
        "the server's own words are shown"
    )
    assert uri in str(caught.value)
    return caught.value


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mode", [*RESPONSES, *SILENT])
def test_a_server_that_fails_in_any_way_is_unreachable(
    mode: str, workspace: Workspace, make_problem: Callable[..., Any]
) -> None:
    with failing(mode) as uri:
        error = refused(workspace, uri, make_problem)
    if mode in DENIED[::2]:
        assert error.code == "mlflow_denied"
        assert "MLFLOW_TRACKING_PASSWORD" in error.next_step
    else:
        assert error.code == "mlflow_unreachable"
        assert NEXT.get(mode, "") in error.next_step


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("http://127.0.0.1:9", "the connection is refused"),
        ("http://nowhere.invalid", "not known|does not respond"),
    ],
)
def test_a_server_that_is_not_there_is_unreachable(
    uri: str, cause: str, workspace: Workspace, make_problem: Callable[..., Any]
) -> None:
    error = refused(workspace, uri, make_problem)
    assert any(part in str(error) for part in cause.split("|"))


@pytest.mark.usefixtures("quick")
def test_https_on_a_plain_port_is_named(
    workspace: Workspace, make_problem: Callable[..., Any]
) -> None:
    with failing("empty") as uri:
        error = refused(workspace, uri.replace("http:", "https:"), make_problem)
    assert "TLS" in str(error)


@pytest.mark.usefixtures("quick")
def test_after_a_failure_requests_fail_at_once_for_a_while(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with failing("hang") as uri:
        opened = connection.Connection(replace(workspace, tracking_uri=uri))
        with pytest.raises(UnreachableError, match="does not respond within 1 s"):
            opened.search_experiments()
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(UnreachableError, match="does not respond within 1 s"):
                opened.get_run("x")
        assert time.monotonic() - began < 0.2
        opened._down_until = 0.0
        monkeypatch.setattr(opened._client, "get_run", lambda _: SimpleNamespace())
        opened.get_run("x")
        assert opened._down is None, "a request that succeeds ends the pause"


@pytest.mark.usefixtures("quick")
def test_a_server_that_comes_back_in_a_second_is_not_noticed(workspace: Workspace) -> None:
    opened = connection.Connection(replace(workspace, tracking_uri="http://127.0.0.1:9"))
    failures = [MlflowException("API request to x failed: too many 503 error responses")]

    def request() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert opened.run(request) == "done"


@pytest.mark.usefixtures("quick")
def test_what_concerns_the_request_is_no_outage(workspace: Workspace) -> None:
    opened = connection.Connection(workspace)
    with pytest.raises(MlflowException, match="not found"):
        opened.get_run("0" * 32)


def test_a_locked_file_is_an_outage_and_a_full_disk_is_none(workspace: Workspace) -> None:
    opened = connection.Connection(workspace)

    def fail(text: str) -> None:
        raise MlflowException(text, error_code=TEMPORARILY_UNAVAILABLE)  # as of SQLAlchemy's errors

    with pytest.raises(UnreachableError, match="database is locked"):
        opened.run(fail, "database is locked")
    opened._down = None
    with pytest.raises(MlflowException, match="is full"):
        opened.run(fail, "database or disk is full")


# ---------------------------------------------------------------- deleted by hand


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """One for the tests below."""
    file = write_problem(tmp_path_factory.mktemp("by_hand"))
    return Registry(load_problem(file), open_workspace(file))


def test_a_deleted_experiment_is_restored_with_its_runs(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    run = registry.open_cycle("2026-01-05", {}, {})
    registry.client.delete_experiment(registry.experiment)
    again = Registry(registry.problem, registry.workspace)
    assert again.experiment == registry.experiment
    assert again.client.get_run(run).info.lifecycle_stage == "active"
    assert "the experiment parcels was deleted in MLflow; it is restored" in caplog.text


def test_a_deleted_run_is_restored_and_one_that_is_gone_is_named(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    run = registry.open_cycle("2026-01-12", {}, {})
    registry.client.delete_run(run)
    assert registry.require_run(run)
    assert registry.client.get_run(run).info.lifecycle_stage == "active"
    assert "the run cycle 2026-01-12 was deleted in MLflow; it is restored" in caplog.text
    assert not registry.require_run("0" * 32)
    assert "is gone from MLflow" in caplog.text


def test_a_run_whose_process_died_says_so(registry: Registry) -> None:
    run = registry.open_cycle("2026-01-19", {}, {})
    registry.end_dead_runs()
    found = registry.client.get_run(run)
    assert found.info.status == "KILLED"
    assert found.data.tags["decision"] == "failed"
    assert "its process died" in found.data.tags["mlflow.note.content"]
    assert registry.reopen(run)
    assert "decision" not in registry.client.get_run(run).data.tags


# ---------------------------------------------------------------- first commands


@pytest.mark.slow  # five processes import MLflow, one makes its tables
def test_first_commands_that_start_together_find_the_tables_whole(tmp_path: Path) -> None:
    """One of them is killed while it makes the tables."""
    command = [sys.executable, "-c", OPEN, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".automl/mlflow-new.*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    # killed within a transaction, it leaves a journal
    (tmp_path / ".automl" / f"mlflow-new.{killed.pid}.tmp-journal").touch()
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, env=environment, **pipes) for _ in range(4)]
    ended = [(*p.communicate(timeout=240), p.returncode) for p in started]
    assert [(out, code) for out, _, code in ended] == [("1\n", 0)] * 4, ended
    assert not list(tmp_path.glob(".automl/mlflow-new.*"))
    assert (tmp_path / ".automl").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".automl" / "mlflow.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow  # two models are logged
def test_versions_go_on_after_the_highest_released_one_if_the_registered_model_was_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_problem(tmp_path)
    registry = Registry(load_problem(file), open_workspace(file))
    sample = pd.DataFrame({"weight": [1.0, 2.0, 3.0]})
    model = LinearRegression().fit(sample, [1.0, 2.0, 3.0])
    run = registry.open_cycle("2026-01-05", {}, {})
    first = registry.register(run, model, sample, [], {"cycle": "1"})
    assert first.version == 1
    registry.client.delete_registered_model("parcels")
    registry.client.delete_run(run)
    again = registry.register(run, model, sample, [], {"cycle": "2"}, after=3)
    assert again.version == 4
    assert registry.load(4, again.digests).predict(sample).round(6).tolist() == [1.0, 2.0, 3.0]
    assert "the registered model parcels was deleted in MLflow; it is created again" in caplog.text
