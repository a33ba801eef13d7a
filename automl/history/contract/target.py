"""Refuse a target, or row weights, that no model can be trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from automl.errors import ContractError, HistoryError
from automl.history.contract.values import Contract, contract_file
from automl.problem import Problem

__all__ = ["MIN_PER_CLASS", "MIN_ROWS", "check_target", "check_weights", "counted"]

MIN_ROWS = 200  # below, a time split leaves too few rows to choose anything by
MIN_PER_CLASS = 20
LABELS_OPEN = (
    " A row without history.label_time has no label: a class that is only known at the end, "
    "such as a customer who stayed, needs the time of that end."
)


def check_weights(frame: pd.DataFrame, problem: Problem) -> None:
    """Refuse row weights that are negative, missing, or all 0."""
    name = problem.history.weight
    if not name:
        return
    weight = frame[name].to_numpy("float64")
    below, missing = int((weight < 0).sum()), int((~np.isfinite(weight)).sum())
    found = [f"{below} negative"] if below else []
    found += [f"{missing} missing or infinite"] if missing else []
    if found:
        raise HistoryError(
            f"history.weight {name!r}: found {' and '.join(found)} values in {len(frame)} rows; wanted "
            "numbers of at least 0",
            code="bad_weight",
            next_step="Fix them in the source or in history.query; for an unknown weight return 1 to count the "
            "row once, or 0 to leave it out.",
        )
    if not weight.any():
        raise HistoryError(
            f"history.weight {name!r}: found 0 in all {len(frame)} rows; wanted some above 0",
            code="no_weight",
            next_step="Fix history.query, or remove history.weight to weight all rows equally.",
        )


def counted(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """The rows with a weight above 0; without history.weight all rows."""
    name = problem.history.weight
    if not name or (frame[name] > 0).all():
        return frame
    return frame[frame[name] > 0].reset_index(drop=True)


def check_target(frame: pd.DataFrame, problem: Problem, contract: Contract) -> None:
    """Refuse a target that a model cannot learn, or whose classes differ from the contract."""
    target = problem.history.target
    column = frame[target]
    if len(frame) < MIN_ROWS:
        raise HistoryError(
            f"history: found {len(frame)} labelled rows; wanted at least {MIN_ROWS}",
            code="too_few_rows",
            next_step="Wait for more labels, or increase history.keep.",
        )
    if problem.task == "regression":
        if not pd.api.types.is_float_dtype(column):
            raise HistoryError(
                f"target {target!r}: found text; wanted numbers, because task is regression",
                code="target_kind",
                next_step="Convert it in history.query, or change task.",
            )
        if column.isna().any():  # rows without a label are left out before
            raise HistoryError(
                f"target {target!r}: found {int(column.isna().sum())} infinite values; wanted numbers",
                code="infinite_target",
                next_step="Fix them in the source, or exclude them in history.query.",
            )
        zeros = int((column == 0).sum())
        if zeros and problem.metric.name == "mape":
            raise HistoryError(
                f"target {target!r}: found 0 in {zeros} of {len(frame)} rows; wanted none, because metric mape "
                "divides by the target",
                code="zero_target",
                next_step='Set metric.name = "mae" (or rmse), or exclude these rows in history.query.',
            )
        if column.nunique() < 2:
            raise HistoryError(
                f"target {target!r}: found {column.iloc[0]} in every row; wanted at least two values",
                code="constant_target",
                next_step="Check history.query and history.target.",
            )
        return
    _check_classes(column.value_counts(), problem, contract)


def _check_classes(counts: pd.Series, problem: Problem, contract: Contract) -> None:
    target = problem.history.target
    if len(counts) < 2:
        raise HistoryError(
            f"target {target!r}: found {counts.index.tolist()[0]!r} in every row; wanted at least two classes",
            code="single_class",
            next_step="Check history.query and history.target."
            + (LABELS_OPEN if problem.history.label_time else ""),
        )
    if problem.task == "binary" and len(counts) > 2:
        raise HistoryError(
            f"target {target!r}: found {len(counts)} classes, {', '.join(map(repr, counts.index[:8]))}; "
            "wanted two, because task is binary",
            code="too_many_classes",
            next_step='Set task = "multiclass", or return two classes from history.query.',
        )
    unknown = [value for value in counts.index if value not in contract.classes]
    if unknown:
        raise ContractError(
            f"target {target!r}: found the new class {unknown[0]!r}; the contract lists "
            f"{', '.join(map(repr, contract.classes))}",
            code="new_class",
            next_step=f"If the class is correct, add it to classes in {contract_file(problem).name}.",
        )
    missing = [value for value in contract.classes if value not in counts.index]
    if missing:
        raise ContractError(
            f"target {target!r}: class {missing[0]!r} is missing; found {', '.join(map(repr, counts.index))}",
            code="class_vanished",
            next_step=f"Increase history.keep, or remove the class from {contract_file(problem).name}.",
        )
    if counts.min() < MIN_PER_CLASS:
        raise HistoryError(
            f"target {target!r}: class {counts.index.tolist()[-1]!r} has {counts.min()} rows; "
            f"wanted at least {MIN_PER_CLASS}",
            code="rare_class",
            next_step="Wait for more labels, increase history.keep, or merge rare classes in history.query.",
        )
