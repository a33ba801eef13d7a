"""What is predicted: the target, the task, the positive class, the metric."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from automl.errors import ProblemError
from automl.guessing.frames import listed
from automl.guessing.sample import TableSample
from automl.history.contract import MIN_PER_CLASS
from automl.problem import METRICS, did_you_mean

__all__ = ["choose_metric", "choose_positive", "choose_target", "choose_task", "refuse_target"]

MOST_CLASSES = 50  # more distinct texts are names, not classes
MOST_CODES = 10  # whole numbers 0, 1, 2, ... are read as classes up to here
TARGETS = re.compile(
    r"^(target|label|y|class|outcome|response|converted|conversion|churn(ed)?|default(ed)?|"
    r"is_(fraud|churn(ed)?|default|late|cancell?ed)|fraud|won|bought|purchased|clicked)$",
    re.IGNORECASE,
)
# pairs of which one says that it happened, whichever is rarer
AFFIRMED = {"yes": "no", "y": "n", "true": "false", "t": "f", "positive": "negative"}


def choose_target(frame: pd.DataFrame) -> tuple[str, str]:
    """The column that is called as targets are; raises ProblemError if not exactly one is."""
    found = [n for n in frame.columns if TARGETS.match(n)]
    if len(found) == 1:
        return found[0], "the only column that is called as targets usually are"
    several = f"several columns that could be: {listed(found)}" if found else "no name that says so"
    example = found[0] if found else str(frame.columns[-1])
    raise ProblemError(
        f"target: found {several}; wanted the column to predict, one of {listed(frame.columns)}",
        code="no_target",
        next_step=f"Name it: --target {example}, or target={example!r} in Python.",
    )


def refuse_target(sample: TableSample) -> None:
    """Refuse a target that is missing, constant, the time, or a time.

    Raises
    ------
    ProblemError
        So it is.
    """
    name, frame = sample.target, sample.frame
    if name not in frame.columns:
        raise ProblemError(
            f"target {name!r} is not a column; found {listed(frame.columns)}"
            f"{did_you_mean(name, list(frame.columns))}",
            code="missing_column",
            next_step="Name the column to predict.",
        )
    if name == sample.table.time:
        raise ProblemError(
            f"target {name!r} is also the time; wanted two columns",
            code="usage",
            next_step="Name another target, or another time.",
        )
    distinct = sample.truth.nunique()
    if distinct < 2:
        found = f"only {sample.truth.tolist()[0]!r}" if distinct else "no value"
        raise ProblemError(
            f"target {name!r}: found {found} in {len(frame)} rows; wanted at least two values",
            code="single_class",
            next_step="Name another target, or bring rows with other values.",
        )
    if pd.api.types.is_datetime64_any_dtype(frame[name].dtype):
        raise ProblemError(
            f"target {name!r}: found times; wanted numbers or classes",
            code="bad_target",
            next_step="Predict a duration instead, such as the days since the row's time.",
        )


def choose_task(sample: TableSample) -> tuple[str, str]:
    """Two values: binary; texts, or few whole numbers in turn: multiclass; else regression."""
    name, values, distinct = sample.target, sample.truth, sample.truth.nunique()
    if distinct == 2:
        pair = sorted(map(str, values.unique()))
        return "binary", f"{name!r} has two values, {pair[0]} and {pair[1]}"
    if not pd.api.types.is_numeric_dtype(values.dtype):
        if distinct > MOST_CLASSES:
            raise ProblemError(
                f"target {name!r}: found {distinct} different texts; wanted numbers, or at most "
                f"{MOST_CLASSES} classes",
                code="many_classes",
                next_step="Group the classes, or convert the target to numbers.",
            )
        return "multiclass", f"{name!r} has {distinct} classes"
    counts = values.astype("float64").value_counts().sort_index()
    codes = counts.index.to_numpy()
    in_turn = codes[0] in (0.0, 1.0) and (np.diff(codes) == 1).all()
    if in_turn and distinct <= MOST_CODES and counts.min() >= MIN_PER_CLASS:
        span = f"{codes[0]:g} to {codes[-1]:g}"
        return "multiclass", f"{name!r} holds only {span}; if these are amounts: task='regression'"
    return "regression", f"{name!r} is a number with {distinct} different values"


def choose_positive(sample: TableSample, task: str) -> tuple[Any, str]:
    """Of two numbers the larger, which is the default; of two texts the one that affirms, or the rarer."""
    if task != "binary":
        return None, "only binary tasks have one"
    if pd.api.types.is_numeric_dtype(sample.truth.dtype):
        return None, f"the larger value, {float(sample.truth.max()):g}"
    counts = sample.truth.value_counts()
    by_word = {str(v).strip().lower(): str(v) for v in counts.index}
    for yes, no in AFFIRMED.items():
        if set(by_word) == {yes, no}:
            return by_word[yes], "the value that says that it happened"
    rarer = counts.iloc[-1] / counts.sum()
    return str(counts.index[-1]), f"the rarer value, {rarer:.0%} of the rows"


def choose_metric(task: str) -> tuple[str, str]:
    """The usual metric of a task."""
    name = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[task]
    others = ", ".join(m for m in METRICS[task] if m != name)
    return name, f"usual for {task}; the others are {others}"
