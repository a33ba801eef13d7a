"""Histogram gradient boosting of scikit-learn: a second opinion on boosted trees."""

from __future__ import annotations

from typing import Any

from automl import Family, Params, Shape, Suggests

SLOW = {"learning_rate": 0.06, "max_features": 0.6, "l2_regularization": 1.0}


def space(trial: Suggests, shape: Shape) -> Params:
    """As for LightGBM, with fewer knobs."""
    most_leaves = max(8, min(128, shape.rows // 20))  # keep about 20 rows in a leaf
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.2, log=True),  # below: too slow here
        "max_iter": trial.suggest_int("max_iter", 40, 500, log=True),  # with the rate: searched, not stopped
        "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 4, most_leaves, log=True),  # 31 is the default
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 5, 100, log=True),  # 20 is the default
        "l2_regularization": trial.suggest_float("l2_regularization", 1e-4, 10.0, log=True),  # above: no leaf moves
        "max_features": trial.suggest_float("max_features", 0.3, 1.0),  # share of columns per split
    }


def build(params: Params, shape: Shape, seed: int) -> Any:
    """Its own early stopping holds out random rows, so it stays off: time must not be mixed."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = (
        HistGradientBoostingRegressor
        if shape.task == "regression"
        else HistGradientBoostingClassifier
    )
    fixed = {"early_stopping": False, "categorical_features": list(shape.categories) or None}
    return kind(**{"max_iter": 100, **fixed, **params, "random_state": seed})


family = Family(
    name="hist_gradient_boosting",
    short="hgb",
    tasks={"binary", "multiclass", "regression"},
    encoding="trees",
    start=[
        (6, {**SLOW, "max_iter": 150}),
        (9, {**SLOW, "max_iter": 400, "max_leaf_nodes": 16, "trend": True}),
    ],
    space=space,
    build=build,
    defaults={"max_leaf_nodes": 31, "min_samples_leaf": 20},
)
