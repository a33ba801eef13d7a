"""A file counts once, when it is complete; a restart neither forgets one nor reports one twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from automl.cycles.arrivals import arrived, watched
from automl.problem import Problem, load_problem
from automl.workspace import open_workspace

ARRIVES = {"[metric]": '[schedule]\nretrain = "0 3 * * 1"\narrives = "in/*.csv"\n\n[metric]'}


def test_a_file_counts_once_when_two_looks_find_it_alike(
    make_problem: Callable[..., Problem], tmp_path: Path
) -> None:
    problem = make_problem(replace=ARRIVES)
    workspace = open_workspace(problem.file)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "old.csv").write_text("1")
    assert arrived(problem, workspace) == [], "what is there at the first look has not arrived"
    file = folder / "new.csv"
    file.write_text("1")
    assert arrived(problem, workspace) == [], "it may still be written"
    file.write_text("1,2")
    assert arrived(problem, workspace) == []
    assert arrived(problem, open_workspace(problem.file)) == ["in/new.csv"]
    assert arrived(problem, workspace) == []
    (folder / "old.csv").write_text("changed")
    (folder / "_SUCCESS").write_text("")
    (folder / "note.txt").write_text("")
    arrived(problem, workspace)
    assert arrived(problem, workspace) == ["in/old.csv"]
    file.unlink()
    arrived(problem, workspace)
    file.write_text("1,2")
    arrived(problem, workspace)
    assert arrived(problem, workspace) == ["in/new.csv"], "one that went and came again"


def test_another_pattern_begins_again(make_problem: Callable[..., Problem], tmp_path: Path) -> None:
    problem = make_problem(replace=ARRIVES)
    workspace = open_workspace(problem.file)
    (tmp_path / "in").mkdir()
    arrived(problem, workspace)
    text = problem.file.read_text("utf-8")
    problem.file.write_text(text.replace("in/*.csv", "other/**/*.csv"), "utf-8")
    other = load_problem(problem.file)
    (tmp_path / "other" / "day=1").mkdir(parents=True)
    (tmp_path / "other" / "day=1" / "a.csv").write_text("1")
    assert [arrived(other, workspace) for _ in range(2)] == [[], []]


def test_nothing_is_watched_of_a_database(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem()
    assert watched(problem) == ""
    assert arrived(problem, open_workspace(problem.file)) == []
