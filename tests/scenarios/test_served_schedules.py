"""Schedules served against a real Prefect server that goes away, by a process that is killed and that sleeps.

Slots are seconds apart, so most are superseded before their run could start: the newest runs. The process is the
ExecStart of the systemd unit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pandas as pd
import pytest

from automl.cycles.missed import missed_slots
from automl.problem import Problem, load_problem
from automl.store import Cycle, Store
from automl.workspace import open_workspace
from tests.support.parcels import make_world, write_problem
from tests.support.prefect_server import PrefectServer, start, stop, until
from tests.support.units import exec_start, unit_environment

ENDED = ("published", "released", "kept", "waiting", "refused", "failed", "skipped")
SECONDS = 400  # in which a machine that does other things too gets something done
# of each problem: its slots, and what becomes of missed ones
PROBLEMS = {
    "apples": ("* * * * * */2", "latest"),
    "pears": ("* * * * * */2", "none"),
    "plums": ("* * * * * */20", "all"),
    "figs": ("0 0 1 1 *", "all"),
}


class Served:
    """Problems, their server, and the process that serves them."""

    def __init__(self, folder: Path, server: PrefectServer, names: Sequence[str]) -> None:
        self.server = server
        self.folder = folder
        self.log = folder / "serve.log"
        self.secrets = folder / "secrets.env"
        self.files = {name: self._write(name, *PROBLEMS[name]) for name in names}
        self.process: subprocess.Popen[bytes] | None = None
        self.name_world("world")

    def _write(self, name: str, cron: str, catch_up: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        changes = {
            "sqlite:///world.db": "sqlite:///${WORLD}.db",
            "trials   = 4": "trials   = 2",
            "origins = 2": "origins = 1",
        }
        file = write_problem(folder, name=name, frame=_rows(), replace=changes)
        lines = f'[schedule]\nretrain = "{cron}"\ncatch_up = "{catch_up}"\n'
        file.write_text(f"{file.read_text('utf-8')}\n{lines}", "utf-8")
        return file

    def name_world(self, name: str) -> None:
        """Rename the databases of all problems, as a credential is renewed: only its file says the new name."""
        for file in self.files.values():
            [world] = file.parent.glob("*.db")
            world.rename(world.with_name(f"{name}.db"))
        self.secrets.write_text(f"WORLD={name}\n", "utf-8")

    @property
    def environment(self) -> dict[str, str]:
        own = {"AUTOML_TEST_SECONDS": "1", "AUTOML_ENV_FILE": str(self.secrets)}
        return unit_environment("automl.service") | self.server.environment | own

    def serve(self) -> None:
        command, verb, _ = exec_start("automl.service")
        assert command.endswith("/bin/automl")
        automl = str(Path(sys.executable).with_name("automl"))
        self.process = start(
            [automl, verb, *map(str, self.files.values())], self.environment, self.log
        )

    def signal(self, number: int) -> None:
        """To the serving process and the run that is under way, as a machine that sleeps stops both."""
        assert self.process is not None
        for pid in [self.process.pid, *_children(self.process.pid)]:
            os.kill(pid, number)

    def problem(self, name: str) -> Problem:
        return load_problem(self.files[name])

    def store(self, name: str) -> Store:
        return Store(open_workspace(self.files[name]))

    def cycles(self, name: str) -> list[Cycle]:
        return self.store(name).cycles(name, limit=1000, verb="retrain")

    def published_after(self, moment: datetime, name: str) -> bool:
        return any(c.ended and c.as_of >= moment for c in self.cycles(name))

    def wait_for_cycles_after(self, moment: datetime, *names: str) -> None:
        until(
            lambda: all(self.published_after(moment, name) for name in names),
            SECONDS,
            lambda: f"{self.log.read_text(errors='replace')[-4000:]}",
        )


def _rows() -> pd.DataFrame:
    """Three weeks of rows every 40 minutes, and half an hour ahead one every second: no batch is empty."""
    began = datetime.now(UTC).replace(microsecond=0)
    past = make_world(720, first=began - timedelta(days=20))
    ahead = make_world(1800, first=began, step="1s", seed=1)
    frame = pd.concat([past, ahead], ignore_index=True)
    return frame.assign(parcel=range(len(frame)))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            found += [child, *_children(child)]
    return found


@pytest.fixture(autouse=True)
def _seconds(monkeypatch: pytest.MonkeyPatch, _plain_environment: None) -> None:
    monkeypatch.setenv("AUTOML_TEST_SECONDS", "1")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """One server per test, because tests have runs of the same names."""
    with PrefectServer(tmp_path_factory.mktemp("prefect"), login="admin:a-pass-word") as server:
        yield server


def _now() -> datetime:
    return datetime.now(UTC)


def _missed(served: Served, name: str) -> list[datetime]:
    """Slots before the newest one that has ended."""
    newest = max(c.as_of for c in served.cycles(name) if c.ended)
    return missed_slots(served.store(name), served.problem(name), newest)


def _in_a_sweep(served: Served, name: str) -> bool:
    """Whether a run of the problem is between its first and its last step."""
    return any(c.status == "running" for c in served.cycles(name)[:3])


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("apples", "plums"), id="two", marks=pytest.mark.slow),
        pytest.param(("apples", "pears", "plums"), id="three", marks=pytest.mark.slow),
    ],
)
def test_the_newest_slot_runs_whatever_goes_away(
    server: PrefectServer, tmp_path: Path, names: tuple[str, ...]
) -> None:
    served = Served(tmp_path, server, names)
    served.serve()
    try:
        served.wait_for_cycles_after(datetime.min.replace(tzinfo=UTC), *names)
        _check_a_run(served)

        server.stop()
        time.sleep(4)  # two slots
        server.start()
        served.name_world("renewed")
        served.wait_for_cycles_after(_now(), "apples")

        until(lambda: _in_a_sweep(served, "apples"), SECONDS)
        assert served.process is not None
        stop(served.process)  # SIGKILL
        dead = _now()
        served.serve()
        served.wait_for_cycles_after(dead, "apples")

        asleep = _now()
        served.signal(signal.SIGSTOP)
        time.sleep(10)  # five slots
        served.signal(signal.SIGCONT)
        awake = _now()
        served.wait_for_cycles_after(awake, *names)
        # a run makes up missed slots after its own
        until(lambda: not _missed(served, "plums"), SECONDS)
    finally:
        if served.process is not None:
            stop(served.process, signal.SIGTERM)
    _check_the_end(served, asleep, awake)


def test_an_event_starts_a_retraining_through_an_automation(
    server: PrefectServer, tmp_path: Path
) -> None:
    served = Served(tmp_path, server, ["figs"])
    installed = _automations(served, "--install")
    assert {a["done"] for a in installed} == {"created"}
    assert "automl · figs · call" in {a["automation"] for a in installed}
    assert {a["done"] for a in _automations(served, "--install")} == {"updated"}, "nothing twice"
    names = {a["name"] for a in server.post("automations/filter", {}) if "figs" in a["name"]}
    assert names == {a["automation"] for a in installed}
    served.serve()
    try:
        called = _now().replace(second=0, microsecond=0)
        event = {
            "id": str(uuid4()),
            "occurred": _now().isoformat(),
            "event": "automl.call",
            "resource": {"prefect.resource.id": "automl.problem.figs"},
            "payload": {"plan": "full"},
        }
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            httpx.post(f"{server.api}/events", json=[event], timeout=60).raise_for_status()
        server.post("events", [event])
        served.wait_for_cycles_after(called, "figs")
    finally:
        assert served.process is not None
        stop(served.process, signal.SIGTERM)
    [run] = server.runs("figs")
    cycle = served.cycles("figs")[0]
    assert run["name"] == f"figs · {cycle.as_of:%Y-%m-%d %H:%M}"
    assert run["parameters"]["event"] == "call"
    assert run["parameters"]["plan"] == cycle.receipts["plan"]["kind"] == "full"
    assert {a["done"] for a in _automations(served, "--uninstall")} == {"removed"}
    assert _automations(served, "--uninstall") == []


def _automations(served: Served, option: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "automl.cli", "schedule", *served.files.values(), option, "--json"],
        env=served.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["automations"]
    return found


def _check_a_run(served: Served) -> None:
    """What Prefect shows of a run that completed."""
    run = next(r for r in served.server.runs("apples") if r["state_name"] == "Completed")
    slot = datetime.fromisoformat(run["expected_start_time"]).astimezone(UTC)
    assert served.store("apples").find_cycle("apples", "retrain", slot) is not None
    assert run["name"] == f"apples · {slot:%Y-%m-%d %H:%M}" + (f":{slot:%S}" if slot.second else "")
    assert {"automl", "problem:apples", "cycle"} <= set(run["tags"])
    assert "\n" not in run["state"]["message"]
    assert run["state"]["message"].startswith("published · v1 · ")
    body = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    tasks = served.server.post("task_runs/filter", body)
    names = {t["name"] for t in tasks}
    assert {"pull history", "sweep", "decide", "refit", "guards", "release"} <= names
    assert len(tasks) == len(names) <= 20, "one task per step, never per trial"
    artifacts = served.server.post("artifacts/filter", body)
    found = {a["key"]: a for a in artifacts}
    assert {"decision-apples", "leaderboard-apples", "mlflow-run-apples"} <= found.keys()
    assert found["leaderboard-apples"]["type"] == "table"
    assert "'rank': 1" in str(found["leaderboard-apples"]["data"]) or '"rank": 1' in str(
        found["leaderboard-apples"]["data"]
    )
    logged = [
        f"{line['name']}: {line['message']}"
        for line in served.server.post("logs/filter", {})
        if line["flow_run_id"] == run["id"]
    ]
    assert any(line.startswith("automl.retrain.search: plan: full") for line in logged), logged


def _check_the_end(served: Served, asleep: datetime, awake: datetime) -> None:
    runs = [r for name in served.files for r in served.server.runs(f"{name} · ")]
    states = {r["name"]: (r["state_type"], r["state"]["message"]) for r in runs}
    assert {r["state_type"] for r in runs} <= {"COMPLETED", "CRASHED", "FAILED"}, states
    assert len({r["name"] for r in runs}) >= len(runs) - 3, (
        "a name is used again by another attempt"
    )
    assert not any("newest slot" in name for name in states)
    done = [r for r in runs if r["state_name"] == "Completed"]
    began = sorted((r["start_time"], r["end_time"]) for r in done)
    assert all(end <= start for (_, end), (start, _) in pairwise(began)), began
    skipped = [r for r in runs if r["state_name"] == "Skipped"]
    assert skipped
    assert all(r["state"]["message"] for r in skipped)
    for name in served.files:
        cycles = served.cycles(name)
        # the run that SIGTERM ended last has closed its cycle
        assert {c.status for c in cycles} <= set(ENDED), [(c.as_of, c.status) for c in cycles]
        assert all(c.reason for c in cycles)
    if "pears" in served.files:
        last = awake - timedelta(seconds=2)
        slept = [c.as_of for c in served.cycles("pears") if asleep < c.as_of < last]
        assert slept == [], "catch_up = none"
    store = served.store("plums")
    assert _missed(served, "plums") == [], "catch_up = all"
    starts = {start for start, _ in store.windows("plums")}
    assert len(starts) > len([c for c in served.cycles("plums") if c.ended]), "some were made up"
    apples = served.problem("apples")
    assert missed_slots(served.store("apples"), apples, _now()), "catch_up = latest lists them"
