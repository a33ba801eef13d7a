"""Importance finds the columns that matter; SHAP values add up to the prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import VotingRegressor
from sklearn.pipeline import Pipeline

from automl.explanation import importance
from automl.explanation.importance import Labelled, contributions, permutation_importance
from automl.history.contract import Contract
from automl.modeling.features import make_encoder
from automl.modeling.metrics import get_metric

N = 600
KINDS: dict[str, Any] = {"size": "number", "shop": "text", "noise": "number", "sent_at": "time"}
CONTRACT = Contract(features=KINDS, classes=())


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Size and shop matter, noise does not; there are so many shops that they are coded by outcomes too."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "size": rng.normal(0, 1, N).round(3),
            "shop": rng.choice([f"s{i}" for i in range(40)], N),
            "noise": rng.normal(0, 1, N),
            "sent_at": pd.date_range("2026-01-01", periods=N, freq="7h"),
        }
    )


@pytest.fixture(scope="module")
def truth(rows: pd.DataFrame) -> np.ndarray:
    """The outcome."""
    return 3 * rows["size"].to_numpy() + 2.0 * rows["shop"].isin(["s1", "s2", "s3", "s4", "s5"])


@pytest.fixture(scope="module")
def model(rows: pd.DataFrame, truth: np.ndarray) -> Any:
    """An average of one pipeline, as `assemble` makes it."""
    encoder = make_encoder(KINDS, "trees", classes=0, block=100)
    X = encoder.fit_transform(rows, truth)
    tree = LGBMRegressor(n_estimators=30, num_leaves=7, verbose=-1, n_jobs=1).fit(X, truth)
    made = VotingRegressor([("0-lightgbm", tree)])
    made.estimators_ = [Pipeline([("encode", encoder), ("model", tree)])]
    return made


def test_a_column_that_matters_is_found_and_one_that_does_not_adds_nothing(
    model: Any, rows: pd.DataFrame, truth: np.ndarray
) -> None:
    found = permutation_importance(
        model, Labelled(rows, truth, np.ones(N)), CONTRACT, get_metric("rmse"), seed=1, seconds=5
    )
    by_name = {f["name"]: f for f in found["features"]}
    assert found["features"][0]["name"] == "size"
    assert by_name["shop"]["added"] > 5 * abs(by_name["noise"]["added"])
    assert abs(by_name["noise"]["share"]) < 0.2
    assert (found["measured"], found["columns"], found["rows"]) == (4, 4, N)
    assert all(f["low"] <= f["added"] <= f["high"] for f in found["features"])


def test_importance_ends_in_time_and_says_how_many_columns_it_measured(
    model: Any, rows: pd.DataFrame, truth: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "STACKED_ROWS", 100)
    found = permutation_importance(
        model, Labelled(rows, truth, np.ones(N)), CONTRACT, get_metric("rmse"), seed=1, seconds=0
    )
    assert found["measured"] < found["columns"]
    assert found["rows"] == importance.LEAST_ROWS


def test_shap_values_of_raw_columns_add_up_to_the_prediction(
    model: Any, rows: pd.DataFrame
) -> None:
    found = contributions(model, rows, CONTRACT, [1.0])
    assert found is not None
    encoder, tree = model.estimators_[0][0], model.estimators_[0][-1]
    flat = tree.booster_.predict(encoder.transform(rows), pred_contrib=True)
    raw = importance._raw_columns(encoder, flat.shape[1] - 1)
    assert set(raw) == set(KINDS)
    assert flat.sum(axis=1) == pytest.approx(tree.predict(encoder.transform(rows)), abs=1e-9)
    size = np.abs(flat[:, [i for i, n in enumerate(raw) if n == "size"]].sum(axis=1)).mean()
    by_name = {f["name"]: f for f in found["features"]}
    assert by_name["size"]["mean_abs"] == pytest.approx(size)
    quarters = [p["mean"] for p in by_name["size"]["profile"]]
    assert quarters == sorted(quarters)
    assert all(
        p["rows"] >= importance.LEAST_IN_BIN for f in found["features"] for p in f["profile"]
    )


def test_members_without_trees_have_no_shap_values_and_several_classes_no_profile(
    rows: pd.DataFrame,
) -> None:
    class Plain:
        estimators_ = ()

    assert contributions(Plain(), rows, CONTRACT, [1.0]) is None
    encoder = make_encoder(KINDS, "trees", classes=3)
    y = np.arange(N) % 3
    tree = LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1)
    tree.fit(encoder.fit_transform(rows, y.astype(float)), y)

    class Average:
        estimators_ = (Pipeline([("encode", encoder), ("model", tree)]),)

    contract = Contract(features=KINDS, classes=("a", "b", "c"))
    found = contributions(Average(), rows, contract, [0.5])
    assert found is not None
    assert found["features"]
    assert all(f["profile"] == [] for f in found["features"])
