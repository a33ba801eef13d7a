"""LightGBM: boosted trees; reads missing cells and categories directly. Ke et al. 2017, NeurIPS."""

from typing import Any

from automl import Family, Params, Shape, Suggests
from automl.modeling import lightgbm_hooks

SMALL = {"learning_rate": 0.05, "num_leaves": 8, "min_child_samples": 50, "n_estimators": 300}
LONG, TWIN = ({"num_leaves": n, "min_child_samples": 5, "colsample_bytree": share, "subsample": 0.85} for n, share in ((12, 0.75), (16, 0.6)))
FAST, SLOW, SLOWEST = ({"learning_rate": rate, "n_estimators": count} for rate, count in ((0.1, 400), (0.06, 500), (0.03, 1200)))
RANDOM = {"learning_rate": 0.03, "num_leaves": 40, "min_child_samples": 5, "subsample": 0.88, "n_estimators": 400}


def space(trial: Suggests, shape: Shape) -> Params:
    """Ranges follow TabArena's and AutoGluon's LightGBM spaces, narrowed for small budgets."""
    largest = max(8, min(256, shape.rows // 20))  # number of leaves, about 20 rows in each; rows in a leaf
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.015, 0.2, log=True),  # below: slower, not better
        "n_estimators": trial.suggest_int("n_estimators", 40, 1500, log=True),  # searched: stopped early, it would end too soon when the base rate drifts
        "num_leaves": trial.suggest_int("num_leaves", 4, largest, log=True),  # 4: nearly additive
        "min_child_samples": trial.suggest_int("min_child_samples", 2, largest, log=True),  # 20 is the default
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
    return kind(**lightgbm_hooks.FIXED, **params, random_state=seed)


def recent(estimator: Any, X: Any, y: Any, **options: Any) -> None:
    """Add sixty trees fitted on the newest rows: follows drift at little cost."""
    estimator.set_params(n_estimators=60).fit(X, y, init_model=estimator.booster_, **options)


family = Family(
    name="lightgbm",
    short="lgbm",
    tasks={"binary", "multiclass", "regression"},
    encoding="trees",
    start=[  # half_life, recent and trend belong to the recipe: they follow a drift from the first minute
        (1, {"learning_rate": 0.1, "num_leaves": 31, "n_estimators": 100}),  # the library's defaults
        (3, {**LONG, **FAST, "half_life": 0.5}), (4, {**LONG, **FAST, "trend": True}),
        (5, {**RANDOM, "extra_trees": True, "colsample_bytree": 0.5, "recent": 0.2}), (7, SMALL),
        (7, {**LONG, **SLOW, "num_leaves": 14, "trend": True}), (13, {**TWIN, **FAST, "half_life": 0.5}),  # 13: near twins, averaged
        (13, {**TWIN, **FAST, "num_leaves": 10, "trend": True}), (13, {**TWIN, **SLOW, "trend": True}), (14, {**LONG, **SLOWEST}), (14, {**LONG, **SLOWEST, "trend": True}),
    ],
    space=space,
    build=build,
    recent=recent,
    defaults={"min_child_samples": 20, "colsample_bytree": 1.0, "subsample": 1.0, "reg_lambda": 1e-4, "extra_trees": False, "cat_smooth": 10.0},
    **lightgbm_hooks.HOOKS,  # categories go to fit by name; trials share their binned columns
)
