"""LightGBM: boosted trees; reads gaps and categories as they are. Ke et al. 2017, NeurIPS."""

from __future__ import annotations

from typing import Any

from automl import Family
from automl.spaces import Params, Shape, Suggests

# The number of trees is searched: stopped early on later rows, it ends too soon when the base rate drifts.


def space(trial: Suggests, shape: Shape) -> Params:
    """Ranges follow TabArena's and AutoGluon's LightGBM spaces, narrowed for small budgets."""
    most_leaves = max(8, min(256, shape.rows // 20))  # keep about 20 rows in a leaf
    most_rows = max(8, min(200, shape.rows // 20))  # a leaf of 5 % of the rows is a stump
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.15, log=True),  # below: slower, not better
        "n_estimators": trial.suggest_int("n_estimators", 40, 600, log=True),  # with the rate, cost and fit
        "num_leaves": trial.suggest_int("num_leaves", 4, most_leaves, log=True),  # 4: nearly additive
        "min_child_samples": trial.suggest_int("min_child_samples", 2, most_rows, log=True),  # 20 is the default
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),  # below: noise only
        "subsample": trial.suggest_float("subsample", 0.7, 1.0),  # below: loses rows that drift needs
        "reg_lambda": trial.suggest_float("reg_lambda", 1e-4, 10.0, log=True),  # above: no leaf moves
        "extra_trees": trial.suggest_categorical("extra_trees", [False, True]),  # random cuts: diversity
        "cat_smooth": trial.suggest_float("cat_smooth", 1.0, 100.0, log=True),  # rows a category needs
    }


def build(params: Params, shape: Shape, seed: int) -> Any:
    """One thread, fixed histogram order and seed: the same trees every time."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMRegressor if shape.task == "regression" else LGBMClassifier
    fixed = {"n_jobs": 1, "verbose": -1, "deterministic": True, "force_row_wise": True}
    return kind(**{**fixed, "subsample_freq": 1, **params, "random_state": seed})


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
