"""Rebuild a past cycle and compare, in causal order: the first difference is the likely cause of the later ones."""

from __future__ import annotations

from datetime import datetime

from automl.history.contract import load_contract
from automl.modeling.user_files import try_user_files
from automl.problem import Problem
from automl.reproduction import causes
from automl.reproduction.past import past_cycle
from automl.reproduction.rebuild import rebuilt
from automl.reproduction.values import Reproduction
from automl.workspace import Workspace

__all__ = ["reproduce"]


def reproduce(problem: Problem, workspace: Workspace, as_of: datetime) -> Reproduction:
    """Rebuild the cycle of `as_of` from its snapshot, and compare.

    Raises
    ------
    ProblemError
        There is no such cycle, or it released nothing.
    UnreachableError
        MLflow does not respond.
    """
    try_user_files(problem)
    past = past_cycle(problem, workspace, as_of)
    contract = load_contract(past.problem)
    checks = [causes.data(past)]
    checks += [
        causes.problem_file(past),
        causes.contract(past),
        causes.libraries(past),
        causes.code(past),
        causes.decision(past),
    ]
    if checks[0].same and contract is not None:
        checks += rebuilt(past, contract)
    return Reproduction(
        problem=problem.name,
        as_of=as_of,
        model_version=past.release.model_version,
        checks=tuple(checks),
    )
