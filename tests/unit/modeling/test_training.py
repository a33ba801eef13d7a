"""Whatever an estimator does to its process, the fit is a result with a reason, and the next fit goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.modeling.families import Shape, load_family
from automl.modeling.recipes import Recipe
from automl.modeling.tasks import task_of
from automl.modeling.training import Fit, FitResult, Pool, predict, recency_weights
from automl.problem import family_folder
from tests.support.failing_family import HOWS, write_failing_family

SHAPE = Shape(rows=120, columns=2, classes=2, task="binary")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Matrices of 120 rows, and the family that goes wrong."""
    random = np.random.default_rng(0)
    X = random.normal(size=(160, 2)).astype("float32")
    y = (X[:, 0] > 0).astype("float64")
    np.save(tmp_path / "train_X.npy", X[:120])
    np.save(tmp_path / "train_y.npy", y[:120])
    np.save(tmp_path / "train_w.npy", np.ones(120))
    np.save(tmp_path / "train_age.npy", np.linspace(1, 0, 120))
    np.save(tmp_path / "validation_X.npy", X[120:])
    write_failing_family(tmp_path, "")
    return tmp_path


def job(folder: Path, how: str, number: int = 0) -> Fit:
    """A fit of the failing family."""
    recipe = Recipe("failing", {"how": how}, number)
    family = str(folder / "failing.py")
    output = folder / f"out-{number}.npy"
    return Fit(
        tag=(number, 0),
        family=family,
        recipe=recipe,
        learned=None,
        shape=SHAPE,
        data=folder,
        output=output,
    )


def ended(pool: Pool, count: int) -> dict[int, FitResult]:
    """The next results by number."""
    found: list[tuple[Fit, FitResult]] = []
    while len(found) < count:
        found += pool.collect(time.monotonic() + 30)
    return {fit.tag[0]: result for fit, result in found}


@pytest.mark.parametrize(("how", "error"), HOWS.items())
def test_a_failed_fit_has_an_error_and_the_next_fit_succeeds(
    folder: Path, how: str, error: str
) -> None:
    pool = Pool(1)
    try:
        pool.start(job(folder, how, 1), time.monotonic() + (1.5 if how == "sleeps" else 60))
        assert error in ended(pool, 1)[1].error
        assert pool.free == 1
        pool.start(job(folder, "", 2), time.monotonic() + 60)
        assert ended(pool, 1)[2].error == ""
    finally:
        pool.stop()
    assert np.load(folder / "out-2.npy").shape == (40, 2)


def test_a_good_fit_is_unaffected_by_a_failing_one(folder: Path) -> None:
    pool = Pool(2)
    try:
        pool.start(job(folder, "crashes", 1), time.monotonic() + 60)
        pool.start(job(folder, "", 2), time.monotonic() + 60)
        results = ended(pool, 2)
    finally:
        pool.stop()
    assert results[1].error
    assert results[2].error == ""
    assert results[2].seconds >= results[2].seconds_fit > 0


def test_one_worker_fits_many_recipes(folder: Path) -> None:
    pool = Pool(1)
    try:
        for number in range(5):
            pool.start(job(folder, "", number), time.monotonic() + 60)
            assert ended(pool, 1)[number].error == ""
        assert len(pool._workers) == 1
    finally:
        pool.stop()


def test_a_worker_that_died_while_idle_costs_one_fit_not_the_sweep(folder: Path) -> None:
    pool = Pool(1)
    try:
        pool.start(job(folder, "", 0), time.monotonic() + 60)
        assert ended(pool, 1)[0].error == ""
        os.kill(pool._workers[0].process.pid, signal.SIGKILL)
        pool._workers[0].process.join(5)
        pool.start(job(folder, "", 1), time.monotonic() + 60)
        assert "SIGKILL" in ended(pool, 1)[1].error
        pool.start(job(folder, "", 2), time.monotonic() + 60)
        assert ended(pool, 1)[2].error == ""
    finally:
        pool.stop()


def test_stopping_kills_what_runs_and_leaves_no_process(folder: Path) -> None:
    pool = Pool(2)
    pool.start(job(folder, "sleeps", 1), time.monotonic() + 60)
    pool.start(job(folder, "", 2), time.monotonic() + 60)
    assert ended(pool, 1)[2].error == ""
    children = [w.process for w in pool._workers]
    left = pool.stop()
    assert [fit.tag[0] for fit, _ in left] == [1]
    assert "stopped after" in left[0][1].error
    assert not any(process.is_alive() for process in children)


def test_the_same_job_gives_the_same_result_in_any_worker(folder: Path) -> None:
    outputs: list[Any] = []
    for _ in range(2):
        pool = Pool(1)
        try:
            pool.start(job(folder, "", 3), time.monotonic() + 60)
            ended(pool, 1)
        finally:
            pool.stop()
        outputs.append(np.load(folder / "out-3.npy"))
    assert np.array_equal(*outputs)


@given(half_life=st.sampled_from([None, 0.5, 0.125]), scale=st.floats(0.1, 100))
def test_recency_weights_have_mean_one_and_halve(half_life: float | None, scale: float) -> None:
    ages = np.linspace(1, 0, 33)
    weights = recency_weights(ages, half_life, np.full(33, scale))
    assert weights.mean() == pytest.approx(1)
    if half_life:
        later = np.interp(1 - half_life, 1 - ages, weights)
        assert weights[-1] / later == pytest.approx(2, rel=0.02)
    else:
        assert np.allclose(weights, 1)


@pytest.mark.parametrize(("task", "classes"), [("binary", 2), ("multiclass", 3), ("regression", 0)])
def test_shared_preparation_changes_no_prediction(tmp_path: Path, task: Any, classes: int) -> None:
    random = np.random.default_rng(1)
    X = random.normal(size=(900, 5)).astype("float32")
    X[:, 4] = random.integers(0, 6, 900)  # codes of a category
    X[random.random(X.shape) < 0.1] = np.nan
    drive = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 4] % 2) + random.normal(size=900) / 2
    y = np.digitize(drive, [0.5, 1.2][: classes - 1]).astype("float64") if classes else drive
    ages = np.linspace(1, 0, 700)
    arrays = {"train_X": X[:700], "train_y": y[:700], "train_w": np.ones(700), "train_age": ages}
    for name, values in (arrays | {"validation_X": X[700:]}).items():
        np.save(tmp_path / f"{name}.npy", values)
    shape = Shape(rows=700, columns=5, classes=classes, task=task, categories=(4,))
    family = load_family("lightgbm", tmp_path)
    # unweighted, weighted, unweighted again, and with other leaves than the bins were made for
    params = {"n_estimators": 30, "colsample_bytree": 0.6, "subsample": 0.8}
    leaves = [({}, None), ({}, 0.25), ({"min_child_samples": 2}, None), ({"num_leaves": 9}, 0.25)]
    recipes = [
        Recipe("lightgbm", params | more, 3, half_life=half_life) for more, half_life in leaves
    ]
    path, pool = str(family_folder() / "lightgbm.py"), Pool(1)
    try:
        for i, recipe in enumerate(recipes):
            output = tmp_path / f"out-{i}.npy"
            job = Fit(
                tag=(i, 0),
                family=path,
                recipe=recipe,
                learned=None,
                shape=shape,
                data=tmp_path,
                output=output,
            )
            pool.start(job, time.monotonic() + 60)
            assert not ended(pool, 1)[i].error
            alone = family.build(recipe.params, shape, 3)
            weights = recency_weights(ages, recipe.half_life, np.ones(700))
            more = {} if recipe.half_life is None else {"sample_weight": weights}
            alone.fit(X[:700], y[:700], categorical_feature=[4], **more)
            assert np.load(output) == pytest.approx(
                predict(alone, X[700:], task_of(range(classes))), rel=1e-9
            )
    finally:
        pool.stop()
