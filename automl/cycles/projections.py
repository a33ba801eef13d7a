"""Steps that bring MLflow and the parquet copy up to date with the store."""

from __future__ import annotations

from dataclasses import replace

from automl.cycles.result import CycleResult
from automl.cycles.steps import Runner, step
from automl.errors import UnreachableError
from automl.problem import Problem
from automl.promotion.release import reconcile, roll_forward
from automl.workspace import Workspace

__all__ = ["caught_up", "follow_release"]

catch_up = step("catch up", io=True)(roll_forward)
follow_release = step("let MLflow follow", io=True)(reconcile)


def caught_up(
    result: CycleResult, problem: Problem, workspace: Workspace, run: Runner
) -> CycleResult:
    """The result of a cycle that has ended, with a warning if MLflow is out of reach.

    What readers see is committed: MLflow lags, and the next command updates it.
    """
    try:
        run(catch_up, problem, workspace)
    except UnreachableError as error:
        if not error.code.startswith("mlflow"):
            raise
        lag = "MLflow is not up to date; the next command updates it"
        known = any(w.startswith(lag) for w in result.warnings)
        return result if known else replace(result, warnings=[*result.warnings, f"{lag}: {error}"])
    return result
