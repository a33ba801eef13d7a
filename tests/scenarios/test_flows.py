"""Prefect for real: a server started here creates a scheduled run, and it leaves a generation."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from automl.errors import ProblemError
from automl.problem import load_problem
from automl.report import deployments, schedule_text
from automl.store import Store
from automl.workspace import open_workspace
from flows import pipelines
from flows.schedule import make_deployments
from tests.support.parcels import make_world, write_problem

EVERY_MINUTE = '\n[schedule]\nretrain = "* * * * *"\n'


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_for(url: str, log: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(
        f"{url} did not answer in {seconds} s: {log.read_text(errors='replace')[-2000:]}"
    )


@pytest.fixture(scope="module")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Prefect server on a free port, and the environment of its clients."""
    home, port = tmp_path_factory.mktemp("prefect"), _free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "DO_NOT_TRACK": "1",
    }
    server = _start(
        [sys.executable, "-m", "prefect", "server", "start"], environment, home / "server.log"
    )
    try:
        _wait_for(f"{environment['PREFECT_API_URL']}/health", home / "server.log")
        yield environment
    finally:
        _stop(server)


def _runs(api: str) -> list[dict[str, Any]]:
    return list(
        httpx.post(
            f"{api}/flow_runs/filter", json={"sort": "EXPECTED_START_TIME_ASC"}, timeout=10
        ).json()
    )


def test_a_scheduled_run_is_created_starts_completes_and_leaves_a_generation(
    prefect_server: dict[str, str], tmp_path: Path
) -> None:
    began = datetime.now(UTC)
    first = (began - timedelta(days=60)).replace(hour=0, minute=0, second=0, microsecond=0)
    week = {"[metric]": '[batch]\nhorizon = "7d"\n\n[metric]'}
    file = write_problem(tmp_path, frame=make_world(2700, first=first), replace=week)
    file.write_text(file.read_text(encoding="utf-8") + EVERY_MINUTE, encoding="utf-8")
    log = tmp_path / "serve.log"
    serving = _start(
        [sys.executable, "-m", "automl.cli", "schedule", str(file)], prefect_server, log
    )
    api = prefect_server["PREFECT_API_URL"]
    try:
        ended: list[dict[str, Any]] = []
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and not ended:
            time.sleep(1)
            ended = [r for r in _runs(api) if r["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]
        assert ended, (
            f"no scheduled run ended: {[r['state_name'] for r in _runs(api)][:5]} {log.read_text()[-2000:]}"
        )
    finally:
        _stop(serving)
    run = ended[0]
    assert run["auto_scheduled"]
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Published"), log.read_text()[
        -3000:
    ]
    slot = datetime.fromisoformat(run["expected_start_time"]).astimezone(UTC)
    assert run["name"] == f"parcels · {slot:%Y-%m-%d %H:%M}"
    assert Store(open_workspace(file)).find_cycle("parcels", "retrain", slot) is not None, (
        "as_of is the slot of the run, however late it starts"
    )
    tasks = httpx.post(
        f"{api}/task_runs/filter", json={"flow_runs": {"id": {"any_": [run["id"]]}}}, timeout=10
    ).json()
    names = {t["name"] for t in tasks}
    assert {"pull history", "sweep", "decide", "refit", "guards", "release"} <= names
    assert len(tasks) == len(names) <= 20, "one task per step, never per trial"
    artifacts = httpx.post(f"{api}/artifacts/filter", json={}, timeout=10).json()
    assert "decision-parcels" in {a["key"] for a in artifacts}
    lines = httpx.post(f"{api}/logs/filter", json={}, timeout=10).json()
    logged = [
        f"{line['name']}: {line['message']}" for line in lines if line["flow_run_id"] == run["id"]
    ]
    assert any(line.startswith("automl.retrain.search: plan: full") for line in logged), logged


def test_a_run_with_a_broken_problem_file_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "parcels.toml"
    monkeypatch.setattr(
        pipelines, "flow_run", SimpleNamespace(parameters={"file": str(file), "as_of": None})
    )
    assert pipelines._run_name() == "parcels.toml · newest slot"
    file.write_text("name = 3", encoding="utf-8")
    assert pipelines._run_name() == "parcels.toml · newest slot"


def test_two_schedules_make_two_deployments_and_one_makes_a_cycle(tmp_path: Path) -> None:
    file = write_problem(tmp_path)
    with pytest.raises(ProblemError, match="found no \\[schedule\\]"):
        deployments(load_problem(file))
    text = file.read_text(encoding="utf-8")
    file.write_text(text + EVERY_MINUTE, encoding="utf-8")
    assert deployments(load_problem(file)) == [("cycle", "* * * * *")]
    file.write_text(text + EVERY_MINUTE + 'score = "0 5 * * *"\n', encoding="utf-8")
    assert deployments(load_problem(file)) == [("retrain", "* * * * *"), ("score", "0 5 * * *")]
    assert "score/parcels  0 5 * * * UTC" in schedule_text([load_problem(file)])
    file.write_text(text + EVERY_MINUTE + 'approvals = "*/15 * * * *"\n', encoding="utf-8")
    assert deployments(load_problem(file))[1:] == [("approvals", "*/15 * * * *")]
    assert [d.name for d in make_deployments(load_problem(file))] == ["parcels", "parcels"]


def test_the_same_problem_runs_against_an_mlflow_server(tmp_path: Path) -> None:
    port = _free_port()
    file = write_problem(tmp_path)
    uri = f"http://127.0.0.1:{port}"
    (tmp_path / "mlflow.env").write_text(f"MLFLOW_TRACKING_URI={uri}\n", encoding="utf-8")
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{tmp_path / 'server.db'}",
        "--artifacts-destination",
        str(tmp_path / "artifacts"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    server = _start(command, environment, tmp_path / "mlflow.log")
    try:
        _wait_for(f"{uri}/health", tmp_path / "mlflow.log")
        run = [
            sys.executable,
            "-m",
            "automl.cli",
            "cycle",
            str(file),
            "--as-of",
            "2026-03-02",
            "--json",
        ]
        done = subprocess.run(
            run, env=environment, capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1, (
            "exactly one document on stdout, also while MLflow prints"
        )
        document = httpx.get(
            f"{uri}/api/2.0/mlflow/registered-models/alias",
            params={"name": "parcels", "alias": "champion"},
            timeout=10,
        ).json()
        assert document["model_version"]["version"] == "1"
        assert not (tmp_path / ".automl" / "mlflow.db").exists()
    finally:
        _stop(server)


def test_a_run_takes_its_own_slot_and_a_late_run_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_problem(tmp_path)
    text = file.read_text(encoding="utf-8")
    file.write_text(text + '\n[schedule]\nretrain = "0 0 * * 1"\n', encoding="utf-8")
    slot = datetime(2026, 3, 2, tzinfo=UTC)
    as_ofs: list[Any] = []

    def late(_: Any, __: Any, options: Any, **___: Any) -> Any:
        as_ofs.append(options.as_of)
        raise ProblemError("as_of is earlier than the newest cycle", code="backwards")

    run = SimpleNamespace(scheduled_start_time=slot + timedelta(seconds=1))
    monkeypatch.setattr(pipelines, "flow_run", run)
    state = pipelines._pipeline("cycle", late, str(file), None, None)
    assert as_ofs == [slot], "not the newest slot of today"
    assert (state.name, state.message) == ("Skipped", "as_of is earlier than the newest cycle")
    monkeypatch.setattr(pipelines, "get_run_logger", lambda: SimpleNamespace(error=lambda *_: None))
    with pytest.raises(ProblemError, match="earlier than the newest"):
        pipelines._pipeline("cycle", late, str(file), "2026-02-02", None)  # --as-of names it
