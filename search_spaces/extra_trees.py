"""Extra trees: many deep random trees, averaged; differs from boosting, so it blends well."""

from __future__ import annotations

from typing import Any

from automl import Family, Params, Shape, Suggests


def space(trial: Suggests, shape: Shape) -> Params:
    """Size of the leaves and of the column sample; more trees never hurt, so they are fixed."""
    most_rows = max(4, min(64, shape.rows // 100))  # larger leaves only blur
    return {
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, most_rows, log=True),  # 1: the deepest trees
        "max_features": trial.suggest_float("max_features", 0.2, 1.0),  # below: blind trees
    }


def build(params: Params, shape: Shape, seed: int) -> Any:
    """150 trees: the next 150 gain less than the noise of a block, and double the model file."""
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    leaves = min(10_000, 60_000 // max(1, shape.classes))  # each holds a share of every class: at most 340 MB
    fixed = {"n_estimators": 150, "n_jobs": 1, "max_leaf_nodes": leaves, "random_state": seed}
    if shape.task == "regression":
        return ExtraTreesRegressor(**{**fixed, **params})
    return ExtraTreesClassifier(**{**fixed, "criterion": "entropy", **params})


family = Family(
    name="extra_trees",
    short="xt",
    tasks={"binary", "multiclass", "regression"},
    encoding="trees",  # codes of categories: one-hot columns would cost ten times the time
    start=[(9, {"min_samples_leaf": 8, "max_features": 0.5})],
    space=space,
    build=build,
)
