"""The dead-man check: nothing has ended for two slots."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from automl.monitoring.late import check_late, late
from automl.problem import Problem, load_problem
from automl.store import Store, open_alerts
from automl.workspace import Workspace, open_workspace
from tests.support.parcels import write_problem

MONDAY = datetime(2026, 3, 2, 3, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.fixture
def scheduled(tmp_path: Path) -> tuple[Problem, Workspace]:
    schedule = '[schedule]\nretrain = "0 3 * * 1"\n\n[validation]'
    file = write_problem(tmp_path, replace={"[validation]": schedule})
    old = (MONDAY - 10 * WEEK).timestamp()
    os.utime(file, (old, old))
    return load_problem(file), open_workspace(file)


def ended(problem: Problem, workspace: Workspace, as_of: datetime, status: str = "kept") -> None:
    store = Store(workspace)
    cycle = store.open_cycle(problem.name, "retrain", as_of, 1, problem.digest)
    store.end_cycle(cycle, status, "")


def test_two_slots_without_the_end_of_a_cycle_are_late(
    scheduled: tuple[Problem, Workspace],
) -> None:
    problem, workspace = scheduled
    ended(problem, workspace, MONDAY)
    hour = timedelta(hours=1)
    for moment in (MONDAY + hour, MONDAY + WEEK + hour, MONDAY + 2 * WEEK - hour):
        assert late(problem, workspace, moment) == ""
    assert late(problem, workspace, MONDAY + 2 * WEEK + hour) == (
        "parcels: no retrain has ended for 2 slots (the last as of 2026-03-02 03:00 UTC)"
    )


def test_a_cycle_that_failed_has_not_ended(scheduled: tuple[Problem, Workspace]) -> None:
    problem, workspace = scheduled
    ended(problem, workspace, MONDAY)
    ended(problem, workspace, MONDAY + WEEK, "failed")
    assert late(problem, workspace, MONDAY + 2 * WEEK + timedelta(hours=1))


def test_a_problem_that_never_ran_is_as_old_as_its_file(
    scheduled: tuple[Problem, Workspace],
) -> None:
    problem, workspace = scheduled
    assert late(problem, workspace, MONDAY).endswith("(none so far)")
    os.utime(problem.file, (MONDAY.timestamp(), MONDAY.timestamp()))
    assert late(problem, workspace, MONDAY + WEEK) == ""


def test_without_a_schedule_no_problem_is_late(tmp_path: Path) -> None:
    file = write_problem(tmp_path)
    problem, workspace = load_problem(file), open_workspace(file)
    assert late(problem, workspace, MONDAY + 100 * WEEK) == ""


def test_being_late_is_an_alert_until_a_cycle_ends(scheduled: tuple[Problem, Workspace]) -> None:
    problem, workspace = scheduled
    ended(problem, workspace, MONDAY)
    moment = MONDAY + 5 * WEEK
    assert check_late(problem, workspace, moment) == check_late(problem, workspace, moment) != ""
    assert [a.kind for a in open_alerts(Store(workspace), problem.name)] == ["late"]
    ended(problem, workspace, moment)
    assert check_late(problem, workspace, moment) == ""
    assert open_alerts(Store(workspace), problem.name) == []
