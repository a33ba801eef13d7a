"""Rows turned into files that children map: one folder per block and encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from automl.contract import Contract
from automl.features import category_positions, make_encoder
from automl.features.columns import Columns, kinds_of
from automl.problem import Problem
from automl.spaces import Encoding, Shape

__all__ = ["Rows", "row_weights", "shape_of", "thin", "to_outcomes", "write_matrices"]

ALWAYS_KEPT = (
    0.25  # share of a row cap that goes to the newest rows; the rest samples the older ones
)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Snapshot rows with what learning needs beside the columns; all of one length.

    `y` are class numbers or values, `weight` the user's row weights, `age` the share of the history's
    length (0 newest, 1 oldest); each has shape (n_rows,). `block` is how many rows a retraining period has,
    0 if that is not known.
    """

    frame: pd.DataFrame
    y: NDArray[np.float64]
    weight: NDArray[np.float64]
    age: NDArray[np.float64]
    block: int = 0

    @classmethod
    def of(cls, frame: pd.DataFrame, problem: Problem, contract: Contract, block: int = 0) -> Rows:
        """All rows of a snapshot."""
        h = problem.history
        times = frame[h.time].to_numpy().astype("int64").astype("float64")
        span = max(1.0, float(times.max() - times.min()))
        return cls(
            frame,
            to_outcomes(frame[h.target], contract),
            row_weights(frame, problem),
            (times.max() - times) / span,
            block,
        )

    def take(self, positions: NDArray[np.int64]) -> Rows:
        """These rows; ages stay measured on the whole history."""
        return Rows(
            self.frame.iloc[positions],
            self.y[positions],
            self.weight[positions],
            self.age[positions],
            self.block,
        )


def to_outcomes(target: pd.Series, contract: Contract) -> NDArray[np.float64]:
    """Class numbers 0..k-1 in the contract's order, or the values themselves."""
    if not contract.classes:
        return target.to_numpy("float64")
    numbers = {label: float(i) for i, label in enumerate(contract.classes)}
    return target.map(numbers).to_numpy("float64")


def row_weights(frame: pd.DataFrame, problem: Problem) -> NDArray[np.float64]:
    """The user's row weights, shape (n_rows,); 1 without `history.weight`."""
    name = problem.history.weight
    return frame[name].to_numpy("float64") if name else np.ones(len(frame))


def thin(rows: Rows, most: int, seed: int) -> Rows:
    """At most `most` rows: the newest whole, older ones sampled and weighted up by 1/rate.

    Keeps the meaning of half-lives. Assumes rows ascend in time.
    """
    n = len(rows.y)
    if n <= most:
        return rows
    newest = int(most * ALWAYS_KEPT)
    older = np.random.default_rng(seed).choice(n - newest, most - newest, replace=False)
    positions = np.concatenate([np.sort(older), np.arange(n - newest, n)])
    factor = np.ones(most)
    factor[: most - newest] = (n - newest) / (most - newest)
    kept = rows.take(positions)
    return replace(kept, weight=kept.weight * factor)


def write_matrices(
    train: Rows,
    judged: Rows | None,
    features: Mapping[str, str],
    encoding: Encoding,
    folder: Path,
    *,
    classes: int = 0,
    columns: Columns | None = None,
    dtype: Literal["float32", "float64"] = "float32",
) -> Any:
    """Fit an encoder on the training rows and write what `trial.Fit` reads; returns the encoder.

    With the user's own `columns` the encoder is a pipeline of their transformer and ours.

    Raises
    ------
    SpaceError
        The user's transformer raises, or makes something else than a DataFrame of as many rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = train.frame[list(features)]
    kinds: Mapping[str, Any] = features
    steps: list[tuple[str, Any]] = []
    if columns is not None:
        own, rows = columns.fit_transform(rows, train.y)
        kinds = kinds_of(rows)
        steps = [("columns", own)]
    encode = make_encoder(kinds, encoding, classes, train.block)
    encoded = encode.fit_transform(rows[list(kinds)], train.y)
    encoder = Pipeline([*steps, ("encode", encode)]) if steps else encode
    np.save(folder / "train_X.npy", encoded.astype(dtype))
    np.save(folder / "train_y.npy", train.y)
    np.save(folder / "train_w.npy", train.weight)
    np.save(folder / "train_age.npy", train.age)
    np.save(folder / "categories.npy", np.array(category_positions(kinds, encoding), dtype="int64"))
    if judged is not None:
        judged_X = encoder.transform(judged.frame[list(features)])
        np.save(folder / "judged_X.npy", judged_X.astype(dtype))
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
