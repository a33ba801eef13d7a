"""Hooks for families built on LightGBM: columns are binned once for all trials on the same rows.

Binning is 7 to 20 % of a fit of a hundred trees. Only trials use it; a release is fitted by the estimator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.modeling.families import Params, Shape

__all__ = ["FIXED", "HOOKS", "Binned", "fit_args", "fit_shared", "share"]

FIXED: Params = {  # one thread and a fixed order of sums: the same trees every time
    "n_jobs": 1,
    "verbose": -1,
    "deterministic": True,
    "force_row_wise": True,
    "subsample_freq": 1,
    "feature_pre_filter": False,  # bins also serve trials with smaller leaves
}


class Binned:
    """A booster grown on shared bins; predicts like `LGBMClassifier` or `LGBMRegressor`."""

    def __init__(self, booster: Any, shape: Shape) -> None:
        self.booster, self.classes_ = booster, np.arange(shape.classes)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Values, shape (n_rows,)."""
        return np.asarray(self.booster.predict(X))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities, shape (n_rows, n_classes)."""
        p = self.predict(X)
        return p if p.ndim == 2 else np.column_stack([1 - p, p])


def share(X: Any, y: Any, shape: Shape, seed: int) -> Any:
    """The rows as a `lightgbm.Dataset`; it keeps the weights that were set last."""
    from lightgbm import Dataset

    return Dataset(X, y, params={**FIXED, "seed": seed}, **fit_args(shape)).construct()


def fit_shared(params: Params, shape: Shape, seed: int, shared: Any, weights: Any) -> Binned:
    """The trees that the estimator would grow with the same params and `FIXED`, grown on shared bins."""
    from lightgbm import train

    config = {**FIXED, **params, "seed": seed, "objective": shape.task}
    config |= {"num_class": shape.classes} if shape.task == "multiclass" else {}
    rounds = config.pop("n_estimators", 100)
    if weights is not None:
        shared.set_weight(weights)
    return Binned(train(config, shared, rounds, keep_training_booster=True), shape)


def fit_args(shape: Shape) -> Params:
    """Tell LightGBM which columns hold category codes."""
    return {"categorical_feature": list(shape.categories)}


# usage: Family(..., **HOOKS)
HOOKS: dict[str, Any] = {"fit_args": fit_args, "share": share, "fit_shared": fit_shared}
