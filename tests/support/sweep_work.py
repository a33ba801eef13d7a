"""The work of a sweep on the synthetic world, and outputs as if recipes had been fitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from automl.history import pull, read
from automl.history.contract import infer
from automl.modeling.families import load_families
from automl.modeling.features.matrices import to_outcomes
from automl.modeling.recipes import Recipe
from automl.modeling.splits import make_blocks
from automl.problem import Problem
from automl.sweep import Work, output_file
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF

MakeWork = Callable[..., Work]


@pytest.fixture
def make_work(make_problem: Callable[..., Problem], tmp_path: Path, server: None) -> MakeWork:
    """The work of a sweep on the synthetic world; `edits` change the problem file."""

    def make(edits: dict[str, str] | None = None, *, scratch: str = "scratch") -> Work:
        problem = make_problem(replace=edits or {})
        frame = read(pull(problem, open_workspace(problem.file), AS_OF))
        families = load_families(problem.sweep.families, tmp_path)
        blocks = make_blocks(frame, problem, AS_OF)
        contract = infer(frame, problem)
        return Work(
            problem=problem,
            contract=contract,
            families=families,
            frame=frame,
            blocks=blocks,
            scratch=tmp_path / scratch,
            workers=2,
        )

    return make


def write_outputs(work: Work, noises: dict[Recipe, float], since: int = 0) -> None:
    """Outputs of recipes on every block, or the older ones: the truth plus so much of one noise."""
    outcomes = to_outcomes(work.frame["late"], work.contract)
    (work.scratch / "outputs").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for b, block in enumerate(work.blocks[since:], start=since):
        truth = outcomes[block.validation]
        common = rng.normal(0, 1, len(truth))
        for recipe, noise in noises.items():
            noisy = truth + noise * common
            np.save(output_file(work, recipe, b), np.column_stack([-noisy, noisy]))
