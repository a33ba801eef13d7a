"""Predictions: fixed columns, rows in order, finite numbers only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from automl import history
from automl.errors import PredictError
from automl.history import ColumnKind
from automl.history.contract import Contract
from automl.predictions.predict import (
    fingerprint,
    model_output,
    predict,
    predict_pieces,
    read_pieces,
)
from automl.problem import Problem
from automl.workspace import Workspace
from tests.support.parcels import AS_OF

FEATURES = {"weight": "number", "carrier": "text"}
CLASSES: dict[str, tuple[str | int, ...]] = {
    "binary": (0, 1),
    "multiclass": ("fine", "late", "lost"),
    "regression": (),
}


class Model:
    """Predicts given values, row by row, and records the columns that it was called with."""

    def __init__(self, output: NDArray[np.float64]) -> None:
        self.output = output
        self.columns: list[str] = []

    def predict_proba(self, columns: pd.DataFrame) -> NDArray[np.float64]:
        self.columns = list(columns.columns)
        return self.output

    predict = predict_proba


def contract_of(task: str) -> Contract:
    return Contract(features=FEATURES, unused={"parcel": "key"}, classes=CLASSES[task])  # type: ignore[arg-type]


def batch_of(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "parcel": rng.permutation(rows) + 100,
            "sent_at": pd.date_range("2026-03-02", periods=rows, freq="h"),
            "weight": rng.normal(size=rows),
            "carrier": rng.choice(["ant", "bee"], rows),
            "not_a_feature": 1.0,
        }
    )


def output_of(task: str, rows: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(1)
    return (
        rng.normal(size=rows)
        if task == "regression"
        else rng.dirichlet(np.ones(len(CLASSES[task])), rows)
    )


def predicted(
    problem: Problem, rows: int = 20
) -> tuple[pd.DataFrame, pd.DataFrame | None, NDArray[np.float64]]:
    output = output_of(problem.task, rows)
    return *predict(Model(output), batch_of(rows), problem, contract_of(problem.task)), output


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("binary", ["parcel", "sent_at", "prediction", "probability", "low", "high"]),
        ("multiclass", ["parcel", "sent_at", "prediction", "probability", "low", "high"]),
        ("regression", ["parcel", "sent_at", "prediction", "low", "high"]),
    ],
)
def test_columns_are_fixed_per_task(
    make_problem: Callable[..., Problem], task: str, columns: list[str]
) -> None:
    frame, classes, _ = predicted(make_problem(task))

    assert list(frame.columns) == columns
    assert frame[["low", "high"]].isna().all(axis=None)
    assert (classes is None) == (task != "multiclass")
    if classes is not None:
        assert list(classes.columns) == ["parcel", "class", "probability"]


def test_binary_probability_is_that_of_the_positive_class_whatever_is_predicted(
    make_problem: Callable[..., Problem],
) -> None:
    frame, _, output = predicted(make_problem("binary"))

    assert frame["probability"].tolist() == output[:, 1].tolist()
    assert frame["prediction"].tolist() == [int(p > 0.5) for p in output[:, 1]]
    assert set(frame["prediction"]) == {0, 1}


def test_multiclass_probability_is_that_of_the_predicted_class(
    make_problem: Callable[..., Problem],
) -> None:
    frame, _, output = predicted(make_problem("multiclass"))

    assert frame["probability"].tolist() == output.max(axis=1).tolist()
    assert frame["prediction"].tolist() == [CLASSES["multiclass"][i] for i in output.argmax(axis=1)]


def test_regression_predicts_the_values_themselves(make_problem: Callable[..., Problem]) -> None:
    frame, _, output = predicted(make_problem("regression"))

    assert frame["prediction"].tolist() == output.tolist()


def test_the_class_table_has_one_row_per_key_and_class(
    make_problem: Callable[..., Problem],
) -> None:
    frame, classes, output = predicted(make_problem("multiclass"))

    assert classes is not None
    wide = classes.pivot(index="parcel", columns="class", values="probability")
    assert np.array_equal(wide.loc[frame["parcel"], list(CLASSES["multiclass"])].to_numpy(), output)
    assert len(classes) == 3 * len(frame)


@pytest.mark.parametrize("task", CLASSES)
def test_rows_keep_their_order_and_their_predictions(
    make_problem: Callable[..., Problem], task: str
) -> None:
    problem, batch, output = make_problem(task), batch_of(20), output_of(task, 20)
    order = np.random.default_rng(2).permutation(20)
    whole, _ = predict(Model(output), batch, problem, contract_of(task))

    shuffled, _ = predict(Model(output[order]), batch.iloc[order], problem, contract_of(task))

    assert shuffled["parcel"].tolist() == batch["parcel"].iloc[order].tolist()
    pd.testing.assert_frame_equal(shuffled.sort_index(), whole)


def test_the_model_sees_the_features_of_the_contract_and_nothing_else(
    make_problem: Callable[..., Problem],
) -> None:
    model = Model(output_of("binary", 20))

    predict(model, batch_of(20), make_problem("binary"), contract_of("binary"))

    assert model.columns == list(FEATURES)


def test_a_batch_is_not_changed_by_predicting_it(make_problem: Callable[..., Problem]) -> None:
    batch = batch_of(20)

    predict(
        Model(output_of("multiclass", 20)),
        batch,
        make_problem("multiclass"),
        contract_of("multiclass"),
    )

    pd.testing.assert_frame_equal(batch, batch_of(20))


def test_a_key_that_holds_the_time_column_is_published_once(
    make_problem: Callable[..., Problem],
) -> None:
    problem = make_problem("multiclass", replace={'["parcel"]': '["parcel", "sent_at"]'})

    frame, classes, _ = predicted(problem)

    assert list(frame.columns) == ["parcel", "sent_at", "prediction", "probability", "low", "high"]
    assert classes is not None
    assert list(classes.columns) == ["parcel", "sent_at", "class", "probability"]


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(task: str, broken: float) -> None:
    output = output_of(task, 20)
    output.flat[7] = broken

    with pytest.raises(PredictError, match="1 values that are not finite"):
        model_output(Model(output), batch_of(20), contract_of(task))


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        ("binary", (20, 3)),
        ("binary", (20,)),
        ("multiclass", (20, 2)),
        ("multiclass", (19, 3)),
        ("regression", (20, 1)),
    ],
)
def test_an_output_of_another_shape_is_refused(task: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(PredictError, match=r"has shape .* wanted shape"):
        model_output(Model(np.full(shape, 0.5)), batch_of(20), contract_of(task))


def test_an_output_that_is_not_numeric_is_refused() -> None:
    with pytest.raises(
        PredictError, match="cannot score the batch: ValueError: could not convert string"
    ):
        model_output(Model(np.array(["late"] * 20)), batch_of(20), contract_of("regression"))


@pytest.mark.parametrize("task", CLASSES)
def test_a_batch_without_a_feature_is_refused_by_name(task: str) -> None:
    with pytest.raises(PredictError, match="carrier"):
        model_output(
            Model(output_of(task, 20)), batch_of(20).drop(columns="carrier"), contract_of(task)
        )


def test_the_error_of_a_model_is_reported_in_one_line() -> None:
    class Failing:
        def predict_proba(self, _: pd.DataFrame) -> Any:
            raise RuntimeError("out of luck\nand a long tail")

    with pytest.raises(PredictError, match=r"cannot score the batch: RuntimeError: out of luck$"):
        model_output(Failing(), batch_of(20), contract_of("binary"))


def test_a_model_that_raises_without_a_message_is_refused_too() -> None:
    class Failing:
        def predict_proba(self, _: pd.DataFrame) -> Any:
            raise RuntimeError

    with pytest.raises(PredictError, match="cannot score the batch: RuntimeError"):
        model_output(Failing(), batch_of(20), contract_of("binary"))


# ---------------------------------------------------------------- in pieces


def test_averages_that_rounding_raises_above_one_are_one() -> None:
    output = np.array([[1 - 1e-9, 1e-9], [-0.0, 1 + 1e-9]])

    assert model_output(Model(output), batch_of(2), contract_of("binary"))[1].tolist() == [0.0, 1.0]


class Linear:
    """Predicts from the row alone, and records how many rows each call had."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def predict(self, columns: pd.DataFrame) -> NDArray[np.float64]:
        self.asked.append(len(columns))
        return columns["weight"].to_numpy() * 1.7 + (columns["carrier"] == "ant").to_numpy()


@pytest.mark.parametrize("workers", [1, 3])
def test_predictions_of_pieces_equal_those_of_the_whole_in_order(
    make_problem: Callable[..., Problem], workers: int
) -> None:
    problem, contract, batch = make_problem("regression"), contract_of("regression"), batch_of(100)
    pieces = (batch.iloc[start : start + 9] for start in range(0, 100, 9))

    pieces_out = list(predict_pieces(Linear(), pieces, problem, contract, workers=workers))

    assert len(pieces_out) == 12
    whole, _ = predict(Linear(), batch, problem, contract)
    pd.testing.assert_frame_equal(
        pd.concat([frame for frame, _ in pieces_out]), whole, check_exact=True
    )


def test_at_most_the_pieces_being_predicted_are_in_memory(
    make_problem: Callable[..., Problem],
) -> None:
    read = []

    def pieces() -> Iterator[pd.DataFrame]:
        for number in range(20):
            read.append(number)
            yield batch_of(4)

    predictions = predict_pieces(
        Linear(), pieces(), make_problem("regression"), contract_of("regression"), workers=2
    )
    for taken, _ in enumerate(predictions, start=1):
        assert len(read) <= taken + 2


def test_a_piece_that_cannot_be_scored_ends_it(make_problem: Callable[..., Problem]) -> None:
    pieces = [batch_of(4), batch_of(4).drop(columns="carrier"), batch_of(4)]

    with pytest.raises(PredictError, match="lacks column 'carrier'"):
        list(
            predict_pieces(Linear(), pieces, make_problem("regression"), contract_of("regression"))
        )


@pytest.mark.parametrize("rows", [10, 37, 64, 1000])
@pytest.mark.parametrize("key", [True, False])
def test_the_pieces_of_a_frozen_batch_are_the_batch(
    make_problem: Callable[..., Problem], workspace: Workspace, rows: int, key: bool
) -> None:
    problem = make_problem()
    history_ = problem.history if key else problem.history.model_copy(update={"key": ()})
    problem = problem.model_copy(update={"history": history_})
    kinds: dict[str, ColumnKind] = {"weight": "number", "carrier": "text", "parcel": "whole"}
    kinds |= {"sent_at": "time", "late": "whole"}
    batch = history.pull_batch(problem, workspace, AS_OF, kinds=kinds)

    pieces = list(read_pieces(batch, problem, rows))

    pd.testing.assert_frame_equal(
        pd.concat(pieces, ignore_index=True), history.read(batch), check_exact=True
    )
    if key:
        assert {len(p) for p in pieces[:-1]} <= {rows}
        assert len(pieces[-1]) >= min(rows // 2, batch.rows)


# ---------------------------------------------------------------- fingerprint


def test_equal_models_have_equal_fingerprints_and_different_ones_do_not() -> None:
    output = output_of("binary", 20)
    moved = output.copy()
    moved[3, 0] = np.nextafter(moved[3, 0], 1)
    prints = [
        fingerprint(output, "recipe"),
        fingerprint(moved, "recipe"),
        fingerprint(output, "another recipe"),
        fingerprint(output[::-1], "recipe"),
    ]

    assert fingerprint(output.copy(), "recipe") == prints[0]
    # the values count, not their order in memory
    assert fingerprint(np.asfortranarray(output), "recipe") == prints[0]
    assert len(set(prints)) == 4
    assert all(len(p) == 64 for p in prints)
