"""The newest slot runs, also one that Prefect has lost; older ones end with a sentence; what cannot help is not repeated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from automl.cycles.missed import NewestSlot
from automl.problem import load_problem
from automl.store import Store
from automl.workspace import open_workspace
from flows import triage
from flows.deployed import Deployed
from tests.support.parcels import write_problem

SLOT = datetime(2026, 3, 9, 3, tzinfo=UTC)  # a Monday
WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)


class Server:
    """Prefect's server, as far as triage sees it."""

    def __init__(self, runs: Iterable[Any] = ()) -> None:
        self.waiting = list(runs)
        self.earlier: list[Any] = []
        self.states: dict[Any, Any] = {}
        self.created: list[dict[str, Any]] = []

    def get_scheduled_flow_runs_for_deployments(self, _: Any, scheduled_before: Any) -> list[Any]:
        return [r for r in self.waiting if r.expected_start_time <= scheduled_before]

    def read_flow_runs(self, flow_run_filter: Any, **_: Any) -> list[Any]:
        return self.earlier if flow_run_filter.state is None else []

    def set_flow_run_state(self, run: Any, state: Any, **_: bool) -> None:
        self.states[run] = state

    def set_flow_run_name(self, run: Any, name: str) -> None:
        next(r for r in self.waiting if r.id == run).name = name

    def create_flow_run_from_deployment(self, _: Any, **options: Any) -> Any:
        self.created.append(options)
        return scheduled(options["state"].state_details.scheduled_time, tags=options["tags"])


def scheduled(slot: datetime, *, auto: bool = True, tags: Iterable[str] = ()) -> Any:
    return SimpleNamespace(
        id=uuid4(), name="random", deployment_id=DEPLOYED, parameters={}, auto_scheduled=auto,
        tags=list(tags), expected_start_time=slot,
    )  # fmt: skip


def ended(name: str, at: datetime, *, final: bool = True) -> Any:
    return SimpleNamespace(state=SimpleNamespace(name=name, timestamp=at, is_final=lambda: final))


DEPLOYED = uuid4()


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    file = write_problem(tmp_path)
    file.write_text(file.read_text("utf-8") + '\n[schedule]\nretrain = "0 3 * * 1"\n', "utf-8")
    created = (SLOT - 2 * WEEK).timestamp()
    return Deployed(id=DEPLOYED, verb="cycle", name="parcels", file=file, edited=0, created=created)


def set_catch_up(deployed: Deployed, value: str) -> None:
    text = deployed.file.read_text("utf-8")
    deployed.file.write_text(f'{text}catch_up = "{value}"\n', "utf-8")


def due(
    server: Server, deployed: Deployed, monkeypatch: pytest.MonkeyPatch, *, now: datetime = SLOT + HOUR,
    since: datetime = SLOT - WEEK,
) -> list[datetime]:  # fmt: skip
    monkeypatch.setattr(triage, "now", lambda: now)
    found = triage.due_runs(server, [deployed], since=since)  # type: ignore[arg-type]
    return [d.run.expected_start_time for d in found]


def test_of_late_runs_the_newest_is_kept_and_the_others_end_with_a_name_and_a_sentence(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [scheduled(SLOT - 2 * WEEK), scheduled(SLOT - WEEK), scheduled(SLOT)]
    server = Server(runs)
    assert due(server, deployed, monkeypatch) == [SLOT]
    assert [server.states[r.id].name for r in runs[:2]] == ["Skipped", "Skipped"]
    assert server.states[runs[0].id].type.value == "COMPLETED"
    sentence = server.states[runs[0].id].message
    assert (
        sentence == "the slot 2026-03-09 03:00:00 UTC is newer; its run also scores this one's rows"
    )
    assert runs[0].name == "parcels · 2026-02-23 03:00"
    assert server.created == []


def test_with_latest_a_skipped_run_says_how_to_fill_its_window(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_catch_up(deployed, "latest")
    runs = [scheduled(SLOT - WEEK), scheduled(SLOT)]
    server = Server(runs)
    assert due(server, deployed, monkeypatch) == [SLOT]
    message = server.states[runs[0].id].message
    assert f"automl score {deployed.file} --as-of 2026-03-02T03:00 --backfill" in message


def test_a_run_that_a_person_or_an_event_started_is_never_skipped(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server([scheduled(SLOT - WEEK, auto=False), scheduled(SLOT)])
    assert due(server, deployed, monkeypatch) == [SLOT - WEEK, SLOT]
    assert server.states == {}


@pytest.mark.parametrize("catch_up", ["latest", "all"])
def test_a_slot_that_prefect_has_lost_is_run(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, catch_up: str
) -> None:
    set_catch_up(deployed, catch_up)
    server = Server()
    assert due(server, deployed, monkeypatch, since=SLOT + HOUR) == [SLOT], (
        "also right after a start"
    )
    made = server.created[0]
    assert made["name"] == "parcels · 2026-03-09 03:00"
    assert made["tags"] == [triage.MADE_UP]
    assert made["idempotency_key"] == "cycle/parcels/2026-03-09T03:00:00+00:00/0"


def test_with_none_no_slot_is_made_up_that_was_not_served(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_catch_up(deployed, "none")
    late = scheduled(SLOT)
    server = Server([late])
    assert due(server, deployed, monkeypatch, since=SLOT + HOUR / 2) == []
    assert "catch_up = none" in server.states[late.id].message
    server = Server([scheduled(SLOT)])
    assert due(server, deployed, monkeypatch) == [SLOT], "a run that waited for another problem"


def test_a_problem_that_was_never_served_waits_for_its_next_slot(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.created = (SLOT + HOUR / 2).timestamp()
    assert due(Server(), deployed, monkeypatch) == []
    problem = load_problem(deployed.file)
    store = Store(open_workspace(deployed.file))
    opened = store.open_cycle(problem.name, "retrain", SLOT - WEEK, 1, problem.digest)
    store.end_cycle(opened, "released", "one")
    assert due(Server(), deployed, monkeypatch) == [SLOT], "of a problem with cycles it is missed"


def test_a_slot_whose_cycle_has_ended_is_not_run(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = load_problem(deployed.file)
    store = Store(open_workspace(deployed.file))
    opened = store.open_cycle(problem.name, "retrain", SLOT, 1, problem.digest)
    assert due(Server(), deployed, monkeypatch) == [SLOT], "its process died"
    store.end_cycle(opened, "refused", "no row")
    assert due(Server(), deployed, monkeypatch) == [], "the same rows would be refused again"
    store.end_cycle(opened, "published", "done")
    assert due(Server(), deployed, monkeypatch) == []


def test_a_paused_deployment_is_left_alone(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.active = False
    assert due(Server(), deployed, monkeypatch) == []


def test_no_deployment_starves_behind_one_whose_slots_are_older(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triage, "now", lambda: SLOT + HOUR)
    other = replace(deployed, id=uuid4(), started=1.0)
    waiting = [scheduled(SLOT - WEEK, auto=False), scheduled(SLOT)]
    waiting[0].deployment_id = other.id
    server: Any = Server(waiting)
    found = triage.due_runs(server, [deployed, other], since=SLOT, busy="parcels")
    assert [d.deployed for d in found] == [deployed, other], "it has had its turn"


@pytest.mark.parametrize(
    ("names", "status", "minutes", "attempt"),
    [
        ([], "missing", 0, 0),
        ([], "running", 0, 0),
        ([], "failed", 0, None),  # a command failed, and said so
        (["Running"], "running", 60, None),
        (["Crashed"], "running", 0.1, None),
        (["Crashed"], "running", 0.2, 1),
        (["TimedOut", "TimedOut"], "failed", 0.5, None),
        (["TimedOut", "TimedOut"], "failed", 1, 2),
        (["Failed"], "failed", 600, None),
        (["Failed"], "refused", 600, None),
        (["Cancelled"], "failed", 600, None),
        (["Skipped"], "running", 1, 1),  # another run held the problem, and has died
        (["Skipped"], "missing", 600, None),
        (["Crashed"] * 12, "running", 6000, None),
    ],
)
def test_which_slots_are_run_again_and_when(
    names: list[str], status: Any, minutes: float, attempt: int | None
) -> None:
    earlier = [ended(name, SLOT, final=name != "Running") for name in names]
    moment = SLOT + timedelta(minutes=minutes)
    assert triage.next_attempt(earlier, NewestSlot(SLOT, status), moment) == attempt
