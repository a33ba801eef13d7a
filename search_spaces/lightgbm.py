"""LightGBM: boosted trees; reads gaps and categories as they are. Ke et al. 2017, NeurIPS."""

from __future__ import annotations

from typing import Any

from automl import Family
from automl.spaces import Params, Shape, Suggests

MOST_TREES = 2000  # a cap, not a wish: early stopping decides


def space(trial: Suggests, shape: Shape) -> Params:
    """Ranges follow TabArena's and AutoGluon's LightGBM spaces, narrowed for small budgets."""
    most_leaves = max(8, min(256, shape.rows // 20))  # keep about 20 rows in a leaf
    most_rows = max(8, min(200, shape.rows // 20))  # a leaf of 5 % of the rows is a stump
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.15, log=True),  # below: slower, not better
        "num_leaves": trial.suggest_int("num_leaves", 4, most_leaves, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 2, most_rows, log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),  # below: most trees see noise only
        "subsample": trial.suggest_float("subsample", 0.7, 1.0),  # below: loses rows that drifting data needs
        "reg_lambda": trial.suggest_float("reg_lambda", 1e-4, 10.0, log=True),  # above: leaves cannot move
        "extra_trees": trial.suggest_categorical("extra_trees", [False, True]),  # random cuts: diversity
        "cat_smooth": trial.suggest_float("cat_smooth", 1.0, 100.0, log=True),  # rows a category needs to count
    }


def build(params: Params, shape: Shape, seed: int) -> Any:
    """One thread, fixed histogram order and seed: the same trees every time."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMRegressor if shape.task == "regression" else LGBMClassifier
    fixed = {"n_jobs": 1, "verbose": -1, "deterministic": True, "force_row_wise": True, "subsample_freq": 1}
    return kind(**{"n_estimators": 100, **fixed, **params, "random_state": seed})


def fit(estimator: Any, X: Any, y: Any, X_val: Any, y_val: Any, weights: Any, **more: Any) -> Params:
    """Stop when later rows no longer gain; the number of trees is what is learned."""
    import lightgbm as lgb

    patience = 30 if estimator.learning_rate >= 0.08 else 60  # slower steps need a longer look
    estimator.set_params(n_estimators=MOST_TREES)
    stop = lgb.early_stopping(patience, min_delta=1e-5, verbose=False)
    estimator.fit(X, y, sample_weight=weights, eval_X=X_val, eval_y=y_val, callbacks=[stop], **more)
    return {"n_estimators": max(10, int(estimator.best_iteration_))}


family = Family(
    name="lightgbm",
    short="lgbm",
    tasks={"binary", "multiclass", "regression"},
    encoding="trees",
    start=[
        (1, {"learning_rate": 0.1, "num_leaves": 31}),  # the library's own defaults, stopped in time
        (3, {"learning_rate": 0.05, "num_leaves": 40, "min_child_samples": 5, "colsample_bytree": 0.5,
             "subsample": 0.88, "reg_lambda": 0.35, "extra_trees": True, "cat_smooth": 15.0}),
        (4, {"learning_rate": 0.04, "num_leaves": 50, "min_child_samples": 40, "subsample": 0.75}),
        (7, {"learning_rate": 0.05, "num_leaves": 8, "min_child_samples": 24, "reg_lambda": 0.3}),
    ],
    space=space,
    build=build,
    fit=fit,
    fit_args=lambda shape: {"categorical_feature": list(shape.categories)},
)
