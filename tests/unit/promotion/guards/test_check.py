"""Guards: each is a number with a limit; sound models pass, and useless ones do not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import log
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from automl.history import pull, read
from automl.history.contract import infer, save_contract
from automl.modeling.metrics import get_metric
from automl.modeling.recipes import Blend, Recipe
from automl.modeling.splits import make_blocks
from automl.problem import Problem
from automl.promotion.guards import Comparison, Examiner, compare
from automl.promotion.guards.checks import (
    SliceGains,
    agreement,
    drift,
    latency,
    leak,
    mean_level,
    psi,
    size,
    slice_gains,
    worst_slice,
)
from automl.promotion.guards.process import NoOutputError
from automl.promotion.guards.worker import shares_of_gain
from automl.store import Release
from automl.sweep import Work, output_file
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF

LAW = settings(max_examples=60, deadline=None, derandomize=True)
RNG = np.random.default_rng(0)
SKEWED = RNG.beta(2, 5, 400)
CHAMPION, CHALLENGER = Recipe("linear", {"C": 1.0}, 0), Recipe("linear", {"C": 2.0}, 0)


def two_classes(positive: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - positive, positive])


# ---------------------------------------------------------------- the fresh process


@pytest.fixture
def examiner(make_problem: Callable[..., Problem]) -> Iterator[Examiner]:
    problem = make_problem()
    frame = read(pull(problem, open_workspace(problem.file), AS_OF))
    save_contract(problem, infer(frame, problem))
    with Examiner(problem) as process:
        yield process


def test_a_process_that_dies_over_a_model_says_how(examiner: Examiner) -> None:
    os.kill(examiner._process.pid, signal.SIGSEGV)
    with pytest.raises(NoOutputError) as raised:
        examiner.examine({}, {})
    assert raised.value.args[0] == "the process died: SIGSEGV"


def test_a_model_that_cannot_be_loaded_is_named_with_the_reason(examiner: Examiner) -> None:
    with pytest.raises(NoOutputError, match="PredictError: model version 7 of parcels"):
        examiner.examine({"version": 7, "digests": {}}, {})


def test_a_process_whose_caller_has_died_ends(examiner: Examiner) -> None:
    examiner._connection.close()
    examiner._process.join(30)
    assert examiner._process.exitcode == 0


# ---------------------------------------------------------------- drift


def slow_psi(expected: Sequence[float], found: Sequence[float]) -> float:
    """The formula over tenths of the first sample, bin by bin, for values without ties."""
    inner = [float(np.quantile(expected, q / 10)) for q in range(1, 10)]
    edges, total = [-np.inf, *inner, np.inf], 0.0
    for low, high in pairwise(edges):
        a, b = (
            (sum(low <= v < high for v in values) + 0.5) / (len(values) + 5)
            for values in (expected, found)
        )
        total += (b - a) * log(b / a)
    return total


@LAW
@given(st.integers(0, 1000), st.floats(-1, 1))
def test_psi_equals_the_formula_bin_by_bin(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    before, after = rng.normal(size=120), rng.normal(shift, 1, size=80)

    assert psi(before, after) == pytest.approx(slow_psi(list(before), list(after)))


def test_equal_predictions_have_not_drifted_even_if_they_are_all_the_same() -> None:
    assert psi(SKEWED, SKEWED) == pytest.approx(0)
    assert psi(np.full(50, 0.3), np.full(50, 0.3)) == pytest.approx(0)


def test_a_drift_is_told_and_only_another_question_is_refused() -> None:
    near = drift(two_classes(SKEWED), two_classes(SKEWED + RNG.normal(0, 0.02, 400)))
    moved = drift(two_classes(SKEWED), two_classes(SKEWED + 0.1))
    swapped = drift(two_classes(SKEWED), two_classes(1 - SKEWED))
    lifted = drift(two_classes(SKEWED), two_classes(0.5 + SKEWED / 2))

    assert (near.passed, "shifted" in near.found) == (True, False)
    assert (moved.passed, "shifted" in moved.found) == (True, True)
    assert not swapped.passed
    assert swapped.wanted == "below 0.25; refused above 1 with a correlation below 0.5"
    assert psi(SKEWED, 0.5 + SKEWED / 2) > 1
    assert (lifted.passed, "correlation 1.00" in lifted.found) == (True, True)


def test_of_several_classes_the_one_that_moved_most_counts() -> None:
    before = RNG.dirichlet([2, 3, 4], 300)
    after = before[:, [0, 2, 1]]

    worst = max(psi(before[:, i], after[:, i]) for i in range(3))

    assert drift(before, after).found.startswith(f"PSI {worst:.2f}, shifted, correlation")


# ---------------------------------------------------------------- level

LABELS = np.array([0.20, 0.22, 0.19, 0.21, 0.23, 0.20])


@pytest.mark.parametrize(
    ("mean", "passed"), [(0.20, True), (0.25, True), (0.35, False), (0.05, False)]
)
def test_predictions_whose_mean_no_recent_block_came_near_are_refused(
    mean: float, passed: bool
) -> None:
    output = two_classes(np.full(500, mean))

    assert mean_level(output, np.column_stack([1 - LABELS, LABELS])).passed is passed
    assert mean_level(output[:, 1], LABELS).passed is passed


def test_few_blocks_refuse_nobody() -> None:
    guard = mean_level(np.full(100, 0.9), LABELS[:3])

    assert guard.passed
    assert "too few" in guard.found


def test_few_rows_are_not_taken_for_a_wrong_level() -> None:
    output = np.array([0.0, 0.9, 0.4, 0.1])  # their mean is 0.35, and means little

    assert mean_level(output, LABELS).passed


# ---------------------------------------------------------------- slices


def some_slices(gains: dict[str, Sequence[float]], rows: int = 200) -> list[SliceGains]:
    return [SliceGains(name, tuple(g), (rows,) * len(g)) for name, g in gains.items()]


def test_a_slice_that_surely_became_worse_is_refused_and_named() -> None:
    steady = {f"carrier = {c}": (0.01, 0.012, 0.008) for c in "ABCDE"}
    guard = worst_slice(some_slices({**steady, "carrier = F": (-0.09, -0.10, -0.11)}))

    assert not guard.passed
    assert guard.found.startswith("carrier = F: gain -10.0%")


def test_a_slice_that_became_a_little_worse_passes() -> None:
    assert worst_slice(some_slices({"a": (0.01, 0.01), "b": (-0.012, -0.010)})).passed


def test_the_worst_of_many_equal_slices_is_seldom_refused() -> None:
    rng, refused, alone = np.random.default_rng(2), [], []
    for _ in range(200):
        gains = {f"s{i}": rng.normal(0.005, 0.06, 3) for i in range(16)}
        refused.append(not worst_slice(some_slices(gains)).passed)
        # each by its own mean and the true noise: P(gain < -2 %) >= 0.8
        alone.append(min(g.mean() for g in gains.values()) < -0.02 - 0.84 * 0.06 / np.sqrt(3))

    assert np.mean(alone) >= 0.4
    assert np.mean(refused) <= 0.03


@pytest.mark.parametrize("slices", [[], some_slices({"a": (-0.5,), "b": (0.1,)})])
def test_slices_seen_on_one_block_refuse_nobody(slices: list[SliceGains]) -> None:
    assert worst_slice(slices).passed


def test_gains_of_slices_are_those_of_their_own_rows() -> None:
    metric = get_metric("rmse")
    truth = RNG.normal(size=200)
    carrier = np.repeat(["UA", "AA"], [120, 80])
    champion = truth + 1.0
    challenger = truth + np.where(carrier == "UA", 0.5, 2.0)
    columns, weight = [pd.DataFrame({"carrier": carrier})] * 2, np.ones(200)

    slices = slice_gains(
        columns, [(truth, champion, weight)] * 2, [(truth, challenger, weight)] * 2, metric
    )

    assert [(s.name, s.rows) for s in slices] == [
        ("carrier = UA", (120, 120)),
        ("carrier = AA", (80, 80)),
    ]
    assert slices[0].gains == pytest.approx([0.5, 0.5])
    assert slices[1].gains == pytest.approx([-1.0, -1.0])


def test_slices_of_few_rows_or_one_class_are_no_evidence() -> None:
    metric = get_metric("roc_auc")
    truth = np.array([0, 1] * 40 + [0] * 50 + [0, 1] * 5)
    columns = [pd.DataFrame({"c": ["both"] * 80 + ["one"] * 50 + ["few"] * 10})]
    output, weight = two_classes(RNG.random(140)), np.ones(140)

    slices = slice_gains(columns, [(truth, output, weight)], [(truth, output, weight)], metric)

    assert [s.name for s in slices] == ["c = both"]


# ---------------------------------------------------------------- the rest


def test_a_model_that_needs_a_night_for_a_batch_is_refused() -> None:
    assert latency(9.9).passed
    assert not latency(10.1).passed


def test_a_model_too_large_to_fetch_is_refused() -> None:
    assert size(500).passed
    assert not size(501).passed


def test_a_refit_with_swapped_classes_is_refused_and_a_deep_one_is_reported() -> None:
    swept = two_classes(SKEWED)
    deep = two_classes(np.clip(0.3 * SKEWED + 0.7 * (RNG.random(400) < SKEWED), 0, 1))

    assert agreement(swept, swept).found == "correlation 1.00"
    guard = agreement(swept, deep)
    assert (guard.passed, "low" in guard.found) == (True, True)
    assert not agreement(swept, two_classes(1 - SKEWED)).passed


def test_a_constant_contradicts_nobody() -> None:
    assert agreement(np.full(20, 0.3), np.full(20, 0.4)).passed


def test_a_feature_that_carries_nearly_all_of_the_gain_is_told_and_not_refused() -> None:
    alarm = leak({"arr_delay": 0.97, "hour": 0.03})

    assert alarm.passed
    assert "arr_delay 97%: is it known in time?" in alarm.found
    assert "known" not in leak({"a": 0.6, "b": 0.4}).found
    assert leak({}).found == "no tree model"


def test_gains_are_read_from_tree_members_by_raw_column() -> None:
    X = pd.DataFrame({"noise": RNG.normal(size=300), "text": "a", "leak": RNG.normal(size=300)})
    encoder = ColumnTransformer(
        [("text", OrdinalEncoder(), ["text"]), ("number", "passthrough", ["noise", "leak"])]
    )
    trees = make_pipeline(encoder, ExtraTreesRegressor(10, random_state=0)).fit(X, X["leak"])
    linear = make_pipeline(encoder, LinearRegression()).fit(X, X["leak"])

    shares = shares_of_gain(SimpleNamespace(estimators_=[linear, trees]))

    assert set(shares) == {"text", "noise", "leak"}
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) == "leak"
    assert shares_of_gain(SimpleNamespace(estimators_=[linear])) == {}


def test_what_a_model_is_held_against_may_be_left_out() -> None:
    assert Comparison().champion is None
    assert Comparison().slices == ()


# ---------------------------------------------------------------- what a cycle has to compare with


@pytest.fixture
def work(make_problem: Callable[..., Problem], tmp_path: Path) -> Work:
    """A sweep's work on the made-up world, on which two recipes have answered."""
    problem = make_problem(replace={'name = "roc_auc"': 'name = "log_loss"\nslices = ["carrier"]'})
    snapshot = pull(problem, open_workspace(problem.file), AS_OF)
    frame = read(snapshot)
    contract = infer(frame, problem)
    blocks = make_blocks(frame, problem, AS_OF)
    work = Work(
        problem=problem,
        contract=contract,
        families={},
        frame=frame,
        blocks=blocks,
        scratch=tmp_path / "scratch",
        workers=1,
    )
    (work.scratch / "outputs").mkdir(parents=True)
    for recipe, positive in ((CHAMPION, 0.3), (CHALLENGER, 0.4)):
        for b, block in enumerate(blocks):
            output = two_classes(np.full(len(block.validation), positive))
            np.save(output_file(work, recipe, b), output)
    return work


def test_a_cycle_offers_its_newest_rows_the_labels_of_its_blocks_and_its_slices(work: Work) -> None:
    blend, champion = Blend.single(CHALLENGER), Blend.single(CHAMPION)
    release = Release(
        id=1,
        as_of=AS_OF,
        model_version=4,
        run_id="run",
        digests={"a": "b"},
        fingerprint="",
        blend=champion,
        labels_until=AS_OF,
        projected=False,
    )

    compared = compare(work, blend, release)

    assert compared.champion == (4, {"a": "b"})
    newest = work.blocks[0].validation
    assert compared.rows is not None
    assert list(compared.rows.index) == list(newest)
    assert compared.outputs is not None
    assert compared.outputs.shape == (len(newest), 2)
    assert compared.labels is not None
    target = work.frame[work.problem.history.target].to_numpy()
    for mean, block in zip(compared.labels, work.blocks, strict=False):
        assert mean[1] == pytest.approx(
            (target[block.validation] == work.contract.classes[1]).mean()
        )
    assert len(compared.labels) > len(work.blocks)
    carriers = work.frame["carrier"].iloc[newest].nunique()
    assert len({s.name for s in compared.slices}) == carriers


def test_a_first_model_and_a_refit_of_the_champion_have_no_slices_to_fear(work: Work) -> None:
    champion = Blend.single(CHAMPION)
    release = Release(
        id=1,
        as_of=AS_OF,
        model_version=4,
        run_id="run",
        digests={},
        fingerprint="",
        blend=champion,
        labels_until=AS_OF,
        projected=False,
    )

    assert compare(work, champion, None).champion is None
    assert compare(work, champion, None).slices == ()
    assert compare(work, champion, release).slices == []
