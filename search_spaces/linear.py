"""Linear: logistic or ridge regression on scaled, one-hot columns; fast, stable, hard to overfit."""

from __future__ import annotations

from typing import Any

from automl import Family, Params, Shape, Suggests


def space(trial: Suggests, shape: Shape) -> Params:
    """One number: how strongly the weights are shrunk to zero."""
    if shape.task == "regression":
        return {"alpha": trial.suggest_float("alpha", 1e-3, 1e4, log=True)}  # scaled columns: 1e4 is nearly the mean
    return {"C": trial.suggest_float("C", 1e-4, 1e2, log=True)}  # below: the prior; above: no shrinkage


def build(params: Params, shape: Shape, seed: int) -> Any:
    """L-BFGS and Cholesky are deterministic; the seed has no effect."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if shape.task == "regression":
        return Ridge(alpha=params.get("alpha", 1.0), random_state=seed)
    # 200 steps reach the optimum's third digit on scaled columns; more only burns budget
    return LogisticRegression(C=params.get("C", 1.0), max_iter=200, tol=1e-3, random_state=seed)


family = Family(
    name="linear",
    short="lin",
    tasks={"binary", "multiclass", "regression"},
    encoding="dense",
    # names that a task does not use are ignored: `C` is for classes, `alpha` for numbers
    start=[(2, {"C": 1.0, "alpha": 1.0}), (10, {"C": 0.03, "alpha": 100.0})],
    space=space,
    build=build,
)
