"""Rows written as matrices that workers map into memory: one folder per block and encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from automl.history.contract import Contract
from automl.modeling.families import Encoding, Shape
from automl.modeling.features.encoder import category_positions, make_encoder
from automl.modeling.features.user_transformer import Columns, kinds_of
from automl.modeling.tasks import task_of
from automl.problem import Problem

__all__ = ["Rows", "row_weights", "shape_of", "thin", "to_outcomes", "write_matrices"]

# Share of a row cap that goes to the newest rows; the rest is sampled from the older ones
NEWEST_SHARE = 0.25
# Rows that a class keeps, if it has so many: some families need them to learn the class at all
LEAST_OF_CLASS = 50


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rows:
    """Snapshot rows with outcomes, weights and ages; all of one length.

    `y` are class numbers or values, `weight` the user's row weights, `age` the share of the history's
    length (0 newest, 1 oldest); each has shape (n_rows,). `block` is the number of rows in a retraining period,
    0 if unknown. `zone` is the time zone of calendar features. `classes` is the number of classes, 0 for values,
    None if unknown.
    """

    frame: pd.DataFrame
    y: NDArray[np.float64]
    weight: NDArray[np.float64]
    age: NDArray[np.float64]
    block: int = 0
    zone: str = "UTC"
    classes: int | None = None

    @classmethod
    def of(cls, frame: pd.DataFrame, problem: Problem, contract: Contract, block: int = 0) -> Rows:
        """All rows of a snapshot."""
        h = problem.history
        times = frame[h.time].to_numpy().astype("int64").astype("float64")
        span = max(1.0, float(times.max() - times.min()))
        return cls(
            frame=frame,
            y=to_outcomes(frame[h.target], contract),
            weight=row_weights(frame, problem),
            age=(times.max() - times) / span,
            block=block,
            zone=h.timezone,
            classes=len(contract.classes),
        )

    def take(self, positions: NDArray[np.int64]) -> Rows:
        """These rows; ages stay relative to the whole history."""
        return replace(
            self,
            frame=self.frame.iloc[positions],
            y=self.y[positions],
            weight=self.weight[positions],
            age=self.age[positions],
        )


def to_outcomes(target: pd.Series, contract: Contract) -> NDArray[np.float64]:
    """Class numbers 0..k-1 in the contract's order, or the values themselves."""
    return task_of(contract.classes).outcomes(target)


def row_weights(frame: pd.DataFrame, problem: Problem) -> NDArray[np.float64]:
    """The user's row weights, shape (n_rows,); 1 without `history.weight`."""
    name = problem.history.weight
    return frame[name].to_numpy("float64") if name else np.ones(len(frame))


def thin(rows: Rows, most: int, seed: int) -> Rows:
    """At most `most` rows: all of the newest, and a sample of older ones weighted up by 1/rate.

    Half-lives keep their meaning. A class with few rows keeps `LEAST_OF_CLASS` of them, weighted so that each
    class counts as much as before. Assumes rows ascend in time.
    """
    n = len(rows.y)
    if n <= most:
        return rows
    newest = int(most * NEWEST_SHARE)
    rng, older = np.random.default_rng(seed), n - newest
    factor = np.ones(n)
    drawn = []
    for positions, count in _strata(rows, older, most - newest):
        drawn.append(positions[rng.choice(len(positions), count, replace=False)])
        factor[positions] = len(positions) / count
    chosen = np.concatenate([np.sort(np.concatenate(drawn)), np.arange(older, n)])
    thinned = rows.take(chosen)
    return replace(thinned, weight=thinned.weight * factor[chosen])


def _strata(rows: Rows, older: int, most: int) -> list[tuple[NDArray[np.int64], int]]:
    """Positions among the first `older` rows, and how many of each to draw; together `most`.

    One stratum, unless a class is so rare that a draw might lose it. Then each class gets `LEAST_OF_CLASS`
    rows, as far as `most` allows, and the rest is drawn in proportion.
    """
    together = [(np.arange(older), most)]
    if rows.classes == 0:
        return together
    labels, numbers, counts = np.unique(rows.y, return_inverse=True, return_counts=True)
    newest = np.bincount(numbers[older:], minlength=len(labels))  # these rows are kept anyway
    counts = counts - newest
    frequent = (counts * most / older >= LEAST_OF_CLASS) | (counts == 0)
    if len(labels) > most or frequent.all():  # values, or too many classes to keep all
        return together
    least = min(LEAST_OF_CLASS, max(1, most // (2 * len(labels))))
    sure = np.minimum(counts, np.maximum(1, least - newest))
    share = sure + (counts - sure) * (most - sure.sum()) / max(1, (counts - sure).sum())
    take = np.floor(share).astype(np.int64)
    left = most - take.sum()
    take[np.argsort(take - share, kind="stable")[:left]] += 1  # largest remainders
    return [(np.flatnonzero(numbers[:older] == c), int(take[c])) for c in np.flatnonzero(counts)]


def write_matrices(
    train: Rows,
    validation: Rows | None,
    features: Mapping[str, str],
    encoding: Encoding,
    folder: Path,
    *,
    classes: int = 0,
    columns: Columns | None = None,
    dtype: Literal["float32", "float64"] = "float32",
) -> Any:
    """Fit an encoder on the training rows and write what a `training.Fit` reads; returns the encoder.

    With a user's transformer (`columns`) the encoder is a pipeline of that transformer and ours.

    Raises
    ------
    SpaceError
        The user's transformer raises, or does not return a DataFrame with as many rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = train.frame[list(features)]
    kinds: Mapping[str, Any] = features
    steps: list[tuple[str, Any]] = []
    if columns is not None:
        transformer, rows = columns.fit_transform(rows, train.y)
        kinds = kinds_of(rows)
        steps = [("columns", transformer)]
    encode = make_encoder(kinds, encoding, classes, train.block, zone=train.zone)
    encoded = encode.fit_transform(rows[list(kinds)], train.y)
    encoder = Pipeline([*steps, ("encode", encode)]) if steps else encode
    np.save(folder / "train_X.npy", encoded.astype(dtype))
    np.save(folder / "train_y.npy", train.y)
    np.save(folder / "train_w.npy", train.weight)
    np.save(folder / "train_age.npy", train.age)
    np.save(folder / "categories.npy", np.array(category_positions(kinds, encoding), dtype="int64"))
    if validation is not None:
        validation_X = encoder.transform(validation.frame[list(features)])
        np.save(folder / "validation_X.npy", validation_X.astype(dtype))
    return encoder


def shape_of(folder: Path, problem: Problem, contract: Contract) -> Shape:
    """The shape of written training rows."""
    rows, columns = np.load(folder / "train_X.npy", mmap_mode="r").shape
    return Shape(
        rows=rows,
        columns=columns,
        classes=len(contract.classes),
        task=problem.task,
        categories=tuple(np.load(folder / "categories.npy").tolist()),
    )
