"""XGBoost: boosted trees on histograms, grown by depth. Chen and Guestrin 2016, KDD."""

from __future__ import annotations

from typing import Any

from automl import Family, Params, Shape, Suggests


def space(trial: Suggests, shape: Shape) -> Params:
    """Ranges after TabArena's XGBoost space, narrowed for small budgets."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),  # below: slower, not better
        "n_estimators": trial.suggest_int("n_estimators", 40, 600, log=True),  # with the rate, cost and fit
        "max_depth": trial.suggest_int("max_depth", 3, 10),  # above: leaves of single rows
        "min_child_weight": trial.suggest_float("min_child_weight", 0.5, 20.0, log=True),  # 1 is the default
        "subsample": trial.suggest_float("subsample", 0.6, 1.0),  # below: loses rows that drift needs
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),  # below: noise only
        "reg_lambda": trial.suggest_float("reg_lambda", 1e-2, 10.0, log=True),  # above: no leaf moves
    }


def build(params: Params, shape: Shape, seed: int) -> Any:
    """One thread and histogram trees: the same trees every time."""
    from xgboost import XGBClassifier, XGBRegressor

    kind = XGBRegressor if shape.task == "regression" else XGBClassifier
    fixed = {"n_jobs": 1, "tree_method": "hist", "verbosity": 0, "random_state": seed}
    return kind(**{**fixed, **params})


family = Family(
    name="xgboost",
    short="xgb",
    tasks={"binary", "multiclass", "regression"},
    encoding="trees",
    start=[
        (
            12,
            {
                "learning_rate": 0.06,
                "max_depth": 6,
                "n_estimators": 200,
                "subsample": 0.7,
                "colsample_bytree": 0.7,
            },
        )
    ],
    space=space,
    build=build,
    defaults={"min_child_weight": 1.0, "reg_lambda": 1.0},
    needs=("xgboost",),
)
