"""Losses of the constant baseline, and means over blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from automl.history import pull, read
from automl.history.contract import infer
from automl.modeling.families import load_families
from automl.modeling.splits import make_blocks
from automl.problem import Problem
from automl.sweep import (
    Plan,
    Work,
    baseline_losses,
    sweep,
)
from automl.sweep.leaderboard import means
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF
from tests.support.sweep_work import make_work as make_work  # a fixture

MakeProblem = Callable[..., Problem]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_baseline_losses_equal_those_of_the_fitted_baseline(
    make_problem: MakeProblem, tmp_path: Path, task: str
) -> None:
    problem = make_problem(task)
    frame = read(pull(problem, open_workspace(problem.file), AS_OF))
    families = load_families(problem.sweep.families, tmp_path)
    blocks = make_blocks(frame, problem, AS_OF)
    work = Work(
        problem=problem,
        contract=infer(frame, problem),
        families=families,
        frame=frame,
        blocks=blocks,
        scratch=tmp_path / "s",
        workers=2,
    )
    leaderboard = sweep(work, deadline=float("inf"), plan=Plan(kind="warm", challengers=0))
    baseline = next(t for t in leaderboard.trials if t.recipe.family == "baseline")
    assert baseline_losses(work) == pytest.approx(list(baseline.losses), rel=1e-6)


def test_a_further_metric_without_a_value_on_a_block_is_left_out() -> None:
    rows = [{"mae": 1.0, "mape": 0.1}, {"mae": 2.0, "mape": float("nan")}]
    assert means(rows) == {"mae": pytest.approx((1 + 0.85 * 2) / 1.85)}
    assert means([]) == {}
