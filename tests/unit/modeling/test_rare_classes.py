"""A class of few rows stays in a thinned history, and in the output of models that never saw it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from automl.history.contract import Contract
from automl.modeling.ensemble import assemble
from automl.modeling.families import Shape, load_family
from automl.modeling.features import CARRIED, make_encoder
from automl.modeling.features.matrices import LEAST_OF_CLASS, Rows, thin
from automl.modeling.tasks import task_of
from automl.modeling.training import predict
from automl.predictions import model_output
from automl.promotion.guards.worker import shares_of_gain
from automl.tracking import digest_folder, load_folder, save_folder

RNG = np.random.default_rng(3)
CONTRACT = Contract(features={"a": "number"}, classes=("x", "y", "z"))


def history(counts: dict[float, int], *, old: float | None = None) -> Rows:
    """Rows of so many of each class in any order; those of class `old` come first."""
    y = np.repeat(list(counts), list(counts.values()))
    y = RNG.permutation(y)
    if old is not None:
        y = np.concatenate([y[y == old], y[y != old]])
    n = len(y)
    return Rows(
        frame=pd.DataFrame({"n": np.arange(n)}),
        y=y,
        weight=np.ones(n),
        age=np.linspace(1, 0, n),
        block=0,
        classes=3,
    )


@pytest.mark.parametrize("old", [None, 1.0], ids=["any time", "long ago"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("rare", "most"), [(20, 1000), (1, 1000), (49, 1000), (400, 2000), (20, 30_000)]
)
def test_a_class_of_few_rows_keeps_them_and_its_weight(
    rare: int, most: int, seed: int, old: float | None
) -> None:
    rows = history({0.0: 30_000, 1.0: rare, 2.0: 10_000}, old=old)

    thinned = thin(rows, most, seed)

    assert len(thinned.y) == most
    assert np.all(np.diff(thinned.frame["n"]) > 0), "the order of time"
    assert (thinned.y == 1).sum() >= min(rare, LEAST_OF_CLASS)
    if rare < LEAST_OF_CLASS:
        assert thinned.weight[thinned.y == 1].sum() == pytest.approx(rare)
    assert thinned.weight.sum() == pytest.approx(len(rows.y))


def test_a_thinned_class_counts_as_much_as_before_on_average() -> None:
    rows = history({0.0: 9_000, 1.0: 90, 2.0: 910}, old=1.0)
    shares = [
        np.bincount(k.y.astype(int), k.weight) for k in (thin(rows, 500, s) for s in range(60))
    ]
    # at 500 rows of 10,000 a class of 910 has 45, so its share varies by a sixth from draw to draw
    assert np.mean(shares, axis=0) == pytest.approx([9_000, 90, 910], rel=0.06)
    assert {s[1] for s in np.round(shares)} == {90.0}


@pytest.mark.parametrize("classes", [0, None, 3])
def test_values_and_classes_without_a_rare_one_are_drawn_as_before(classes: int | None) -> None:
    y = RNG.normal(size=5000) if classes == 0 or classes is None else np.arange(5000) % 3.0
    rows = Rows(
        frame=pd.DataFrame({"n": np.arange(5000)}),
        y=y,
        weight=np.ones(5000),
        age=np.zeros(5000),
        block=0,
        classes=classes,
    )
    older = np.random.default_rng(7).choice(4750, 750, replace=False)
    wanted = np.concatenate([np.sort(older), np.arange(4750, 5000)])
    assert thin(rows, 1000, 7).frame["n"].tolist() == wanted.tolist()


@pytest.mark.parametrize("labels", [60, 400, 900])
def test_many_classes_share_the_cap(labels: int) -> None:
    y = np.sort(np.minimum(RNG.geometric(3 / labels, 40_000), labels) - 1.0)[::-1].copy()
    rows = Rows(
        frame=pd.DataFrame({"n": np.arange(40_000)}),
        y=y,
        weight=np.ones(40_000),
        age=np.zeros(40_000),
        block=0,
        classes=labels,
    )
    thinned = thin(rows, 1000, 0)
    assert len(thinned.y) == 1000
    assert thinned.weight.sum() == pytest.approx(40_000)
    if labels <= 500:
        assert set(thinned.y) == set(y)


# ---------------------------------------------------------------- models that lack a class


def fitted(
    family: str, seen: list[float], count: int = 300
) -> tuple[Any, Any, NDArray[np.float64]]:
    """An encoder and an estimator of rows of some classes alone, and all outcomes."""
    X = pd.DataFrame({"a": RNG.normal(size=count)})
    y = RNG.choice(seen, count)
    encoder = make_encoder({"a": "number"}, "trees", 3)
    columns = np.asarray(encoder.fit_transform(X, y))
    shape = Shape(rows=count, columns=columns.shape[1], classes=3, task="multiclass")
    loaded = load_family(family, Path())
    estimator = loaded.build({}, shape, 0).fit(columns, y)
    return encoder, estimator, X


@pytest.mark.parametrize("family", ["lightgbm", "linear", "extra_trees", "hist_gradient_boosting"])
def test_a_blend_has_probabilities_of_a_class_that_a_member_never_saw(
    family: str, tmp_path: Path
) -> None:
    lacking, estimator, X = fitted(family, [0.0, 2.0])
    whole, other, _ = fitted("linear", [0.0, 1.0, 2.0])
    model = assemble([("0", 0.75, lacking, estimator), ("1", 0.25, whole, other)], CONTRACT, ["a"])

    output = model_output(model, X, CONTRACT)

    one, two = (
        predict(m, e.transform(X), task_of(range(3)))
        for m, e in ((estimator, lacking), (other, whole))
    )
    assert output == pytest.approx(0.75 * one + 0.25 * two)
    assert output.sum(axis=1) == pytest.approx(1)
    assert (one[:, 1] == 0).all()
    assert set(model.predict(X)) <= set(CONTRACT.classes)
    save_folder(model, X.head(20), [], tmp_path / "model")
    loaded = load_folder(tmp_path / "model", digest_folder(tmp_path / "model"))
    assert np.array_equal(model_output(loaded, X, CONTRACT), output)
    assert set(shares_of_gain(model)) <= {"a"}
    assert bool(shares_of_gain(model)) is (family in ("lightgbm", "extra_trees"))


def test_a_member_that_saw_every_class_keeps_its_stock_class() -> None:
    encoder, estimator, _ = fitted("linear", [0.0, 1.0, 2.0])
    model = assemble([("0", 1.0, encoder, estimator)], CONTRACT, ["a"])
    assert model.estimators_[0][-1] is estimator
    lacking, estimator, _ = fitted("linear", [0.0, 1.0])
    model = assemble([("0", 1.0, lacking, estimator)], CONTRACT, ["a"])
    assert type(model.estimators_[0][-1]).__module__ == CARRIED


def test_a_model_with_fewer_classes_predicts_those_of_the_contract() -> None:
    X = pd.DataFrame({"a": RNG.normal(size=50)})
    model = LogisticRegression().fit(X, np.where(X["a"] > 0, "z", "x"))
    output = model_output(model, X, CONTRACT)
    assert np.array_equal(output[:, [0, 2]], model.predict_proba(X))
    assert (output[:, 1] == 0).all()
