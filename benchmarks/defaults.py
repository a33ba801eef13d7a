"""Libraries with their defaults, fitted on a cycle's own snapshot; no tuning, no early stopping.

Categories become codes for the tree libraries and 0/1 columns for logistic regression, as their own
documentation suggests; times become hour, weekday, day and day of year.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from automl import history
from automl.history import ROW_ID
from automl.history.contract import Contract, load_contract
from automl.modeling.features import category_positions, make_encoder
from automl.modeling.features.matrices import to_outcomes
from automl.modeling.metrics import get_metric
from automl.problem import Problem, load_problem
from automl.workspace import open_workspace

__all__ = ["PEERS", "peer_scores"]

Fit = Callable[[Any, Any, tuple[int, ...], bool], Any]


def _lightgbm(X: Any, y: Any, categories: tuple[int, ...], regression: bool) -> Any:
    kind = LGBMRegressor if regression else LGBMClassifier
    return kind(n_jobs=1, verbose=-1).fit(X, y, categorical_feature=list(categories))


def _hist(X: Any, y: Any, categories: tuple[int, ...], regression: bool) -> Any:
    kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    return kind(categorical_features=list(categories) or None).fit(X, y)


def _linear(X: Any, y: Any, _: tuple[int, ...], regression: bool) -> Any:
    return Ridge().fit(X, y) if regression else LogisticRegression(max_iter=200).fit(X, y)


PEERS: dict[str, tuple[str, Fit]] = {
    "lightgbm": ("trees", _lightgbm),
    "hist_gradient_boosting": ("trees", _hist),
    "logistic_regression": ("dense", _linear),
}


def peer_scores(file: Path, as_of: datetime, labels: pd.DataFrame) -> dict[str, float]:
    """Score of every peer on the labelled rows of the batch; `labels` holds key and target."""
    problem, workspace = load_problem(file), open_workspace(file)
    contract = load_contract(problem)
    if contract is None:
        raise AssertionError("a cycle has run")
    kinds = contract.kinds(problem)
    train = history.read(history.pull(problem, workspace, as_of, kinds=kinds))
    batch = history.read(history.pull_batch(problem, workspace, as_of, kinds=kinds))
    key = list(problem.history.key or (ROW_ID,))
    labelled = batch.merge(labels[[*key, problem.history.target]], on=key).dropna(
        subset=problem.history.target
    )
    return {name: _score(problem, contract, train, labelled, *peer) for name, peer in PEERS.items()}


def _score(
    problem: Problem,
    contract: Contract,
    train: pd.DataFrame,
    labelled: pd.DataFrame,
    encoding: Any,
    fit: Fit,
) -> float:
    encoder = make_encoder(contract.features, encoding, zone=problem.history.timezone)
    columns, target = list(contract.features), problem.history.target
    X = encoder.fit_transform(train[columns])
    y = to_outcomes(train[target], contract)
    truth = to_outcomes(labelled[target].astype(train[target].dtype), contract)
    model = fit(X, y, category_positions(contract.features, encoding), problem.task == "regression")
    X_batch = encoder.transform(labelled[columns])
    output = np.asarray(
        model.predict_proba(X_batch) if contract.classes else model.predict(X_batch)
    )
    return get_metric(problem.metric.name).score(truth, output)
