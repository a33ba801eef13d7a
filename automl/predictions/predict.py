"""Model and batch in, predictions out, in one piece or in many; no database, no MLflow.

Predictions of pieces equal those of the whole to the last bit, because a row's prediction depends on
that row alone. This holds for every family here but need not hold for a user's transformer; with a
transformer the batch is one piece.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from automl import history
from automl.errors import PredictError
from automl.history import ROW_ID, UPDATED, Snapshot, learning_only, row_ids
from automl.history.contract import Contract
from automl.modeling.tasks import task_of
from automl.problem import Problem
from automl.processes import UserCodeError

__all__ = [
    "Predictions",
    "fingerprint",
    "model_output",
    "predict",
    "predict_pieces",
    "read_pieces",
    "specimen",
]

ROUNDING = 1e-6  # averaged probabilities may exceed 1 by this much
# Rows of a piece. A multiple of every vector width, so that linear algebra groups the rows of a piece as
# those of the whole; a last piece of less than half the size is added to the piece before it.
PIECE_ROWS = 131_072

Predictions = tuple[pd.DataFrame, pd.DataFrame | None]  # one row per key; one per key and class


def predict(model: Any, batch: pd.DataFrame, problem: Problem, contract: Contract) -> Predictions:
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
        The model fails, or its output is not finite, not a probability, or of the wrong shape.
    """
    return _published(batch, model_output(model, batch, contract), problem, contract)


def specimen(batch: pd.DataFrame, problem: Problem, contract: Contract) -> Predictions:
    """Predictions in the columns and types that any model of this contract makes of these rows."""
    shape = task_of(contract.classes, problem.task).output_shape(len(batch))
    return _published(batch, np.zeros(shape), problem, contract)


def _published(
    batch: pd.DataFrame, output: NDArray[np.float64], problem: Problem, contract: Contract
) -> Predictions:
    keys = list(problem.history.key or (ROW_ID,))
    # the time may be part of the key
    frame = batch[list(dict.fromkeys([*keys, problem.history.time]))]
    task = task_of(contract.classes, problem.task)
    frame = frame.assign(**task.published(output), low=np.nan, high=np.nan)
    return frame, task.per_class(batch[keys], output)


def predict_pieces(
    model: Any,
    pieces: Iterable[pd.DataFrame],
    problem: Problem,
    contract: Contract,
    *,
    workers: int = 1,
) -> Generator[Predictions, None, None]:
    """Predictions of each piece, in the order of the pieces, with up to `workers` threads.

    Assumes that a fitted model may predict in several threads, as those of scikit-learn, LightGBM,
    XGBoost and CatBoost. While the caller uses a piece, the next ones are predicted; at most
    `workers + 1` pieces are in memory.

    Raises
    ------
    PredictError
        As `predict`.
    """
    waiting: deque[Future[Predictions]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="predict") as pool:
        try:
            for piece in pieces:
                waiting.append(pool.submit(predict, model, piece, problem, contract))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def read_pieces(
    batch: Snapshot, problem: Problem, rows: int = PIECE_ROWS
) -> Iterator[pd.DataFrame]:
    """The rows of a frozen batch as `history.read` gives them, `rows` at a time.

    Without a key rows are identified by their content and the count of equal rows, so a piece is a whole
    part of the batch, which holds whole days. With a user's transformer there is one piece.
    """
    if problem.transformer is not None:
        yield history.read(batch)
        return
    dataset = history.scan(batch)
    names = [name for name in dataset.schema.names if name != UPDATED]
    if problem.history.key:
        batches = dataset.to_batches(
            columns=names, batch_size=rows // 2, batch_readahead=1, fragment_readahead=1
        )
        yield from (table.to_pandas() for table in _regrouped(batches, rows))
        return
    later = learning_only(problem)
    for part in dataset.get_fragments():
        frame = part.to_table(schema=dataset.schema, columns=names).to_pandas()
        yield row_ids(frame, problem.history.time, later)


def _regrouped(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Tables of exactly `rows` rows; the last has half to one and a half times as many."""
    buffer: list[pa.RecordBatch] = []
    for batch in batches:
        buffer.append(batch)
        while sum(map(len, buffer)) >= rows + rows // 2:
            table = pa.Table.from_batches(buffer)
            yield table.slice(0, rows)
            buffer = table.slice(rows).to_batches()
    if buffer:
        yield pa.Table.from_batches(buffer)


def model_output(model: Any, batch: pd.DataFrame, contract: Contract) -> NDArray[np.float64]:
    """Probabilities, shape (n_rows, n_classes), or values, shape (n_rows,)."""
    missing = [name for name in contract.features if name not in batch.columns]
    if missing:
        raise PredictError(
            f"the batch lacks column {', '.join(map(repr, missing))}; "
            f"found {', '.join(map(str, batch.columns))}",
            code="missing_column",
            next_step="Add the column to the batch; the model was trained with it.",
        )
    task = task_of(contract.classes)
    try:
        output = task.raw_output(model, batch[list(contract.features)])
    except (Exception, SystemExit) as error:
        first_line = str(error).partition("\n")[0][:200]
        named = "" if isinstance(error, UserCodeError) else f"{type(error).__name__}: "
        raise PredictError(
            f"the model cannot score the batch: {named}{first_line}",
            code="predict_failed",
            next_step="Compare the batch with the contract file; retrain if the source has changed.",
        ) from error
    output = task.completed(output, model)
    wanted = task.output_shape(len(batch))
    if output.shape != wanted or not np.isfinite(output).all():
        raise PredictError(
            f"the model's output has shape {output.shape} and {int((~np.isfinite(output)).sum())} values "
            f"that are not finite; wanted shape {wanted}, all finite",
            code="predict_not_finite",
            next_step="automl why FILE shows the champion; automl rollback FILE --reason R returns to the version before.",
        )
    out_of_range = task.range_error(output, ROUNDING)
    if out_of_range:
        raise PredictError(
            out_of_range,
            code="predict_out_of_range",
            next_step="automl why FILE shows the champion; automl rollback FILE --reason R returns to the version before.",
        )
    return task.clipped(output)


def fingerprint(output: NDArray[np.float64], recipe: str) -> str:
    """sha256 of a recipe and its predictions on a fixed sample; equal for equal models."""
    digest = hashlib.sha256(recipe.encode())
    digest.update(np.ascontiguousarray(output).tobytes())
    return digest.hexdigest()
