"""A slot that was missed is scored afterwards; readers keep the newest predictions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from automl import report
from automl.api.running import score_missed_slots
from automl.cli import run
from automl.cli.app import CycleOptions
from automl.cycles.missed import missed_slots
from automl.cycles.options import RunOptions
from automl.problem import Problem, load_problem
from automl.score import cycle, score
from automl.store import Store
from automl.workspace import open_workspace
from tests.support.parcels import make_world, write_problem

WEEK = timedelta(days=7)
FIRST = datetime(2026, 3, 1, 23, tzinfo=UTC)  # Monday in Berlin
WEEKLY = '\n[schedule]\ntimezone = "Europe/Berlin"\nretrain = "0 0 * * 1"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A weekly problem across the change to summer time, with its first cycle."""
    file = write_problem(tmp_path, replace={"trials   = 4": "trials   = 2"}, frame=make_world(4000))
    file.write_text(file.read_text(encoding="utf-8") + WEEKLY, encoding="utf-8")
    cycle(load_problem(file), open_workspace(file), RunOptions(as_of=FIRST))
    return file


def test_missed_slots_are_scored_by_the_champion_of_their_time(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    problem, workspace = load_problem(file), open_workspace(file)
    now = FIRST + 4 * WEEK + timedelta(hours=3)  # two Mondays later, one of them an hour shorter
    monkeypatch.setattr("automl.workspace.now", lambda: now)
    slots = problem.slots("score")
    assert slots is not None
    third, newest = slots.newest(now - WEEK), slots.newest(now)
    score(problem, workspace, RunOptions(as_of=slots.after(FIRST)))
    score(problem, workspace, RunOptions(as_of=newest))
    passed = [slots.after(slots.after(FIRST)), third]
    assert missed_slots(Store(workspace), problem, now) == passed

    score_missed_slots(problem, workspace)

    assert caplog.text.count("scored a missed slot") == 2
    assert missed_slots(Store(workspace), problem, now) == []
    with sqlite3.connect(workspace.home / "automl.db") as database:
        live = database.execute("select distinct as_of from parcels").fetchall()
        rows = database.execute("select count(*), count(distinct parcel) from parcels_history")
        published, distinct = rows.fetchone()
        inside = sum(
            FIRST <= sent.to_pydatetime().replace(tzinfo=UTC) < problem.until(newest)
            for sent in make_world(4000)["sent_at"]
        )
    assert [datetime.fromisoformat(at).replace(tzinfo=UTC) for (at,) in live] == [newest]
    assert published == distinct == inside, "every row in exactly one batch"


def test_status_lists_missed_slots_but_not_refused_ones(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, workspace = load_problem(file), open_workspace(file)
    moment = FIRST + 2 * WEEK + timedelta(hours=1)
    monkeypatch.setattr("automl.report.tables.now", lambda: moment)
    store = Store(workspace)
    passed = FIRST + WEEK
    assert report.status(problem, workspace)["missed"] == ["2026-03-08T23:00"]
    opened = store.open_cycle(problem.name, "score", passed, 1, problem.digest)
    store.end_cycle(opened, "refused", "no row")
    assert report.status(problem, workspace)["missed"] == []


def test_a_cycle_ahead_of_the_clock_is_warned_of_and_shown(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    problem, workspace = load_problem(file), open_workspace(file)
    assert report.status(problem, workspace)["ahead"] is None
    monkeypatch.setattr("automl.report.tables.now", lambda: FIRST - WEEK)
    assert report.status(problem, workspace)["ahead"] == "2026-03-01T23:00"
    monkeypatch.setattr("automl.cycles.job.now", lambda: FIRST - 2 * WEEK)
    score(problem, workspace, RunOptions(as_of=FIRST + WEEK))
    assert "as_of_ahead" in caplog.text


def test_the_same_command_again_scores_the_missed_slots(
    file: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO")
    problem, workspace = load_problem(file), open_workspace(file)
    newest = FIRST + 2 * WEEK
    score(problem, workspace, RunOptions(as_of=newest))
    monkeypatch.setattr("automl.workspace.now", lambda: newest + timedelta(hours=1))
    monkeypatch.setattr("automl.report.current.now", lambda: newest + timedelta(hours=1))
    assert run.run_pipeline("score", file, CycleOptions(), as_json=True) == 0
    assert '"already": true' in capsys.readouterr().out
    assert caplog.text.count("scored a missed slot") == 1


def test_without_a_schedule_nothing_is_missed(
    make_problem: Callable[..., Problem], tmp_path: Path
) -> None:
    problem = make_problem()
    assert missed_slots(Store(open_workspace(problem.file)), problem, FIRST) == []
