"""Model and batch in, prediction frame out; no file, no database, no MLflow."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.contract import Contract
from automl.errors import PredictError
from automl.history import ROW_ID
from automl.problem import Problem

__all__ = ["fingerprint", "model_output", "predict"]

ROUNDING = 1e-6  # by which averaged probabilities may exceed 1


def predict(
    model: Any, batch: pd.DataFrame, problem: Problem, contract: Contract
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Predictions of a batch, in the batch's order.

    Returns
    -------
    predictions
        Key (or row_id), the time column, prediction, probability (classes only), low, high. For binary
        problems `probability` is that of the positive class, for multiclass that of the predicted one.
        `low` and `high` are empty.
    classes
        One row per key and class with its probability; None unless multiclass.

    Raises
    ------
    PredictError
        The model fails, or its output is not finite, no probability, or has the wrong shape.
    """
    output = model_output(model, batch, contract)
    keys = list(problem.history.key or (ROW_ID,))
    frame = batch[
        list(dict.fromkeys([*keys, problem.history.time]))
    ].copy()  # the time may be part of the key
    if not contract.classes:
        frame["prediction"] = output
    else:
        chosen = output.argmax(axis=1)
        frame["prediction"] = np.asarray(contract.classes)[chosen]
        binary = problem.task == "binary"
        frame["probability"] = output[:, 1] if binary else output[np.arange(len(output)), chosen]
    frame["low"] = np.nan
    frame["high"] = np.nan
    return frame, _per_class(
        batch[keys], output, contract
    ) if problem.task == "multiclass" else None


def model_output(model: Any, batch: pd.DataFrame, contract: Contract) -> NDArray[np.float64]:
    """Probabilities, shape (n_rows, n_classes), or values, shape (n_rows,)."""
    missing = [name for name in contract.features if name not in batch.columns]
    if missing:
        raise PredictError(
            f"the batch lacks column {', '.join(map(repr, missing))}; "
            f"found {', '.join(map(str, batch.columns))}",
            code="missing_column",
            next_step="Bring the column back; the model was trained with it.",
        )
    columns = batch[list(contract.features)]
    try:
        answer = model.predict_proba(columns) if contract.classes else model.predict(columns)
        output = np.asarray(answer, dtype="float64")
    except Exception as error:
        said = str(error).partition("\n")[0][:200]
        raise PredictError(
            f"the model cannot score the batch: {type(error).__name__}: {said}",
            code="predict_failed",
            next_step="Compare the batch with the contract file; retrain if the source has changed.",
        ) from error
    wanted = (len(batch), len(contract.classes)) if contract.classes else (len(batch),)
    if output.shape != wanted or not np.isfinite(output).all():
        raise PredictError(
            f"the model's output has shape {output.shape} and {int((~np.isfinite(output)).sum())} values "
            f"that are not finite; wanted shape {wanted}, all finite",
            code="predict_not_finite",
        )
    if contract.classes and (output.min(initial=0.0) < 0 or output.max(initial=0.0) > 1 + ROUNDING):
        raise PredictError(
            f"the model's probabilities lie between {output.min():g} and {output.max():g}; wanted 0 to 1",
            code="predict_out_of_range",
        )
    return output


def fingerprint(output: NDArray[np.float64], recipe: str) -> str:
    """sha256 of a recipe and its predictions on a fixed sample; equal for equal models."""
    told = hashlib.sha256(recipe.encode())
    told.update(np.ascontiguousarray(output).tobytes())
    return told.hexdigest()


def _per_class(keys: pd.DataFrame, output: NDArray[np.float64], contract: Contract) -> pd.DataFrame:
    repeated = keys.loc[keys.index.repeat(len(contract.classes))].reset_index(drop=True)
    names = np.tile(np.asarray(contract.classes), len(keys))
    return repeated.assign(**{"class": names, "probability": output.ravel()})
