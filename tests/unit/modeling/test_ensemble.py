"""Ensembles: selection never loses to the best single, and the model is the average it claims to be."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from automl.history.contract import Contract
from automl.modeling.ensemble import (
    MOST_MEMBERS,
    ROUNDS,
    Candidate,
    assemble,
    block_weights,
    default_share,
    greedy,
    level,
)
from automl.modeling.features import make_encoder
from automl.modeling.metrics import Metric, get_metric

LAW = settings(max_examples=20, deadline=None, derandomize=True)
METRICS = ("rmse", "roc_auc", "log_loss")
LEAST = 0.02  # what is added to the loss of every block
Arrays = list[NDArray[np.float64]]


def slow_level(
    weights: Mapping[str, float], outputs: Mapping[str, Arrays], truth: Arrays, metric: Metric
) -> float:
    """Geometric mean of the losses of a weighted mean, a newer block weighing 1 / 0.85 of the next."""
    product, mass = 1.0, 0.0
    for b, y in enumerate(truth):
        mixed = sum(w * outputs[name][b] for name, w in weights.items())
        product *= (metric.loss(metric.score(y, mixed)) + LEAST) ** 0.85**b
        mass += 0.85**b
    return product ** (1 / mass)


class World:
    """Blocks of truth, and candidates that see it through noise of their own."""

    def __init__(
        self, seed: int, metric: str, *, candidates: int = 8, blocks: int = 2, rows: int = 60
    ) -> None:
        rng = np.random.default_rng(seed)
        self.metric = get_metric(metric)
        self.truth: Arrays = []
        self.outputs: dict[str, Arrays] = {f"c{i}": [] for i in range(candidates)}
        noise = rng.uniform(0.3, 2.0, candidates)
        for _ in range(blocks):
            hidden = rng.normal(size=rows)
            classes = (hidden > 0).astype(float)
            classes[:2] = [0, 1]  # both, so that every metric is defined
            self.truth.append(hidden if self.metric.needs == "value" else classes)
            for i, name in enumerate(self.outputs):
                seen = hidden + rng.normal(0, noise[i], rows)
                chance = 1 / (1 + np.exp(-seen))
                value = self.metric.needs == "value"
                self.outputs[name].append(seen if value else np.column_stack([1 - chance, chance]))
        self.seconds = {
            name: float(s)
            for name, s in zip(self.outputs, rng.uniform(0.1, 5, candidates), strict=True)
        }

    def level(self, weights: Mapping[str, float]) -> float:
        return slow_level(weights, self.outputs, self.truth, self.metric)

    def greedy(self, **more: Any) -> dict[str, float]:
        return select(self.candidates, self.truth, self.metric, **more)

    @property
    def candidates(self) -> dict[str, Candidate]:
        return {
            n: Candidate(o, self.level({n: 1.0}), self.seconds[n]) for n, o in self.outputs.items()
        }


def select(
    candidates: Mapping[str, Candidate], truth: Arrays, metric: Metric, **more: Any
) -> dict[str, float]:
    """Greedy selection by level, with as much added to every block's loss."""
    return greedy(candidates, truth, metric, lambda x: level(x, [LEAST] * len(x)), **more)


worlds = st.builds(
    World, st.integers(0, 10**6), st.sampled_from(METRICS), candidates=st.integers(1, 10)
)


# ---------------------------------------------------------------- selection


@LAW
@given(worlds)
def test_greedy_is_never_worse_than_the_best_single(world: World) -> None:
    candidates = world.candidates

    weights = select(candidates, world.truth, world.metric)

    best = min(c.level for c in candidates.values())
    assert world.level(weights) <= best + 1e-9


@LAW
@given(worlds)
def test_at_most_eight_members_share_a_weight_of_one(world: World) -> None:
    weights = world.greedy()

    assert 1 <= len(weights) <= MOST_MEMBERS == 8
    assert set(weights) <= set(world.outputs)
    assert min(weights.values()) > 0
    assert sum(weights.values()) == pytest.approx(1)


def test_eight_members_are_used_when_many_equal_ones_average_out_their_noise() -> None:
    rng = np.random.default_rng(0)
    truth = [rng.normal(size=400)]
    outputs = {f"c{i:02d}": [truth[0] + rng.normal(0, 1, 400)] for i in range(12)}
    metric = get_metric("rmse")
    candidates = {
        n: Candidate(o, slow_level({n: 1}, outputs, truth, metric), 1.0) for n, o in outputs.items()
    }

    weights = select(candidates, truth, metric)

    assert len(weights) == MOST_MEMBERS
    assert slow_level(weights, outputs, truth, metric) < 0.6 * min(
        c.level for c in candidates.values()
    )


def slow_greedy(world: World) -> dict[str, float]:
    """Twenty rounds of the best addition, and of all rounds the best one."""
    votes: list[str] = []
    rounds: list[list[str]] = []
    for _ in range(ROUNDS):
        each = (with_vote(votes, name) for name in world.outputs)
        votes = min(each, key=lambda v: world.level(shares(v)))
        rounds.append(votes)
    return shares(min(rounds, key=lambda v: world.level(shares(v))))


def with_vote(votes: list[str], name: str) -> list[str]:
    """One vote more; a ninth member takes the place of the one with the fewest, the oldest of them."""
    if name in votes or len(set(votes)) < MOST_MEMBERS:
        return [*votes, name]
    weakest = min(dict.fromkeys(votes), key=votes.count)
    return [*(v for v in votes if v != weakest), name]


def shares(votes: Sequence[str]) -> dict[str, float]:
    return {name: votes.count(name) / len(votes) for name in sorted(set(votes))}


@pytest.mark.parametrize("seed", range(6))
def test_greedy_selects_what_a_slow_obvious_loop_selects(seed: int) -> None:
    world = World(seed, "rmse", candidates=11)

    assert world.greedy() == pytest.approx(slow_greedy(world))


@LAW
@given(worlds, st.randoms(use_true_random=False))
def test_the_order_of_candidates_changes_nothing(world: World, random: object) -> None:
    candidates = world.candidates
    names = list(candidates)
    random.shuffle(names)  # type: ignore[attr-defined]

    shuffled = select({n: candidates[n] for n in names}, world.truth, world.metric)

    assert shuffled == pytest.approx(select(candidates, world.truth, world.metric))


def nearly(output: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The same but for the third digit."""
    moved = output * (1 + rng.normal(0, 0.003, output.shape))
    return moved if output.ndim == 1 else np.column_stack([1 - moved[:, 1], moved[:, 1]]).clip(0, 1)


@LAW
@given(worlds)
def test_of_twins_only_one_is_a_member(world: World) -> None:
    rng = np.random.default_rng(6)
    for name in list(world.outputs):
        world.outputs[f"{name}-twin"] = [nearly(output, rng) for output in world.outputs[name]]
        world.seconds[f"{name}-twin"] = world.seconds[name]

    weights = world.greedy()

    originals = [name.removesuffix("-twin") for name in weights]
    assert len(originals) == len(set(originals))


@LAW
@given(worlds, st.floats(0.1, 20))
def test_members_together_cost_no_more_than_the_limit(world: World, seconds: float) -> None:
    weights = world.greedy(seconds=seconds)

    affordable = [n for n in world.outputs if world.seconds[n] <= seconds]
    assert sum(world.seconds[n] for n in weights) <= seconds
    assert bool(weights) == bool(affordable)


def test_the_limit_decides_between_a_good_costly_and_a_worse_cheap_member() -> None:
    world = World(1, "rmse", candidates=2)
    best = min(world.candidates, key=lambda n: world.candidates[n].level)
    other = next(n for n in world.outputs if n != best)
    world.seconds = {best: 10.0, other: 1.0}

    assert best in world.greedy(seconds=10.0)
    assert world.greedy(seconds=9.9) == {other: 1.0}


@LAW
@given(worlds, st.integers(1, 3), st.integers(0, 100))
def test_an_anchor_keeps_a_fifth_of_the_weight_and_is_never_made_worse(
    world: World, members: int, seed: int
) -> None:
    names = list(world.outputs)[:members]
    raw = np.random.default_rng(seed).uniform(0.2, 1, len(names))
    anchor = {n: float(w) for n, w in zip(names, raw / raw.sum(), strict=True)}

    weights = world.greedy(anchor=anchor)

    assert world.level(weights) <= world.level(anchor) + 1e-9
    if len(weights) < MOST_MEMBERS:  # else some of it may have made room
        assert set(anchor) <= set(weights)
        assert sum(weights[n] for n in anchor) >= 0.2 - 1e-12


def test_a_full_anchor_gives_way_to_a_better_recipe() -> None:
    world = World(4, "rmse", candidates=9)
    world.outputs["c8"] = [y.copy() for y in world.truth]
    shares = (0.23, 0.19, 0.15, 0.12, 0.11, 0.09, 0.07, 0.04)
    anchor = {f"c{i}": share for i, share in enumerate(shares)}

    weights = world.greedy(anchor=anchor)

    assert len(weights) <= MOST_MEMBERS
    assert weights["c8"] == max(weights.values())
    assert len(set(anchor) - set(weights)) == 1


def test_a_perfect_rival_cannot_push_the_anchor_below_a_fifth() -> None:
    world = World(2, "rmse", candidates=2)
    world.outputs["c1"] = [y.copy() for y in world.truth]

    weights = world.greedy(anchor={"c0": 1.0})

    assert weights == pytest.approx({"c0": 0.2, "c1": 0.8})


def test_an_anchor_without_better_company_stays_as_it_is() -> None:
    world = World(3, "rmse", candidates=3)
    world.outputs["c0"] = [y.copy() for y in world.truth]

    assert world.greedy(anchor={"c0": 1.0}) == {"c0": 1.0}


# ---------------------------------------------------------------- levels


def test_a_hard_block_says_no_more_than_an_easy_one() -> None:
    """One is 5 % better where everybody is bad, the other five times better where everybody is good."""
    hard, easy = level([0.285, 0.02], [0.001, 0.001]), level([0.30, 0.004], [0.001, 0.001])

    assert easy < hard


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=5), st.floats(0.1, 10))
def test_a_ratio_of_levels_is_the_ratio_on_every_block(losses: list[float], times: float) -> None:
    nothing = [0.0] * len(losses)

    ratio = level([times * x for x in losses], nothing) / level(losses, nothing)

    assert ratio == pytest.approx(times)


def test_the_block_of_the_season_has_its_share_and_newer_blocks_weigh_more() -> None:
    weights = block_weights(4, seasonal=True)

    assert weights.sum() == pytest.approx(1)
    assert weights[-1] == pytest.approx(0.4)
    assert weights[:-1] == pytest.approx(0.6 * block_weights(3))
    assert block_weights(1, seasonal=True).tolist() == [1.0], "history has no other block"


@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=8))
@settings(max_examples=60, deadline=None)
def test_the_default_recipe_gets_more_the_smaller_and_noisier_the_gain_over_it(
    gains: list[float],
) -> None:
    found, weights = np.asarray(gains), block_weights(len(gains))
    share = default_share(found, weights)
    assert 0 <= share <= 0.5
    mean = float(weights @ found)
    if mean <= 0:
        assert share == 0.5, "no gain: half is plain"
        return
    assert default_share(mean + 2 * (found - mean), weights) >= share - 1e-12, (
        "as large, but noisier"
    )
    assert default_share(found + 0.1, weights) <= share + 1e-12, "as noisy, but larger"


def test_the_share_of_the_default_recipe_is_noise_over_noise_and_squared_gain() -> None:
    gains, weights = np.array([0.04, 0.08]), np.array([0.5, 0.5])
    noise = 2 * (2 * 0.02**2) / 2  # twice the variance of the mean of two

    assert default_share(gains, weights) == pytest.approx(noise / (noise + 0.06**2))
    assert default_share(np.array([-1.0]), np.array([1.0])) == 0, (
        "the noise of one block is unknown"
    )


def test_rounding_does_not_rank_near_perfect_models() -> None:
    assert level([1e-9], [0.025]) == pytest.approx(level([1e-6], [0.025]), rel=1e-4)
    assert level([0.0, 0.0], [0.0, 0.0]) > 0
    assert np.isnan(level([0.1, np.nan], [0.0, 0.0]))


@pytest.mark.parametrize("blocks", [1, 2, 5, 12])
def test_block_weights_sum_to_one_and_fall_with_age(blocks: int) -> None:
    weights = block_weights(blocks)

    assert weights.sum() == pytest.approx(1)
    assert weights[1:] / weights[:-1] == pytest.approx(0.85)


# ---------------------------------------------------------------- the model

FEATURES = {"weight": "number", "carrier": "text"}
CLASSES: dict[str, tuple[str | int, ...]] = {
    "binary, strings": ("fine", "late"),
    "binary, positive class first in the alphabet": ("late", "fine"),
    "binary, numbers": (0, 1),
    "binary, zero is positive": (1, 0),
    "multiclass, strings": ("fine", "late", "lost"),
    "multiclass, numbers": (2, 5, 10),
}


def parcels(rows: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    return pd.DataFrame(
        {"weight": rng.normal(size=rows), "carrier": rng.choice(["ant", "bee"], rows)}
    )


def members_of(
    frame: pd.DataFrame, y: NDArray[np.float64], estimators: Sequence[object]
) -> list[tuple]:
    """Encoders and estimators fitted as a refit does: on raw columns, and on class numbers."""
    fitted = []
    for i, (estimator, weight) in enumerate(zip(estimators, (0.7, 0.3), strict=True)):
        encoder = make_encoder(FEATURES, "dense")  # type: ignore[arg-type]
        matrix = encoder.fit_transform(frame)
        fitted.append((f"m{i}", weight, encoder, estimator.fit(matrix, y)))  # type: ignore[attr-defined]
    return fitted


@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
def test_a_classifier_predicts_the_weighted_mean_and_the_most_probable_label(
    classes: tuple[str | int, ...],
) -> None:
    frame = parcels()
    y = np.random.default_rng(5).integers(0, len(classes), len(frame)).astype(float)
    members = members_of(
        frame, y, [LogisticRegression(), DecisionTreeClassifier(max_depth=2, random_state=0)]
    )

    model = assemble(members, Contract(features=FEATURES, classes=classes), list(FEATURES))  # type: ignore[arg-type]

    wanted = sum(
        w * estimator.predict_proba(encoder.transform(frame))
        for _, w, encoder, estimator in members
    )
    assert model.predict_proba(frame) == pytest.approx(wanted)
    assert list(model.classes_) == list(classes)
    assert list(model.predict(frame)) == [classes[i] for i in wanted.argmax(axis=1)]
    assert len(set(model.predict(frame))) > 1  # otherwise the line above says little


def test_a_regressor_predicts_the_weighted_mean() -> None:
    frame = parcels()
    y = frame["weight"].to_numpy() ** 2
    members = members_of(
        frame, y, [LinearRegression(), DecisionTreeRegressor(max_depth=2, random_state=0)]
    )

    model = assemble(members, Contract(features=FEATURES, classes=()), list(FEATURES))  # type: ignore[arg-type]

    wanted = sum(
        w * estimator.predict(encoder.transform(frame)) for _, w, encoder, estimator in members
    )
    assert model.predict(frame) == pytest.approx(wanted)


def test_a_model_with_one_member_predicts_like_the_member_and_survives_pickling() -> None:
    frame = parcels()
    members = members_of(
        frame, (frame["weight"] > 0).to_numpy(float), [LogisticRegression(), LogisticRegression()]
    )
    name, _, encoder, estimator = members[0]

    model = assemble(
        [(name, 1.0, encoder, estimator)],
        Contract(features=FEATURES, classes=("n", "y")),  # type: ignore[arg-type]
        list(FEATURES),
    )
    again = pickle.loads(pickle.dumps(model))

    assert model.predict_proba(frame) == pytest.approx(
        estimator.predict_proba(encoder.transform(frame))
    )
    assert np.array_equal(again.predict_proba(frame), model.predict_proba(frame))
    assert list(again.feature_names_in_) == list(FEATURES)
