"""The decided recipes fitted on everything, the newest rows included, within the time that is left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from automl.errors import AutomlError
from automl.features.matrices import Rows, shape_of, thin, write_matrices
from automl.spaces import Blend
from automl.sweep.board import Work
from automl.trial import Fit, FitResult, Pool

__all__ = ["refit"]

START_SECONDS = 1.5  # encoding all rows and starting processes, before any fit begins


def refit(
    work: Work, blend: Blend, deadline: float, costs: Mapping[str, float]
) -> tuple[list[Any], int]:
    """Fit the members of a blend on all rows, the newest included, before the deadline.

    `costs` are estimated seconds per recipe id. When they do not fit the time left, the oldest rows
    are thinned out. Returns (name, weight, encoder, estimator) each, and the number of rows used.

    Raises
    ------
    AutomlError
        A member failed or did not end in time.
    """
    rows = Rows.of(work.frame, work.problem, work.contract)
    each = [costs.get(m.recipe.id, 0.0) for m in blend.members]
    needed = 1.5 * max(sum(each) / work.workers, *each, 0.0)
    left = deadline - time.monotonic() - START_SECONDS
    if needed > left:  # never without a budget
        rows = thin(
            rows, max(1000, int(len(rows.y) * max(left, 1.0) / needed)), work.problem.sweep.seed
        )
    encoders: dict[str, Any] = {}
    fitted: dict[int, Any] = {}
    pool = Pool(work.workers)
    try:
        for i, member in enumerate(blend.members):
            family = work.families[member.recipe.family]
            folder = work.scratch / f"refit-{family.encoding}"
            if family.encoding not in encoders:
                encoders[family.encoding] = write_matrices(
                    rows, None, work.contract.features, family.encoding, folder, dtype="float64"
                )
            shape = shape_of(folder, work.problem, work.contract, family.encoding)
            while not pool.free:
                fitted |= _fitted(pool.collect(deadline))
            output = work.scratch / f"refit-{member.recipe.id}.pickle"
            pool.start(
                Fit(
                    (i, 0),
                    str(family.path),
                    member.recipe,
                    member.learned,
                    shape,
                    folder,
                    output,
                    refit=True,
                ),
                deadline,
            )
        while pool.running:
            fitted |= _fitted(pool.collect(deadline))
    finally:
        pool.stop()
    parts = [
        (
            f"{i}-{m.recipe.family}",
            m.weight,
            encoders[work.families[m.recipe.family].encoding],
            fitted[i],
        )
        for i, m in enumerate(blend.members)
    ]
    return parts, len(rows.y)


def _fitted(ended: Sequence[tuple[Fit, FitResult]]) -> dict[int, Any]:
    for fit, result in ended:
        if result.error:
            raise AutomlError(
                f"refit of {fit.recipe.family} failed: {result.error}",
                code="refit_failed",
                next_step="Raise sweep.budget, or take the family out of sweep.families.",
            )
    return {fit.tag[0]: pd.read_pickle(fit.output) for fit, _ in ended}
