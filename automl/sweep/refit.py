"""Refit the members of a blend on all rows, the newest included, within the time that is left."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd

from automl import progress
from automl.disk import full_disk
from automl.errors import AutomlError
from automl.modeling.families import Encoding
from automl.modeling.features import Rows, shape_of, thin
from automl.modeling.recipes import Blend, Member, Params
from automl.modeling.training import Fit, FitResult, Pool
from automl.sweep.encoding import Matrices
from automl.sweep.leaderboard import Work, makespan

__all__ = ["REFIT_FAILED", "Refits", "Refitted", "part_of", "share_in_time"]

REFIT_FAILED = "refit_failed"  # code of an error: no member could be fitted
START_SECONDS = 1.5  # for encoding all rows and starting processes, before any fit begins
LEAST_ROWS = 1000  # a refit is thinned to no fewer rows
SLACK = 1.5  # refits may take so many times their estimated wall clock


@dataclass(frozen=True, slots=True, eq=False)
class Refitted:
    """A refitted blend; `parts` are (name, weight, encoder, estimator) per member."""

    parts: list[tuple[str, float, Any, Any]]
    blend: Blend
    rows: int  # training rows
    lost: dict[str, str]  # member -> why its refit failed


class Refits:
    """Fits on all rows, started one by one whenever a core is free; a context manager.

    Most cycles keep their champion. So a sweep starts refits of its members on cores that would wait for
    the last trials, and `fit` continues from there; fits that turn out to be unneeded are stopped.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        block = len(work.blocks[0].validation) if work.blocks else 0
        self.rows = Rows.of(work.frame, work.problem, work.contract, block)
        self.pool = Pool(work.workers)
        self.matrices = Matrices(self._encode, work.workers)
        self._started: dict[str, tuple[Params, int]] = {}  # recipe -> learned params, and rows
        self._ended: dict[str, FitResult] = {}
        self._seconds = 0.0  # of fits that have ended

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every process."""
        self.pool.stop()
        self.matrices.stop()

    @property
    def spent(self) -> float:
        """Core-seconds of fits and encodings so far, including running ones."""
        running = sum(seconds for fit, seconds in self.pool.at_work if fit.refit)
        return self.matrices.spent + self._seconds + running

    def begin(self, members: Sequence[Member], limit: float, most: int | None = None) -> bool:
        """Start the next matrix or fit of these members on a free core; False if there is none now.

        Nothing is started twice. `limit` is the moment at which a fit is killed, `most` the largest number
        of rows, by default all.
        """
        most = most or len(self.rows.y)
        for member in members:
            if self._count(member):
                continue
            encoding = self._encoding(member)
            if self.matrices.get(encoding, most) is not None:
                self._started[member.recipe.id] = member.learned, most
                self.pool.start(self._job(member, most), limit)
                return True
            if self.matrices.begin(encoding, most):
                return True
        return False

    def take(self, fit: Fit, result: FitResult) -> None:
        """Record the result of a fit.

        Raises
        ------
        DiskError
            The disk is full.
        """
        full = full_disk(result.error)
        if full is not None:
            raise full
        self._seconds += result.seconds
        self._ended[fit.recipe.id] = result

    def fit(
        self,
        blend: Blend,
        deadline: float,
        costs: Mapping[str, float],
        overhead: float = START_SECONDS,
        *,
        rows: int | None = None,
    ) -> Refitted:
        """Fit the members of a blend on all rows, the newest included, before the deadline.

        `costs` are estimated seconds per recipe id, `overhead` the seconds before the first fit begins. If they
        exceed the time left, older rows are thinned out, or to `rows` if that is given. A member that fails or does not end in time is left
        out, and the others share its weight.

        Raises
        ------
        AutomlError
            No member succeeded in time.
        """
        members = sorted(blend.members, key=lambda m: -costs.get(m.recipe.id, 0.0))
        self._forget(members)
        running = {f.recipe.id: s for f, s in self.pool.at_work}
        left = [
            max(0.0, costs.get(m.recipe.id, 0.0) - running.get(m.recipe.id, 0.0))
            for m in members
            if m.recipe.id not in self._ended
        ]
        seconds = deadline - time.monotonic() - max(START_SECONDS, overhead)
        share = share_in_time(left, self.work.workers, seconds)  # 1 without a budget
        whole = len(self.rows.y)
        most = min(whole, rows or max(LEAST_ROWS, int(whole * share)))
        while any(m.recipe.id not in self._ended for m in members):
            self._show(members, deadline)
            while self.pool.free > self.matrices.running and self.begin(members, deadline, most):
                pass
            for fit, result in self.pool.collect(float("inf"), self.matrices.waker):
                self.take(fit, result)
            self.matrices.drain_waker()
        return self._refitted(blend)

    # ---- its parts

    def _show(self, members: Sequence[Member], deadline: float) -> None:
        done = sum(m.recipe.id in self._ended for m in members)
        until = deadline if deadline < float("inf") else None
        progress.show(f"{done} of {len(members)} members", until=until)

    def _forget(self, members: Sequence[Member]) -> None:
        """Stop fits of other blends; forget fits that failed or had other learned params."""
        wanted = {m.recipe.id for m in members if self._count(m)}
        for fit, result in self.pool.stop(lambda f: f.recipe.id not in wanted or not f.refit):
            self._seconds += result.seconds
            self._started.pop(fit.recipe.id, None)
        for member in members:
            name = member.recipe.id
            if name not in wanted or (name in self._ended and self._ended[name].error):
                self._started.pop(name, None)
                self._ended.pop(name, None)

    def _count(self, member: Member) -> int:
        """The rows of a member's started fit; 0 if it was not started."""
        learned, rows = self._started.get(member.recipe.id, (None, 0))
        return rows if learned == member.learned else 0

    def _encoding(self, member: Member) -> Encoding:
        return self.work.families[member.recipe.family].encoding_of(member.recipe)

    def _refitted(self, blend: Blend) -> Refitted:
        lost = {
            m.recipe.id: self._ended[m.recipe.id].error
            for m in blend.members
            if self._ended[m.recipe.id].error
        }
        if len(lost) == len(blend.members):
            raise _none_left(blend.members[0].recipe.family, lost[blend.members[0].recipe.id])
        left = _weighed(blend, lost)
        numbers = [i for i, m in enumerate(blend.members) if m.recipe.id not in lost]
        parts = [
            (
                f"{i}-{m.recipe.family}",
                m.weight,
                self.matrices.get(self._encoding(m), self._count(m)),
                pd.read_pickle(self._output(m)),
            )
            for i, m in zip(numbers, left.members, strict=True)
        ]
        return Refitted(parts, left, min(map(self._count, left.members)), lost)

    def _encode(self, encoding: Encoding, most: int) -> Any:
        return self.matrices.write(
            thin(self.rows, most, self.work.problem.sweep.seed),
            None,
            self.work.contract.features,
            encoding,
            self._folder(encoding, most),
            classes=len(self.work.contract.classes),
            columns=self.work.columns,
            dtype="float64",
        )

    def _job(self, member: Member, most: int) -> Fit:
        folder = self._folder(self._encoding(member), most)
        return Fit(
            tag=(len(self._started), 0),
            family=str(self.work.families[member.recipe.family].path),
            recipe=member.recipe,
            learned=member.learned,
            shape=shape_of(folder, self.work.problem, self.work.contract),
            data=folder,
            output=self._output(member),
            refit=True,
        )

    def _folder(self, encoding: Encoding, most: int) -> Path:
        return self.work.scratch / f"refit-{encoding}-{most}"

    def _output(self, member: Member) -> Path:
        return self.work.scratch / f"refit-{member.recipe.id}.pickle"


def share_in_time(costs: Sequence[float], workers: int, seconds: float) -> float:
    """The share of rows with which fits that have these costs on all rows end within so many seconds."""
    needed = SLACK * makespan(costs, workers)
    return 1.0 if needed <= max(0.0, seconds) else max(seconds, 1.0) / needed


def part_of(done: Refitted, blend: Blend) -> Refitted:
    """The part of a refit that belongs to one blend, refitted together with others.

    Raises
    ------
    AutomlError
        No member of the blend succeeded in time.
    """
    parts = {m.recipe.id: p for m, p in zip(done.blend.members, done.parts, strict=True)}
    lost = {n: why for n, why in done.lost.items() if n in {m.recipe.id for m in blend.members}}
    if not any(m.recipe.id in parts for m in blend.members):
        raise _none_left(blend.members[0].recipe.family, next(iter(lost.values()), "not fitted"))
    left = _weighed(blend, lost)
    members = [
        (f"{i}-{m.recipe.family}", m.weight, *parts[m.recipe.id][2:])
        for i, m in enumerate(left.members)
    ]
    return replace(done, parts=members, blend=left, lost=lost)


def _weighed(blend: Blend, lost: Collection[str]) -> Blend:
    """The blend without lost members, whose weight goes to the others in proportion."""
    if not lost:
        return blend
    fitted = [m for m in blend.members if m.recipe.id not in lost]
    whole = sum(m.weight for m in fitted)
    return Blend(tuple(replace(m, weight=round(m.weight / whole, 6)) for m in fitted))


def _none_left(family: str, why: str) -> AutomlError:
    return AutomlError(
        f"refit of {family} failed: {why}",
        code=REFIT_FAILED,
        next_step="Raise sweep.budget, or remove the family from sweep.families.",
    )
