"""MLP: a small neural network on scaled, one-hot columns; smooth where trees are steps."""

from __future__ import annotations

from typing import Any

from automl import Family, Params, Shape, Suggests


def space(trial: Suggests, shape: Shape) -> Params:
    """Width, shrinkage and step; depth stays at two layers, enough for tables of this size."""
    return {
        "width": trial.suggest_int("width", 16, 256, log=True),  # above: minutes per fit on one core
        "alpha": trial.suggest_float("alpha", 1e-5, 1e-1, log=True),  # above: the prior
        "learning_rate_init": trial.suggest_float("learning_rate_init", 3e-4, 1e-2, log=True),  # above: diverges
        "epochs": trial.suggest_int("epochs", 4, 40, log=True),  # few: time order has no honest inner stop
    }


def build(params: Params, shape: Shape, seed: int) -> Any:
    """A numeric target is standardised; a target in the thousands would not be reached otherwise."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import StandardScaler

    width = params.get("width", 64)
    fixed = {
        "hidden_layer_sizes": (width, max(8, width // 2)),
        "alpha": params.get("alpha", 1e-4),
        "learning_rate_init": params.get("learning_rate_init", 1e-3),
        "max_iter": params.get("epochs", 15),
        "batch_size": min(256, max(16, shape.rows // 20)),
        "random_state": seed,
    }
    if shape.task != "regression":
        return MLPClassifier(**fixed)
    return TransformedTargetRegressor(regressor=MLPRegressor(**fixed), transformer=StandardScaler())


family = Family(
    name="mlp",
    short="mlp",
    tasks={"binary", "multiclass", "regression"},
    encoding="dense",
    start=[(8, {"width": 64, "alpha": 1e-3, "learning_rate_init": 1e-3, "epochs": 12})],
    space=space,
    build=build,
    weights=False,  # TransformedTargetRegressor does not pass weights on
)
