"""Rolling origins: each block is scored by models that could have been trained at its start.

Every training row's label was known at the origin, no row is in two blocks, and a group is never on both
sides. Assumes that a block is one retraining period.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.errors import HistoryError
from automl.history import utc_naive
from automl.problem import Problem
from automl.workspace import day_of

__all__ = ["MOST_BLOCKS", "Block", "make_blocks"]

MIN_VALIDATION = 100  # rows of a block; fewer are merged with the block before
MIN_TRAIN = 100
MOST_BLOCKS = 5  # newest ones, with origins = "auto"
# Training rows of a block over those of the newest: at least so many for a third block, and for that of the season
OLDER_ROWS, SEASON_ROWS = 0.25, 0.1
RANKING = ("roc_auc", "average_precision")  # metrics that are undefined for a single class
WEEK = timedelta(days=7)  # a shorter block may have one class by its weekday or time of day


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One retraining period of labelled rows and the rows known at its origin.

    `start` is the origin. `train` and `validation` are row positions in the snapshot, ascending in time,
    shapes (n_train,) and (n_validation,).
    """

    start: datetime
    end: datetime
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    seasonal: bool = False  # the batch's rows, one season earlier

    @property
    def name(self) -> str:
        """Its origin as text."""
        return day_of(self.start)


def make_blocks(
    frame: pd.DataFrame, problem: Problem, as_of: datetime, most: int = MOST_BLOCKS + 1
) -> list[Block]:
    """The newest blocks, newest first, then the block of the batch's season, if history reaches that far.

    Of the newest there are `validation.origins`, or with "auto" as many as the history is long enough for. They
    begin and end at `problem.block_edges`. A block with too few rows is merged with the one before. So is a
    block with a single class if the metric needs both, as long as it stays within a week. The block of the
    season is as long as a block and begins one `validation.season` before `as_of`; it is left out if it
    overlaps one of the newest.

    Parameters
    ----------
    frame
        Rows of a snapshot, ascending in time.
    most
        With "auto", the largest number of blocks, that of the season among them; at least two of the newest.

    Raises
    ------
    HistoryError
        The history is too short for a single block, or the newest block, a week long, has a single class.
    """
    times = frame[problem.history.time].to_numpy()
    labels = frame[problem.history.target]
    classes = pd.factorize(labels)[0] if problem.metric.name in RANKING else None
    edges = problem.block_edges(as_of)
    newest = end = next(edges)
    start = next(edges)
    blocks: list[Block] = []
    season = _of_season(frame, times, problem, as_of)
    if season and classes is not None and _single_class(classes[season.validation]):
        season = None
    given = problem.validation.origins
    origins = given if given != "auto" else max(2, min(MOST_BLOCKS, most - (season is not None)))
    while len(blocks) < origins:
        start, before = _start_of(edges, start, times, classes, end)
        block = _cut(frame, times, problem, (start, end))
        if len(block.train) < MIN_TRAIN or len(block.validation) == 0:
            break
        old = len(blocks) >= 2 and len(block.train) < OLDER_ROWS * len(blocks[0].train)
        if given == "auto" and old:
            break
        if classes is not None and _single_class(classes[block.validation]):
            if blocks:
                break
            raise _single_class_error(block, labels.iloc[block.validation].tolist()[0], problem)
        blocks.append(block)
        end, start = start, before
    if not blocks:
        raise HistoryError(
            f"history: found rows from {times[0]} to {times[-1]}; wanted at least {MIN_TRAIN} labelled rows "
            f"before a block of {problem.validation.block} that ends {newest:%Y-%m-%d %H:%M}",
            code="too_short",
            next_step="Shorten validation.block, raise history.keep, or wait for more history.",
        )
    if season is None or season.end > blocks[-1].start:
        return blocks
    enough = max(MIN_TRAIN, SEASON_ROWS * len(blocks[0].train))
    return [*blocks, season] if len(season.train) >= enough else blocks


def _of_season(
    frame: pd.DataFrame, times: NDArray[np.datetime64], problem: Problem, as_of: datetime
) -> Block | None:
    """The block that begins one season before `as_of`; None without a season, or with too few rows."""
    season, block = problem.validation.season, problem.validation.block
    if season == "none":
        return None
    start = season.before(as_of, zone=problem.zone)
    end = season.before(block.after(as_of, zone=problem.zone), zone=problem.zone)
    cut = _cut(frame, times, problem, (start, end))
    if len(cut.validation) < MIN_VALIDATION:
        return None
    return replace(cut, seasonal=True)


def _start_of(
    edges: Iterator[datetime],
    start: datetime,
    times: NDArray[np.datetime64],
    classes: NDArray[np.int64] | None,
    end: datetime,
) -> tuple[datetime, datetime]:
    """Start of the block that ends at `end`, no later than `start`, and the edge before it.

    `classes` are the class numbers of all rows if every block needs two classes.
    """
    before = next(edges)
    while utc_naive(start) > times[0]:
        low, high = np.searchsorted(times, [_stamp(start), _stamp(end)])
        if high - low >= MIN_VALIDATION and (
            classes is None or end - before > WEEK or not _single_class(classes[low:high])
        ):
            break
        start, before = before, next(edges)
    return start, before


def _single_class(classes: NDArray[np.int64]) -> bool:
    return bool((classes == classes[0]).all())


def _single_class_error(block: Block, label: object, problem: Problem) -> HistoryError:
    return HistoryError(
        f"block {block.name}: all {len(block.validation)} rows are {label!r}; {problem.metric.name} needs "
        "both classes",
        code="one_class_in_block",
        next_step='Lengthen validation.block, or set metric.name = "log_loss".',
    )


def _cut(
    frame: pd.DataFrame,
    times: NDArray[np.datetime64],
    problem: Problem,
    span: tuple[datetime, datetime],
) -> Block:
    start, end = span
    low, high = np.searchsorted(times, [_stamp(start), _stamp(end)])
    train = np.arange(np.searchsorted(times, _stamp(problem.mature(start))))
    if problem.history.label_time:
        label_times = frame[problem.history.label_time].to_numpy()
        train = train[label_times[train] < _stamp(start)]
    validation = np.arange(low, high)
    group = list(problem.history.group)
    if group and len(validation):
        groups = pd.MultiIndex.from_frame(frame[group])
        train = train[~groups[train].isin(groups[validation].unique())]
    return Block(start, end, train, validation)


def _stamp(moment: datetime) -> np.datetime64:
    return utc_naive(moment).to_datetime64()
