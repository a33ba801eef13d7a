"""Each metric equals a slow, obvious formula, and its loss falls when things get better."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.modeling.metrics import Array, get_metric
from automl.problem import METRICS

Formula = Callable[[list[float], list[list[float]], list[float]], float]

BETTER = {  # direction of the score
    "roc_auc": "higher",
    "average_precision": "higher",
    "log_loss": "lower",
    "brier": "lower",
    "accuracy": "higher",
    "balanced_accuracy": "higher",
    "f1_macro": "higher",
    "rmse": "lower",
    "mae": "lower",
    "mape": "lower",
    "r2": "higher",
}
EVERY = sorted({(task, name) for task, names in METRICS.items() for name in names})


def roc_auc(y: list[float], p: list[list[float]], w: list[float]) -> float:
    """Share of (positive, negative) pairs in the right order; a tie is half right."""
    pairs = [
        (w[i] * w[j], 1.0 if p[i][1] > p[j][1] else 0.5 if p[i][1] == p[j][1] else 0.0)
        for i in range(len(y))
        for j in range(len(y))
        if y[i] == 1 and y[j] == 0
    ]
    return sum(weight * right for weight, right in pairs) / sum(weight for weight, _ in pairs)


def average_precision(y: list[float], p: list[list[float]], w: list[float]) -> float:
    """Precision at every threshold, weighted by the recall it adds."""
    positives = sum(v for v, label in zip(w, y, strict=True) if label == 1)
    total, recall = 0.0, 0.0
    for threshold in sorted({row[1] for row in p}, reverse=True):
        taken = [i for i in range(len(y)) if p[i][1] >= threshold]
        hits = sum(w[i] for i in taken if y[i] == 1)
        total += (hits / positives - recall) * hits / sum(w[i] for i in taken)
        recall = hits / positives
    return total


def log_loss(y: list[float], p: list[list[float]], w: list[float]) -> float:
    """Mean of minus the log of what was given to the class that came."""
    return -sum(v * log(row[int(label)]) for v, row, label in zip(w, p, y, strict=True)) / sum(w)


def brier(y: list[float], p: list[list[float]], w: list[float]) -> float:
    """Mean squared distance of the probability from 0 or 1."""
    return sum(v * (row[1] - label) ** 2 for v, row, label in zip(w, p, y, strict=True)) / sum(w)


def chosen(p: list[list[float]]) -> list[int]:
    """The first most probable class of each row."""
    return [row.index(max(row)) for row in p]


def accuracy(y: list[float], p: list[list[float]], w: list[float]) -> float:
    """Share of right classes."""
    return sum(v for v, c, label in zip(w, chosen(p), y, strict=True) if c == label) / sum(w)


def balanced_accuracy(y: list[float], p: list[list[float]], w: list[float]) -> float:
    """Mean share of right classes over the classes that came."""
    shares = []
    for k in sorted(set(y)):
        of_class = [i for i in range(len(y)) if y[i] == k]
        shares.append(
            sum(w[i] for i in of_class if chosen(p)[i] == k) / sum(w[i] for i in of_class)
        )
    return sum(shares) / len(shares)


def f1_macro(y: list[float], p: list[list[float]], w: list[float]) -> float:
    """Mean over classes seen or predicted of 2 hits / (predicted + seen)."""
    scores = []
    for k in sorted({*y, *chosen(p)}):
        hits = sum(w[i] for i in range(len(y)) if y[i] == k == chosen(p)[i])
        both = sum(w[i] for i in range(len(y)) if y[i] == k) + sum(
            w[i] for i in range(len(y)) if chosen(p)[i] == k
        )
        scores.append(2 * hits / both)
    return sum(scores) / len(scores)


def rmse(y: list[float], p: list[list[float]], w: list[float]) -> float:
    """Root of the mean squared error."""
    return sqrt(
        sum(v * (row[0] - label) ** 2 for v, row, label in zip(w, p, y, strict=True)) / sum(w)
    )


def mae(y: list[float], p: list[list[float]], w: list[float]) -> float:
    """Mean absolute error."""
    return sum(v * abs(row[0] - label) for v, row, label in zip(w, p, y, strict=True)) / sum(w)


def mape(y: list[float], p: list[list[float]], w: list[float]) -> float:
    """Mean absolute error relative to the value."""
    return sum(
        v * abs(row[0] - label) / abs(label) for v, row, label in zip(w, p, y, strict=True)
    ) / sum(w)


def r2(y: list[float], p: list[list[float]], w: list[float]) -> float:
    """1 minus squared error over squared distance from the mean."""
    mean = sum(v * label for v, label in zip(w, y, strict=True)) / sum(w)
    left = sum(v * (row[0] - label) ** 2 for v, row, label in zip(w, p, y, strict=True))
    return 1 - left / sum(v * (label - mean) ** 2 for v, label in zip(w, y, strict=True))


FORMULAS: dict[str, Formula] = {
    f.__name__: f
    for f in (
        roc_auc,
        average_precision,
        log_loss,
        brier,
        accuracy,
        balanced_accuracy,
        f1_macro,
        rmse,
        mae,
        mape,
        r2,
    )
}


def made_up(task: str, seed: int) -> tuple[Array, Array, Array]:
    """Outcomes, outputs with ties, and weights of 30 rows; every class comes."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.1, 3, 30)
    if task == "regression":
        y = rng.normal(5, 2, 30)
        return y, y + rng.normal(0, 1, 30), weight
    classes = 2 if task == "binary" else 4
    y = np.append(np.arange(classes), rng.integers(0, classes, 30 - classes)).astype(float)
    raw = rng.integers(1, 6, (30, classes)).astype(float)
    return y, raw / raw.sum(axis=1, keepdims=True), weight


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("task", "name"), EVERY)
def test_a_metric_equals_its_formula(task: str, name: str, weighted: bool, seed: int) -> None:
    y, output, weight = made_up(task, seed)
    score = get_metric(name).score(y, output, weight if weighted else None)
    rows = output.reshape(len(y), -1).tolist()
    slow = FORMULAS[name](y.tolist(), rows, weight.tolist() if weighted else [1.0] * len(y))
    assert score == pytest.approx(slow, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("task", "name"), EVERY)
def test_a_weight_of_two_is_the_row_twice_and_of_zero_the_row_left_out(
    task: str, name: str, seed: int
) -> None:
    y, output, _ = made_up(task, seed)
    counts = np.random.default_rng(seed).integers(0, 4, len(y))
    counts[:4] = 2  # every class comes
    metric = get_metric(name)

    repeated = metric.score(np.repeat(y, counts), np.repeat(output, counts, axis=0))

    assert metric.score(y, output, counts.astype(float)) == pytest.approx(repeated, rel=1e-9)
    assert metric.score(y, output, counts / 8) == pytest.approx(repeated, rel=1e-9)
    assert metric.score(y, output, np.full(len(y), 0.1)) == metric.score(y, output)


@pytest.mark.parametrize("name", BETTER)
def test_rows_without_weight_have_no_score(name: str) -> None:
    task = next(task for task, known in EVERY if known == name)
    y, output, _ = made_up(task, 0)
    assert isnan(get_metric(name).score(y, output, np.zeros(len(y))))


def test_a_class_without_weight_does_not_count() -> None:
    y, output, weight = made_up("binary", 0)
    assert isnan(get_metric("roc_auc").score(y, output, weight * (y == 1)))


@pytest.mark.parametrize(("name", "better"), BETTER.items())
def test_the_direction_is_the_known_one(name: str, better: str) -> None:
    metric = get_metric(name)
    assert (metric.better, metric.arrow) == (better, "↑" if better == "higher" else "↓")


def test_the_direction_of_every_metric_is_checked() -> None:
    assert set(BETTER) == set(FORMULAS) == {name for _, name in EVERY}


@pytest.mark.parametrize("name", BETTER)
@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_the_loss_falls_when_the_score_improves(name: str, a: float, b: float) -> None:
    metric = get_metric(name)
    best, worst = (max(a, b), min(a, b)) if BETTER[name] == "higher" else (min(a, b), max(a, b))
    assert 0 <= metric.loss(best) <= metric.loss(worst)


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_the_truth_itself_has_no_loss_and_the_worst_guess_some(task: str, name: str) -> None:
    y, output, _ = made_up(task, 0)
    metric = get_metric(name)
    perfect = y if task == "regression" else np.eye(output.shape[1])[y.astype(int)]
    wrong = y[::-1] if task == "regression" else 1 - perfect
    wrong = wrong if task == "regression" else wrong / wrong.sum(axis=1, keepdims=True)
    assert metric.loss(metric.score(y, perfect)) == pytest.approx(0, abs=1e-12)
    assert metric.loss(metric.score(y, wrong)) > 0.1


@pytest.mark.parametrize(("task", "name"), EVERY)
@given(seed=st.integers(0, 2**20))
def test_the_order_of_rows_does_not_matter(task: str, name: str, seed: int) -> None:
    y, output, weight = made_up(task, seed)
    order = np.random.default_rng(seed).permutation(len(y))
    metric = get_metric(name)
    assert metric.score(y[order], output[order], weight[order]) == pytest.approx(
        metric.score(y, output, weight)
    )


def test_the_relative_error_of_a_zero_target_is_not_a_number() -> None:
    y, predicted = np.array([0.0, 2.0, 4.0]), np.array([1.0, 1.0, 3.0])
    assert isnan(get_metric("mape").score(y, predicted))
    assert get_metric("mape").score(y, predicted, np.array([0.0, 1.0, 1.0])) == pytest.approx(0.375)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_roc_auc_of_a_single_class_is_not_a_number(label: float) -> None:
    score = get_metric("roc_auc").score(np.full(5, label), np.full((5, 2), 0.5))
    assert isnan(score)
    assert isnan(get_metric("roc_auc").loss(score))


def test_classes_without_rows_still_count_in_log_loss() -> None:
    p = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
    assert get_metric("log_loss").score(np.array([0.0, 0.0]), p) == pytest.approx(log(2))


def test_a_confident_wrong_prediction_costs_a_finite_log_loss() -> None:
    assert 30 < get_metric("log_loss").score(np.array([0.0]), np.array([[0.0, 1.0]])) < 1000
