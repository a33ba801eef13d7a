"""The decided recipes fitted on everything, the newest rows included, within the time that is left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from automl.errors import AutomlError
from automl.features.matrices import Rows, shape_of, thin, write_matrices
from automl.spaces import Blend, Member
from automl.sweep.board import Work, makespan
from automl.trial import Fit, FitResult, Pool

__all__ = ["Refitted", "part_of", "refit"]

START_SECONDS = 1.5  # encoding all rows and starting processes, before any fit begins


@dataclass(frozen=True, slots=True, eq=False)
class Refitted:
    """What came of a refit: (name, weight, encoder, estimator) each, the blend they are, and how."""

    parts: list[tuple[str, float, Any, Any]]
    blend: Blend
    rows: int  # that were fitted on
    lost: dict[str, str]  # member -> why it is missing
    seconds: float = 0.0  # core-seconds of fits and encodings


def refit(
    work: Work,
    blend: Blend,
    deadline: float,
    costs: Mapping[str, float],
    overhead: float = START_SECONDS,
) -> Refitted:
    """Fit the members of a blend on all rows, the newest included, before the deadline.

    `costs` are estimated seconds per recipe id, `overhead` those before the first fit begins. When they do not fit the time left, the oldest rows
    are thinned out. A member that fails or does not end in time is left out, and the others share its
    weight.

    Raises
    ------
    AutomlError
        Not one member ended well in time.
    """
    rows = Rows.of(work.frame, work.problem, work.contract)
    each = [costs.get(m.recipe.id, 0.0) for m in blend.members]
    needed = 1.5 * makespan(each, work.workers)
    seconds = deadline - time.monotonic() - max(START_SECONDS, overhead)
    if needed > seconds:  # never without a budget
        most = max(1000, int(len(rows.y) * max(seconds, 1.0) / needed))
        rows = thin(rows, most, work.problem.sweep.seed)
    encoders, ended, encoding = _fit_members(work, blend, rows, deadline)
    lost = {fit.recipe.id: result.error for fit, result in ended if result.error}
    fitted = {fit.tag[0]: pd.read_pickle(fit.output) for fit, result in ended if not result.error}
    if not fitted:
        name, why = next((f.recipe.family, r.error) for f, r in ended)
        raise _none_left(name, why)
    whole = sum(m.weight for i, m in enumerate(blend.members) if i in fitted)
    left = [
        replace(m, weight=round(m.weight / whole, 6))
        for i, m in enumerate(blend.members)
        if i in fitted
    ]
    parts = [
        (
            f"{i}-{m.recipe.family}",
            m.weight,
            encoders[work.families[m.recipe.family].encoding_of(m.recipe)],
            fitted[i],
        )
        for i, m in zip(sorted(fitted), left, strict=True)
    ]
    seconds = encoding + sum(result.seconds for _, result in ended)
    return Refitted(parts, Blend(tuple(left)) if lost else blend, len(rows.y), lost, seconds)


def part_of(done: Refitted, blend: Blend) -> Refitted:
    """What came of one blend whose members were refit together with others.

    Raises
    ------
    AutomlError
        Not one of its members ended well in time.
    """
    parts = {m.recipe.id: p for m, p in zip(done.blend.members, done.parts, strict=True)}
    there = [m for m in blend.members if m.recipe.id in parts]
    lost = {n: why for n, why in done.lost.items() if n in {m.recipe.id for m in blend.members}}
    if not there:
        raise _none_left(blend.members[0].recipe.family, next(iter(lost.values()), "not fitted"))
    whole = sum(m.weight for m in there)
    left = [replace(m, weight=round(m.weight / whole, 6)) for m in there] if lost else there
    mine = [
        (f"{i}-{m.recipe.family}", m.weight, *parts[m.recipe.id][2:]) for i, m in enumerate(left)
    ]
    return replace(done, parts=mine, blend=Blend(tuple(left)) if lost else blend, lost=lost)


def _none_left(family: str, why: str) -> AutomlError:
    return AutomlError(
        f"refit of {family} failed: {why}",
        code="refit_failed",
        next_step="Raise sweep.budget, or take the family out of sweep.families.",
    )


def _fit_members(
    work: Work, blend: Blend, rows: Rows, deadline: float
) -> tuple[dict[str, Any], list[tuple[Fit, FitResult]], float]:
    """Encoders by encoding, how every fit ended, and the seconds of encoding."""
    encoders: dict[str, Any] = {}
    ended: list[tuple[Fit, FitResult]] = []
    encoding, pool = 0.0, Pool(work.workers)
    try:
        for i, member in enumerate(blend.members):
            wanted = work.families[member.recipe.family].encoding_of(member.recipe)
            folder = work.scratch / f"refit-{wanted}"
            if wanted not in encoders:
                started = time.monotonic()
                encoders[wanted] = write_matrices(
                    rows,
                    None,
                    work.contract.features,
                    wanted,
                    folder,
                    classes=len(work.contract.classes),
                    columns=work.columns,
                    dtype="float64",
                )
                encoding += time.monotonic() - started
            while not pool.free:
                ended += pool.collect(deadline)
            pool.start(_job(work, member, i, folder), deadline)
        while pool.running:
            ended += pool.collect(deadline)
    finally:
        pool.stop()
    return encoders, ended, encoding


def _job(work: Work, member: Member, number: int, folder: Path) -> Fit:
    return Fit(
        tag=(number, 0),
        family=str(work.families[member.recipe.family].path),
        recipe=member.recipe,
        learned=member.learned,
        shape=shape_of(folder, work.problem, work.contract),
        data=folder,
        output=work.scratch / f"refit-{member.recipe.id}.pickle",
        refit=True,
    )
