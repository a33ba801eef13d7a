"""LightGBM: boosted trees; reads gaps and categories as they are. Ke et al. 2017, NeurIPS."""

from __future__ import annotations

from typing import Any

from automl import Family
from automl.spaces import Params, Shape, Suggests


def space(trial: Suggests, shape: Shape) -> Params:
    """Ranges follow TabArena's and AutoGluon's LightGBM spaces, narrowed for small budgets."""
    most_leaves = max(8, min(256, shape.rows // 20))  # keep about 20 rows in a leaf
    most_rows = max(8, min(200, shape.rows // 20))  # a leaf of 5 % of the rows is a stump
    return {
        # below 0.02 slower, not better; the product of rate and trees is what matters
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.15, log=True),
        # searched, not stopped early: when the base rate drifts, a later holdout stops far too soon
        "n_estimators": trial.suggest_int("n_estimators", 40, 600, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 4, most_leaves, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 2, most_rows, log=True),
        # below 0.4 most trees see noise only
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),
        # below 0.7 it loses rows that drifting data needs
        "subsample": trial.suggest_float("subsample", 0.7, 1.0),
        "reg_lambda": trial.suggest_float(
            "reg_lambda", 1e-4, 10.0, log=True
        ),  # above: no leaf moves
        "extra_trees": trial.suggest_categorical(
            "extra_trees", [False, True]
        ),  # random cuts: diversity
        "cat_smooth": trial.suggest_float(
            "cat_smooth", 1.0, 100.0, log=True
        ),  # rows a category needs
    }


def build(params: Params, shape: Shape, seed: int) -> Any:
    """One thread, fixed histogram order and seed: the same trees every time."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMRegressor if shape.task == "regression" else LGBMClassifier
    fixed = {
        "n_jobs": 1,
        "verbose": -1,
        "deterministic": True,
        "force_row_wise": True,
        "subsample_freq": 1,
    }
    return kind(**{**fixed, **params, "random_state": seed})


family = Family(
    name="lightgbm",
    short="lgbm",
    tasks={"binary", "multiclass", "regression"},
    encoding="trees",
    start=[
        (
            1,
            {"learning_rate": 0.1, "num_leaves": 31, "n_estimators": 100},
        ),  # the library's defaults
        (3, {"learning_rate": 0.05, "num_leaves": 8, "min_child_samples": 50, "n_estimators": 300}),
        (4, {"learning_rate": 0.04, "num_leaves": 50, "subsample": 0.75, "n_estimators": 200}),
        (
            7,
            {"learning_rate": 0.05, "num_leaves": 40, "extra_trees": True, "colsample_bytree": 0.5},
        ),
    ],
    space=space,
    build=build,
    fit_args=lambda shape: {"categorical_feature": list(shape.categories)},
)
