"""Flows: what a run is called, which as_of it takes, in which state it ends; and one against an MLflow server."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from automl.errors import BusyError, HistoryError, ProblemError
from automl.problem import load_problem
from automl.report import deployments, schedule, schedule_text
from flows import pipelines
from flows.deployed import make_deployments
from tests.support.parcels import write_problem
from tests.support.prefect_server import free_port, start, stop, wait_for

SLOT = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
EVERY_MINUTE = '\n[schedule]\nretrain = "* * * * *"\n'


@pytest.mark.parametrize("text", [None, "name = 3"])
def test_a_run_with_a_broken_problem_file_is_named_after_the_file_and_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    file = tmp_path / "parcels.toml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    _run_at(monkeypatch, SLOT, {"file": str(file), "as_of": None})
    assert pipelines._run_name() == "parcels.toml · 2026-03-02 00:00"


def test_a_run_is_named_after_its_problem_and_as_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(_weekly(tmp_path))
    late = SLOT + timedelta(days=2, minutes=5)
    for given, name in [
        ({}, "parcels · 2026-03-02 00:00"),
        ({"as_of": "2026-02-02T06:00"}, "parcels · 2026-02-02 06:00"),
        ({"event": "drift"}, "parcels · 2026-03-04 00:05"),
    ]:
        _run_at(monkeypatch, late, {"file": file, **given}, "cycle")
        assert pipelines._run_name() == name
    _run_at(monkeypatch, late, {"file": file}, "approvals")
    assert pipelines._run_name() == "parcels · 2026-03-04 00:05 · approvals"


def test_two_schedules_make_two_deployments_and_one_makes_a_cycle(tmp_path: Path) -> None:
    file = write_problem(tmp_path)
    with pytest.raises(ProblemError, match="found no \\[schedule\\]"):
        deployments(load_problem(file))
    text = file.read_text(encoding="utf-8")
    file.write_text(text + EVERY_MINUTE, encoding="utf-8")
    assert deployments(load_problem(file)) == [("cycle", "* * * * *")]
    file.write_text(text + EVERY_MINUTE + 'score = "0 5 * * *"\n', encoding="utf-8")
    assert deployments(load_problem(file)) == [("retrain", "* * * * *"), ("score", "0 5 * * *")]
    assert "score/parcels  0 5 * * * UTC" in schedule_text(schedule([load_problem(file)]))
    file.write_text(text + EVERY_MINUTE + 'approvals = "*/15 * * * *"\n', encoding="utf-8")
    assert deployments(load_problem(file))[1:] == [("approvals", "*/15 * * * *")]
    made = make_deployments(load_problem(file))
    assert [(verb, d.flow_name, d.name) for verb, d in made] == [
        ("cycle", "cycle", "parcels"),
        ("approvals", "approvals", "parcels"),
    ]
    assert made[0][1].tags == ["automl", "problem:parcels", "cycle"]


def test_every_parameter_of_a_flow_has_its_help_and_a_plain_type() -> None:
    for name, flow in pipelines.FLOWS.items():
        for parameter, shape in flow.parameters.properties.items():
            assert shape.get("description"), f"{name}.{parameter}"
            kinds = shape.get("anyOf", [shape])
            assert {k.get("type") for k in kinds} <= {"string", "boolean", "null"}, parameter
    plan = pipelines.FLOWS["cycle"].parameters.properties["plan"]
    assert plan["enum"] == ["auto", "refit", "warm", "full"], "a list to pick from"


def test_the_same_problem_runs_against_an_mlflow_server(tmp_path: Path) -> None:
    port = free_port()
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
    server = start(command, environment, tmp_path / "mlflow.log")
    try:
        wait_for(f"{uri}/health", tmp_path / "mlflow.log")
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
        stop(server)


def test_a_run_takes_its_own_slot_and_a_late_run_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(_weekly(tmp_path))
    as_ofs: list[Any] = []

    def late(_: Any, __: Any, ___: Any, options: Any, **____: Any) -> Any:
        as_ofs.append(options.as_of)
        raise ProblemError("as_of is earlier than the newest cycle", code="backwards")

    monkeypatch.setattr(pipelines, "run_verb", late)
    _run_at(monkeypatch, SLOT + timedelta(seconds=1))
    state = pipelines._pipeline("cycle", file, pipelines._Wanted())
    assert as_ofs == [SLOT], "not the newest slot of today"
    assert (state.name, state.message) == ("Skipped", "as_of is earlier than the newest cycle")


def test_a_refusal_ends_a_run_with_its_sentence_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, lines = str(_weekly(tmp_path)), []
    shown: dict[str, Any] = {}

    def refused(*_: Any, **__: Any) -> Any:
        raise HistoryError(
            "history: found no row\nwanted some", code="no_history", next_step="automl check FILE"
        )

    monkeypatch.setattr(pipelines, "run_verb", refused)
    log = SimpleNamespace(error=lambda *words: lines.append(words[0] % words[1:]))
    monkeypatch.setattr(pipelines, "get_run_logger", lambda: log)
    monkeypatch.setattr(pipelines, "show_failure", lambda *_, **rest: shown.update(rest))
    _run_at(monkeypatch, SLOT)
    as_of = datetime(2026, 2, 2, tzinfo=UTC)
    state = pipelines._pipeline("cycle", file, pipelines._Wanted(as_of=as_of))
    assert (state.type.value, state.name) == ("FAILED", "Failed")
    assert state.message == "refused: history: found no row wanted some", "one line"
    effect = "there is still no champion and no published table"
    [line] = lines
    assert (
        line
        == f"history: found no row\nwanted some\nunchanged: {effect}\nnext: automl check {file}"
    )
    assert shown == {"unchanged": effect, "next_step": f"automl check {file}"}


def test_a_run_that_finds_another_one_at_work_is_skipped_unless_it_was_wanted_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(_weekly(tmp_path))

    def busy(*_: Any, **__: Any) -> Any:
        raise BusyError("another run holds parcels")

    monkeypatch.setattr(pipelines, "run_verb", busy)
    monkeypatch.setattr(pipelines, "get_run_logger", lambda: SimpleNamespace(error=lambda *_: None))
    monkeypatch.setattr(pipelines, "show_failure", lambda *_, **__: None)
    _run_at(monkeypatch, SLOT)
    assert pipelines._pipeline("cycle", file, pipelines._Wanted()).name == "Skipped"
    state = pipelines._pipeline("cycle", file, pipelines._Wanted(as_of=SLOT))
    assert (state.name, state.message) == ("Failed", "busy: another run holds parcels")


def _weekly(folder: Path) -> Path:
    file = write_problem(folder)
    text = file.read_text(encoding="utf-8")
    file.write_text(text + '\n[schedule]\nretrain = "0 0 * * 1"\n', encoding="utf-8")
    return file


def _run_at(
    monkeypatch: pytest.MonkeyPatch,
    moment: datetime,
    parameters: dict[str, Any] | None = None,
    flow_name: str = "cycle",
) -> None:
    run = SimpleNamespace(
        scheduled_start_time=moment, parameters=parameters or {}, flow_name=flow_name
    )
    monkeypatch.setattr(pipelines, "flow_run", run)
