"""Values of a sweep: the work it is given, its trials, and the leaderboard it ends in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.history.contract import Contract
from automl.modeling.ensemble import block_weights
from automl.modeling.families import Family
from automl.modeling.features import Columns, Rows, row_weights, to_outcomes
from automl.modeling.metrics import Metric, get_metric
from automl.modeling.recipes import Blend, Params, Recipe
from automl.modeling.splits import Block
from automl.modeling.tasks import Task, task_of
from automl.problem import Problem

__all__ = [
    "BlockPredictions",
    "Leaderboard",
    "Past",
    "Plan",
    "PlanKind",
    "Trial",
    "Work",
    "baseline_losses",
    "blend_losses",
    "blend_outputs",
    "makespan",
    "mean",
    "means",
    "output_file",
]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Work:
    """The input of a sweep; everything in it belongs to one snapshot."""

    problem: Problem
    contract: Contract
    families: Mapping[str, Family]
    frame: pd.DataFrame
    blocks: Sequence[Block]  # newest first
    scratch: Path
    workers: int
    columns: Columns | None = None  # the user's transformer

    @property
    def metric(self) -> Metric:
        """The metric to optimise."""
        return get_metric(self.problem.metric.name)

    @property
    def block_weights(self) -> NDArray[np.float64]:
        """Weights of the blocks, newest first, that sum to 1."""
        return block_weights(
            len(self.blocks), seasonal=bool(self.blocks) and self.blocks[-1].seasonal
        )

    @property
    def task(self) -> Task:
        """The problem's task with the contract's classes."""
        return task_of(self.contract.classes, self.problem.task)

    @property
    def offered(self) -> dict[str, Family]:
        """The families that are searched; the others are only loaded to refit the champion."""
        return {name: family for name, family in self.families.items() if family.offered}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One recipe evaluated on blocks; plain data, JSON both ways."""

    number: int
    recipe: Recipe
    source: str  # start | carried | live | search
    status: str  # complete | pruned | failed
    losses: tuple[float, ...]  # per block, newest first; shorter when pruned or failed
    scores: tuple[float, ...]
    # of all blocks of its cycle, newest first; (): each block weighs `DISCOUNT` of the next newer one
    weights: tuple[float, ...] = ()
    also: dict[str, float] = field(default_factory=dict)  # further metrics, mean over blocks
    learned: Params = field(default_factory=dict)
    seconds: float = 0.0  # core-seconds of all its fits
    seconds_fit: float = 0.0  # of the fit on the newest block
    seconds_predict: float = 0.0  # per 1,000 rows
    seconds_refit: float = 0.0  # estimate, on all rows
    elapsed: float = 0.0  # wall clock of the sweep when it ended
    reason: str = ""
    trace: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        content = {name: getattr(self, name) for name in self.__slots__}
        return {**content, "recipe": self.recipe.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        """The trial of that JSON object."""
        lists = {n: tuple(data.get(n, ())) for n in ("losses", "scores", "weights")}
        return cls(**{**data, **lists, "recipe": Recipe.from_json(data["recipe"])})

    @property
    def loss(self) -> float:
        """Mean loss over its blocks; only comparable between complete trials of a cycle."""
        return mean(self.losses, self.weights)

    @property
    def score(self) -> float:
        """Mean score over blocks, weighted as `loss`."""
        return mean(self.scores, self.weights)


PlanKind = Literal["refit", "warm", "full"]


@dataclass(frozen=True, slots=True)
class Past:
    """A trial of an earlier cycle; `relative` is its loss over the best of that cycle."""

    trial: Trial
    relative: float
    age: int  # in cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to search, and knowledge of earlier cycles."""

    kind: PlanKind = "full"
    reason: str = ""
    live: tuple[Recipe, ...] = ()
    past: tuple[Past, ...] = ()
    challengers: int | None = None  # most new recipes; None: as many as time allows
    seconds: float | None = None  # most seconds of the search; None: all but the refit's
    costs: Mapping[str, float] = field(default_factory=dict)  # recipe -> seconds of a refit
    favour: tuple[str, ...] = ()  # families by their results in earlier cycles, best first
    # (recipe, block) -> learned params, if predictions of a cached fit exist already
    cached: Mapping[tuple[str, int], Params] = field(default_factory=dict)
    shifted: bool = False  # the champion's newest loss is an outlier: old evidence counts less


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """The result of a sweep: trials, the challenger they suggest, and how the time went."""

    trials: tuple[Trial, ...]
    challenger: Blend | None  # None: no trial succeeded
    reference: Blend | None  # stands in for the champion that a first cycle lacks
    stopped: str  # time | configurations | trials | plan | nothing left | nothing more to be gained
    seconds: float
    fit_seconds: float  # core-seconds inside fits
    rows: int  # training rows of the newest block's fits, after the row cap
    encode_seconds: float = 0.0
    refit_seconds: float = 0.0  # core-seconds of refits started on idle cores
    overhead: float = 0.0  # estimated seconds of a refit before its fits begin
    # why budget or trials left nothing but constants to release, and what would do
    too_small: str = ""

    def time_in_fits(self, workers: int) -> float:
        """Share of the sweep's core-seconds spent in fits and encodings."""
        within = self.fit_seconds + self.encode_seconds + self.refit_seconds
        return within / max(1e-9, self.seconds * workers)

    @property
    def in_words(self) -> str:
        """How much was tried, how long it took, and what ended it."""
        statuses = [trial.status for trial in self.trials]
        pruned, failed = statuses.count("pruned"), statuses.count("failed")
        return (
            f"{len(statuses)} trials ({pruned} pruned, {failed} failed) in {self.seconds:.0f} s, "
            f"stopped: {self.stopped}"
        )

    @property
    def ranked(self) -> list[Trial]:
        """Complete trials, best first; then pruned, then failed trials, those with more blocks first."""
        order = {"complete": 0, "pruned": 1, "failed": 2}

        def place(t: Trial) -> tuple[int, int, float, int]:
            return order[t.status], -len(t.losses), t.loss if t.losses else 0.0, t.number

        return sorted(self.trials, key=place)


class BlockPredictions(NamedTuple):
    """Outcomes, outputs and row weights of a block's validation rows."""

    truth: NDArray[np.float64]
    output: NDArray[np.float64]
    weight: NDArray[np.float64]

    def take(self, rows: NDArray[Any]) -> BlockPredictions:
        """These rows, by a mask or by positions."""
        return BlockPredictions(self.truth[rows], self.output[rows], self.weight[rows])

    def score(self, metric: Metric) -> float:
        """Their score."""
        return metric.score(self.truth, self.output, self.weight)


def blend_outputs(work: Work, blend: Blend, blocks: int | None = None) -> list[BlockPredictions]:
    """Predictions of a blend per block, newest first, from its members' outputs; [] if any is missing.

    `blocks` is the number of newest blocks, by default all.
    """
    outcomes = to_outcomes(work.frame[work.problem.history.target], work.contract)
    weights = row_weights(work.frame, work.problem)
    predictions = []
    for b, block in enumerate(work.blocks[:blocks]):
        paths = [output_file(work, member.recipe, b) for member in blend.members]
        if not all(path.exists() for path in paths):
            return []
        mixed = sum(m.weight * np.load(p) for m, p in zip(blend.members, paths, strict=True))
        predictions.append(
            BlockPredictions(outcomes[block.validation], mixed, weights[block.validation])
        )
    return predictions


def blend_losses(work: Work, blend: Blend, blocks: int | None = None) -> list[float]:
    """Losses of a blend on the blocks, newest first; [] if a member has no outputs."""
    return [work.metric.loss(p.score(work.metric)) for p in blend_outputs(work, blend, blocks)]


def baseline_losses(work: Work, rows: Rows | None = None) -> list[float]:
    """Losses of a constant prediction, the training mean or class shares, newest block first."""
    rows = rows or Rows.of(work.frame, work.problem, work.contract)
    losses = []
    for block in work.blocks:
        output = work.task.baseline(
            rows.y[block.train], rows.weight[block.train], len(block.validation)
        )
        predictions = BlockPredictions(
            rows.y[block.validation], output, rows.weight[block.validation]
        )
        losses.append(work.metric.loss(predictions.score(work.metric)))
    return losses


def output_file(work: Work, recipe: Recipe, block: int) -> Path:
    """File of a recipe's outputs on a block, shape (n_rows,) or (n_rows, n_classes)."""
    return work.scratch / "outputs" / f"{recipe.id}-{block}.npy"


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Wall clock of fits run in parallel, longest first.

    >>> makespan([3, 1, 2], workers=2)
    3.0
    """
    busy = [0.0] * workers
    for each in sorted(seconds, reverse=True):
        busy[busy.index(min(busy))] += each
    return max(busy)


def mean(values: Sequence[float], weights: Sequence[float] = ()) -> float:
    """Weighted mean over blocks, newest first; NaN of nothing.

    By default newer blocks weigh more. There may be more weights than values.

    >>> mean([1.0, 3.0], weights=[0.3, 0.3, 0.4])
    2.0
    """
    if not values:
        return float("nan")
    shares = np.asarray(weights[: len(values)]) if len(weights) else block_weights(len(values))
    return float(np.dot(shares / shares.sum(), values))


def means(values: Sequence[Mapping[str, float]], weights: Sequence[float] = ()) -> dict[str, float]:
    """`mean` by name; a name without a value on one of the blocks is left out."""
    by_name = {
        name: mean([v[name] for v in values], weights) for name in (values[0] if values else ())
    }
    return {name: value for name, value in by_name.items() if np.isfinite(value)}
