"""Scratch workspaces hold everything of a policy, and nothing of the real one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from automl.backtest.scratch import (
    FIRST,
    Scratch,
    copy_first,
    folder_of,
    home_of,
    prepare,
    scratch_of,
)
from automl.backtest.window import Options, Window, window_of
from automl.history.contract import contract_file
from automl.problem import Span, load_problem
from automl.workspace import Workspace, open_workspace
from tests.support.turning import monday, write_world


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_world(tmp_path, weeks=8)


@pytest.fixture
def window(file: Path) -> Window:
    return window_of(load_problem(file), Options(start=monday(4), end=monday(7)))


@pytest.fixture
def workspace(file: Path) -> Workspace:
    return open_workspace(file)


def test_nothing_of_a_scratch_workspace_lies_elsewhere(
    window: Window, workspace: Workspace, tmp_path: Path
) -> None:
    home = home_of(workspace, window)
    problem, place = scratch_of(window, workspace, home, "refit")
    assert place.home.parent == home
    assert home.parent.parent == workspace.home
    assert str(place.home) in place.database_url
    assert not place.tracking_uri
    assert not problem.publish.parquet
    assert not problem.monitoring.alerts
    assert contract_file(problem).parent == place.home
    assert place.root == tmp_path, "sources are read where they are"
    assert problem.retraining.when == "refit"


def test_paths_of_users_files_still_lead_to_them(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    text = text.replace('"linear"]', '"linear", "mine.py"]')
    (file.parent / "mine.py").touch()
    file.write_text(text, encoding="utf-8")
    window = window_of(load_problem(file), Options(start=monday(4), end=monday(7)))
    problem, _ = scratch_of(window, open_workspace(file), Path("/elsewhere"), "full")
    assert problem.sweep.families == ("baseline", "linear", str(file.parent / "mine.py"))


def test_policies_at_once_share_cores_and_get_as_much_more_time(
    window: Window, workspace: Workspace
) -> None:
    sweep = window.problem.sweep.model_copy(update={"budget": Span(20, "s")})
    budgeted = Window(
        problem=window.problem.model_copy(update={"sweep": sweep}),
        start=window.start,
        end=window.end,
        events=window.events,
    )
    place = Workspace(
        root=workspace.root, home=workspace.home, database_url="", tracking_uri="", workers=4
    )
    problem, scratch = scratch_of(budgeted, place, workspace.home, "full", at_once=2)
    assert (scratch.workers, problem.sweep.budget) == (2, Span(40, "s"))
    problem, scratch = scratch_of(budgeted, place, workspace.home, "full")
    assert (scratch.workers, problem.sweep.budget) == (4, Span(20, "s"))


def test_the_same_window_again_is_the_same_folder_and_another_one_is_not(
    window: Window, workspace: Workspace
) -> None:
    problem = window.problem
    when = problem.retraining.model_copy(update={"when": "refit"})
    own = problem.model_copy(update={"retraining": when})
    span = Options(start=monday(4), end=monday(7))
    assert home_of(workspace, window_of(own, span)) == home_of(workspace, window)
    steps = Options(start=monday(4), end=monday(7), every=Span(2, "d"))
    assert home_of(workspace, window_of(problem, steps)) != home_of(workspace, window)
    sweep = problem.sweep.model_copy(update={"trials": 4})
    other = problem.model_copy(update={"sweep": sweep})
    assert home_of(workspace, window_of(other, span)) != home_of(workspace, window)
    before = home_of(workspace, window)
    contract_file(problem).write_text("{}", encoding="utf-8")
    assert home_of(workspace, window) != before


def test_an_edited_policy_starts_over(tmp_path: Path) -> None:
    policy = tmp_path / "mine.py"
    policy.write_text("a = 1", encoding="utf-8")
    before = folder_of(str(policy))
    assert before.startswith("mine-")
    assert folder_of(f"{policy}:monthly") != before
    policy.write_text("a = 2", encoding="utf-8")
    assert folder_of(str(policy)) != before


def test_a_copy_of_the_first_cycle_has_a_store_of_its_own(
    window: Window, workspace: Workspace, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    first, other = (scratch_of(window, workspace, home, n) for n in (FIRST, "refit"))
    prepare(first, window.problem)
    (first.workspace.home / "part.parquet").write_bytes(b"rows")
    write(first, "create table t (x); insert into t values (1)")
    copy_first(first, other)
    write(other, "insert into t values (2)")
    copy_first(first, other)  # again: what has begun stays
    assert [count(s) for s in (first, other)] == [1, 2]
    assert (other.workspace.home / "part.parquet").read_bytes() == b"rows"
    assert other.problem.file.exists()


def write(scratch: Scratch, script: str) -> None:
    with closing(sqlite3.connect(scratch.workspace.home / "automl.db")) as store:
        store.executescript(script)


def count(scratch: Scratch) -> int:
    with closing(sqlite3.connect(scratch.workspace.home / "automl.db")) as store:
        return int(store.execute("select count(*) from t").fetchone()[0])
