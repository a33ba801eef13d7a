"""Live predictions as a frame, and predictions of rows at hand by the champion."""

from __future__ import annotations

import numpy as np
import pandas as pd

from automl.errors import NoModelError, PredictError
from automl.guessing import plain_column
from automl.history import ROW_ID, ColumnKind
from automl.history.contract import Contract, load_contract
from automl.history.rows.casting import as_kind
from automl.modeling.tasks import task_of
from automl.predictions import read_classes, read_generation
from automl.predictions.predict import predict
from automl.problem import Problem
from automl.store import Store
from automl.tracking import Registry, closing_model, load_model
from automl.workspace import Workspace

__all__ = ["live_predictions", "predict_frame"]

OUTPUT = ("prediction", "probability")


def live_predictions(problem: Problem, workspace: Workspace, *, classes: bool) -> pd.DataFrame:
    """All rows of the generation that readers see.

    Raises
    ------
    PredictError
        Nothing was published yet, or classes are wanted and the problem is not multiclass.
    """
    if classes and not task_of((), problem.task).publishes_classes:
        raise PredictError(
            f"{problem.name}: found task {problem.task!r}; wanted multiclass, because only then every class has "
            "a row of its own",
            code="no_classes",
            next_step="project.predictions()",
        )
    store = Store(workspace)
    live = store.live(problem.table)
    if live is None:
        raise PredictError(
            f"{problem.name}: no predictions were published yet",
            code="no_predictions",
            next_step="project.cycle()",
        )
    read = read_classes if classes else read_generation
    return read(store, problem, live.id)


def predict_frame(problem: Problem, workspace: Workspace, frame: pd.DataFrame) -> pd.DataFrame:
    """Predictions of the frame's rows by the champion, with the frame's index.

    Raises
    ------
    NoModelError
        There is no champion yet.
    PredictError
        A column is missing, or a cell does not fit its column's kind.
    """
    champion, contract = Store(workspace).champion(problem.name), load_contract(problem)
    if champion is None or contract is None:
        raise NoModelError(
            f"{problem.name}: there is no champion yet",
            code="no_model",
            next_step="project.cycle()",
        )
    batch = _batch(frame, problem, contract)
    model = load_model(
        Registry(problem, workspace),
        champion.model_version,
        champion.digests,
        champion.blend.families,
    )
    with closing_model(model):
        output, _ = predict(model, batch, problem, contract)
    return output[[n for n in OUTPUT if n in output.columns]].set_axis(frame.index)


def _batch(frame: pd.DataFrame, problem: Problem, contract: Contract) -> pd.DataFrame:
    """The columns that the model reads, of the agreed kinds; rows are numbered in place of a key."""
    missing = [name for name in contract.features if name not in frame.columns]
    if missing:
        raise PredictError(
            f"the frame lacks column {', '.join(map(repr, missing))}; found "
            f"{', '.join(map(str, frame.columns))}",
            code="missing_column",
            next_step="Bring these columns; the champion was trained with them.",
        )
    columns = {
        name: _cells(frame[name], kind, problem, contract)
        for name, kind in contract.features.items()
    }
    numbers = dict.fromkeys(problem.history.key or (ROW_ID,), np.arange(len(frame)))
    time = {problem.history.time: columns.get(problem.history.time, np.datetime64("NaT", "us"))}
    return pd.DataFrame({**numbers, **time, **columns}, index=range(len(frame)))


def _cells(column: pd.Series, kind: ColumnKind, problem: Problem, contract: Contract) -> pd.Series:
    plain, _ = plain_column(column.reset_index(drop=True))
    if plain is None:
        raise _misfit(column, kind, "cells that are no numbers, texts or times")
    missing = {*contract.nulls, *contract.gaps.get(str(column.name), ())}
    if missing and not pd.api.types.is_numeric_dtype(plain.dtype):
        plain = plain.where(~plain.isin(missing), None)
    cast = as_kind(plain, kind, problem.history.timezone)
    if cast.bad.any():
        raise _misfit(column, kind, f"{int(cast.bad.sum())} cells with {cast.detail}")
    return cast.cells.to_pandas()


def _misfit(column: pd.Series, kind: ColumnKind, found: str) -> PredictError:
    return PredictError(
        f"column {column.name!r}: found {found}; wanted {kind}",
        code="kind_changed",
        next_step="Correct these cells, or make them missing.",
    )
