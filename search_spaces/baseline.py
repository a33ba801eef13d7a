"""Baseline: a constant prediction: class shares, mean or median; every model must beat it."""

from __future__ import annotations

from typing import Any

from automl import Family, Params, Shape, Suggests


def space(trial: Suggests, shape: Shape) -> Params:
    """Regression: the mean or the median; which of them wins depends on the metric."""
    if shape.task != "regression":
        return {}
    return {"strategy": trial.suggest_categorical("strategy", ["mean", "median"])}  # rmse | mae


def build(params: Params, shape: Shape, seed: int) -> Any:
    """scikit-learn's dummies; they predict without reading a feature."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    if shape.task != "regression":
        return DummyClassifier(strategy="prior", random_state=seed)
    return DummyRegressor(strategy=params.get("strategy", "mean"))


family = Family(
    name="baseline",
    short="base",
    tasks={"binary", "multiclass", "regression"},
    encoding="dense",
    start=[(0, {})],  # first, because it costs nothing and all other trials are compared with it
    space=space,
    build=build,
)
