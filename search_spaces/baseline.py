"""Baseline: the prior of the classes, or the median or mean; the floor every model must beat."""

from __future__ import annotations

from typing import Any

from automl import Family, Params, Shape, Suggests


def space(trial: Suggests, shape: Shape) -> Params:
    """Regression may answer the mean or the median: which one wins depends on the metric."""
    if shape.task != "regression":
        return {}
    return {"strategy": trial.suggest_categorical("strategy", ["mean", "median"])}  # rmse | mae


def build(params: Params, shape: Shape, seed: int) -> Any:
    """scikit-learn's dummies; they answer without looking at a feature."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    if shape.task != "regression":
        return DummyClassifier(strategy="prior", random_state=seed)
    return DummyRegressor(strategy=params.get("strategy", "mean"))


family = Family(
    name="baseline",
    short="base",
    tasks={"binary", "multiclass", "regression"},
    encoding="dense",
    start=[(0, {})],  # first of all: it costs nothing and every other trial is measured against it
    space=space,
    build=build,
)
