"""Tasks: shapes of outputs, published columns and the way back, baselines."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from automl.modeling.tasks import Binary, Multiclass, Regression, task_of

LABELS = ("ant", "bee", "cat")
OUTPUT = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])


@pytest.mark.parametrize(
    ("classes", "name", "task"),
    [
        ((), "", Regression()),
        ((0, 1), "", Binary((0, 1))),
        (LABELS, "", Multiclass(LABELS)),
        ((0, 1), "multiclass", Multiclass((0, 1))),
        ((), "regression", Regression()),
    ],
)
def test_the_name_decides_and_without_it_the_number_of_classes(
    classes: tuple[str | int, ...], name: str, task: object
) -> None:
    assert task_of(classes, name) == task


def test_outcomes_are_class_numbers_in_the_order_of_the_contract_or_values() -> None:
    assert task_of(LABELS).outcomes(pd.Series(["cat", "ant"])).tolist() == [2.0, 0.0]
    assert task_of(()).outcomes(pd.Series([3, 4])).tolist() == [3.0, 4.0]


@pytest.mark.parametrize("task", [Regression(), Binary(("no", "yes")), Multiclass(LABELS)])
def test_what_is_published_leads_back_to_the_output(task: Regression | Binary | Multiclass) -> None:
    output = np.array([[0.75, 0.25], [0.5, 0.5]]) if isinstance(task, Binary) else OUTPUT
    output = np.array([1.5, -2.0]) if isinstance(task, Regression) else output
    keys = pd.DataFrame({"key": [10, 11]})
    rows = keys.assign(**task.published(output))
    per_class = task.per_class(keys, output)
    assert (per_class is not None) is task.publishes_classes

    def read() -> pd.DataFrame:
        assert per_class is not None
        return per_class.pivot(index="key", columns="class", values="probability").loc[rows["key"]]

    assert np.array_equal(task.from_published(rows, read), output)
    assert output.shape == task.output_shape(2)


def test_the_probability_is_that_of_the_positive_or_of_the_predicted_class() -> None:
    binary = Binary(("no", "yes")).published(np.array([[0.75, 0.25]]))
    assert (binary["prediction"][0], binary["probability"][0]) == ("no", 0.25)
    several = Multiclass(LABELS).published(OUTPUT)
    assert several["prediction"].tolist() == ["ant", "cat"]
    assert several["probability"].tolist() == [0.7, 0.6]


def test_a_baseline_is_the_weighted_share_of_each_class_or_the_weighted_mean() -> None:
    outcomes, weight = np.array([0.0, 0.0, 2.0]), np.array([1.0, 1.0, 2.0])
    assert task_of(LABELS).baseline(outcomes, weight, 2).tolist() == [[0.5, 0.0, 0.5]] * 2
    assert task_of(()).baseline(outcomes, weight, 2).tolist() == [1.0, 1.0]


def test_probabilities_outside_0_to_1_are_named_and_rounding_is_not() -> None:
    task = task_of((0, 1))
    assert task.range_error(np.array([[0.0, 1 + 1e-9]]), 1e-6) == ""
    assert "between -0.1 and 1.1" in task.range_error(np.array([[-0.1, 1.1]]), 1e-6)
    assert task.clipped(np.array([[0.0, 1 + 1e-9]])).max() == 1.0
    assert task_of(()).range_error(np.array([-7.0, 7.0]), 1e-6) == ""
