"""Refuse a column that predicts the target almost perfectly by itself: it is known only later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from automl.errors import HistoryError
from automl.history.contract.target import MIN_PER_CLASS
from automl.history.contract.values import Contract, contract_file
from automl.problem import Problem

__all__ = ["LEAK", "LEAK_ROWS", "predictive_strength", "refuse_leaks"]

LEAK = 0.99  # AUC or correlation that no single honest column reaches
LEAK_ROWS = 20_000  # newest rows that are searched for leaks


def refuse_leaks(frame: pd.DataFrame, contract: Contract, problem: Problem) -> None:
    """Refuse a feature that predicts the target by itself, unless the contract allows it.

    Raises
    ------
    HistoryError
        The AUC or correlation of one column is above `LEAK`.
    """
    sample = frame.tail(LEAK_ROWS)
    truth = sample[problem.history.target]
    for name, kind in contract.features.items():
        if kind == "time" or contract.allows(name, "leak"):
            continue
        strength = predictive_strength(sample[name], truth, contract.classes)
        if strength > LEAK:
            raise HistoryError(
                f"column {name!r}: predicts the target {problem.history.target!r} by itself ({strength:.3f}); "
                "wanted columns that are known when the prediction is made",
                code="leak",
                next_step='Add it to history.ignore; or, if it is known in time, add "allowed": {"leak": '
                f'"reason"}} to the column in {contract_file(problem).name}.',
            )


def predictive_strength(
    column: pd.Series, truth: pd.Series, classes: Sequence[object] = ()
) -> float:
    """AUC of one column in its better direction; for regression its absolute correlation. Missing cells do not count."""
    if not classes:
        values = column if pd.api.types.is_float_dtype(column) else _mean_coded(column, truth)
        both = values.notna() & truth.notna()
        if both.sum() < MIN_PER_CLASS or values[both].nunique() < 2:
            return 0.0
        return abs(float(np.corrcoef(values[both], truth[both])[0, 1]))
    best = 0.0
    for label in classes[-1:] if len(classes) == 2 else classes:
        hit = (truth == label).astype("float64")
        values = column if pd.api.types.is_float_dtype(column) else _mean_coded(column, hit)
        seen = values.notna().to_numpy(bool)
        positive = int(hit[seen].sum())
        negative = int(seen.sum()) - positive
        if min(positive, negative) < MIN_PER_CLASS or seen.mean() < 0.5:
            continue
        ranks = rankdata(values[seen])
        ranked = ranks[hit[seen].to_numpy() == 1].sum()
        auc = (ranked - positive * (positive + 1) / 2) / (positive * negative)
        best = max(best, auc, 1 - auc)
    return best


def _mean_coded(column: pd.Series, truth: pd.Series) -> pd.Series:
    """Categories coded as the mean target of the older half of the rows; only the newer half is coded."""
    half = len(column) // 2
    means = truth.iloc[:half].groupby(column.iloc[:half]).mean()
    coded = column.map(means).astype("float64")
    coded.iloc[:half] = np.nan
    return coded
