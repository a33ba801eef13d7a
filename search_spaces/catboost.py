"""CatBoost: boosted symmetric trees; categories by ordered statistics. Prokhorenkova et al. 2018, NeurIPS."""

from __future__ import annotations

from typing import Any

from automl import Family, Params, Shape, Suggests


def space(trial: Suggests, shape: Shape) -> Params:
    """Ranges after TabArena's CatBoost space; cost grows with depth."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.2, log=True),  # below: too slow here
        "iterations": trial.suggest_int("iterations", 50, 500, log=True),  # with the rate: searched, not stopped
        "depth": trial.suggest_int("depth", 4, 8),  # above: 2^depth leaves cost minutes
        "l2_leaf_reg": trial.suggest_float("l2_leaf_reg", 1.0, 10.0, log=True),  # 3 is the default
        "random_strength": trial.suggest_float("random_strength", 0.1, 3.0, log=True),  # noise in the split scores
    }


def build(params: Params, shape: Shape, seed: int) -> Any:
    """Category codes are read as numbers: CatBoost's own category statistics take ten times as long."""
    from catboost import CatBoostClassifier, CatBoostRegressor

    kind = CatBoostRegressor if shape.task == "regression" else CatBoostClassifier
    fixed = {"thread_count": 1, "verbose": False, "allow_writing_files": False, "random_seed": seed}
    return kind(**{"iterations": 200, **fixed, **params})


family = Family(
    name="catboost",
    short="cat",
    tasks={"binary", "multiclass", "regression"},
    encoding="trees",
    start=[(11, {"learning_rate": 0.08, "depth": 6, "iterations": 250})],
    space=space,
    build=build,
    defaults={"l2_leaf_reg": 3.0, "random_strength": 1.0},
    needs=("catboost",),
)
