"""`history.weight` counts in the same way in fits, scores, guards and realised performance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl.cycles.options import RunOptions
from automl.errors import HistoryError
from automl.history import contract as contracts
from automl.history.contract import Contract
from automl.modeling.ensemble import Candidate, greedy, level
from automl.modeling.families import Shape, load_family
from automl.modeling.features.matrices import row_weights, to_outcomes
from automl.modeling.metrics import get_metric
from automl.modeling.recipes import Blend, Member, Recipe
from automl.modeling.training import Fit, _learn, recency_weights
from automl.monitoring import realised
from automl.problem import Problem
from automl.promotion.guards import compare
from automl.promotion.guards.checks import agreement, drift, mean_level, slice_gains
from automl.retrain import retrain
from automl.retrain.training_data import without_weights
from automl.store import Store
from automl.sweep import Work, baseline_losses, blend_losses, output_file, reweighed, sweep
from automl.sweep.fit_cache import CachedFit, FitCache, block_name, columns_of
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF, make_world
from tests.support.store_rows import make_generation
from tests.support.sweep_work import MakeWork, write_outputs
from tests.support.sweep_work import make_work as make_work  # a fixture

RNG = np.random.default_rng(5)
WEIGHTED = {'label_delay = "1d"': 'label_delay = "1d"\nweight = "copies"'}
ALSO = {'name = "roc_auc"': 'name = "roc_auc"\nalso = ["log_loss"]'}
GOOD, OTHER = Recipe("linear", {"C": 1.0}, 3), Recipe("linear", {"C": 0.1}, 3)


@pytest.fixture
def world() -> pd.DataFrame:
    """The default world, whose rows stand for one, two or three."""
    frame = make_world()
    return frame.assign(copies=np.random.default_rng(1).integers(1, 4, len(frame)))


def repeated(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Each row as often as it weighs."""
    return np.repeat(values, weight.astype(int), axis=0)


def slow_losses(work: Work, outputs: list[np.ndarray]) -> list[float]:
    """Losses of outputs per block, on rows that are repeated and weigh nothing."""
    outcomes, weight = to_outcomes(work.frame["late"], work.contract), work.frame["copies"]
    losses = []
    for block, output in zip(work.blocks, outputs, strict=True):
        w = weight.to_numpy()[block.validation]
        score = work.metric.score(repeated(outcomes[block.validation], w), repeated(output, w))
        losses.append(work.metric.loss(score))
    return losses


# ---------------------------------------------------------------- scores of a sweep


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_losses_of_blends_and_of_the_baseline_are_those_of_repeated_rows(
    make_work: MakeWork, metric: str
) -> None:
    work = make_work({**WEIGHTED, '"roc_auc"': f'"{metric}"'})
    outcomes, weight = (
        to_outcomes(work.frame["late"], work.contract),
        row_weights(work.frame, work.problem),
    )
    (work.scratch / "outputs").mkdir(parents=True)
    outputs, baselines = [], []
    for b, block in enumerate(work.blocks):
        chance = np.clip(
            outcomes[block.validation] * 0.4 + RNG.random(len(block.validation)) * 0.6, 0.01, 0.99
        )
        outputs.append(np.column_stack([1 - chance, chance]))
        np.save(output_file(work, GOOD, b), outputs[-1])
        share = repeated(outcomes[block.train], weight[block.train]).mean()
        baselines.append(np.tile([1 - share, share], (len(block.validation), 1)))

    assert blend_losses(work, Blend.single(GOOD)) == pytest.approx(slow_losses(work, outputs))
    assert baseline_losses(work) == pytest.approx(slow_losses(work, baselines))


def test_trials_are_scored_as_on_repeated_rows(make_work: MakeWork) -> None:
    work = make_work({**WEIGHTED, **ALSO, "trials   = 4": "trials   = 2"})

    leaderboard = sweep(work, deadline=float("inf"))

    for trial in leaderboard.trials:
        outputs = [np.load(output_file(work, trial.recipe, b)) for b in range(len(work.blocks))]
        assert trial.losses == pytest.approx(slow_losses(work, outputs))
    assert leaderboard.trials[1].also["log_loss"] > 0
    alone = replace(work, problem=make_plain(work.problem), scratch=work.scratch / "plain")
    plain = sweep(alone, deadline=float("inf"))
    assert plain.trials[1].losses != leaderboard.trials[1].losses


def make_plain(problem: Problem) -> Problem:
    """The problem without row weights."""
    return problem.model_copy(update={"history": problem.history.model_copy(update={"weight": ""})})


def test_members_are_chosen_and_weighed_as_on_repeated_rows(make_work: MakeWork) -> None:
    truth = [RNG.normal(size=60) for _ in range(2)]
    copies = [RNG.integers(0, 4, 60) for _ in range(2)]
    outputs = {f"r{i}": [y + RNG.normal(0, 1, 60) * (i + 1) for y in truth] for i in range(4)}
    metric = get_metric("rmse")

    def chosen(repeat: bool) -> dict[str, float]:
        def rows(values: list[np.ndarray]) -> list[np.ndarray]:
            pairs = zip(values, copies, strict=True)
            return [repeated(v, w) for v, w in pairs] if repeat else values

        candidates = {n: Candidate(rows(o), 1.0, 0.0) for n, o in outputs.items()}
        weights = None if repeat else [w.astype(float) for w in copies]
        return greedy(
            candidates, rows(truth), metric, lambda x: level(x, [0.01, 0.01]), weights=weights
        )

    assert chosen(repeat=False) == pytest.approx(chosen(repeat=True))


def test_weights_of_members_follow_the_rows_that_count(make_work: MakeWork) -> None:
    work = make_work({**WEIGHTED, '"roc_auc"': '"log_loss"'})
    heavy = work.frame["carrier"] == "ant"
    work = replace(work, frame=work.frame.assign(copies=np.where(heavy, 1000.0, 0.001)))
    outcomes = to_outcomes(work.frame["late"], work.contract)
    (work.scratch / "outputs").mkdir(parents=True)
    for b, block in enumerate(work.blocks):
        right, mine = outcomes[block.validation], heavy.to_numpy()[block.validation]
        for recipe, knows in (
            (GOOD, mine),
            (OTHER, ~mine),
        ):  # each is right where the other guesses
            chance = np.where(knows, 0.1 + 0.8 * right, 0.5)
            np.save(output_file(work, recipe, b), np.column_stack([1 - chance, chance]))
    blend = Blend((Member(GOOD, 0.5), Member(OTHER, 0.5)))

    assert reweighed(work, blend).members[0].weight == pytest.approx(0.98, abs=0.02)


def test_cached_predictions_and_models_are_reused_with_the_same_row_weights_only(
    make_work: MakeWork, tmp_path: Path
) -> None:
    work = make_work(WEIGHTED)
    other = work.frame.assign(copies=work.frame["copies"] + 1.0)
    names = {block_name(w, work.blocks[0]) for w in (work, replace(work, frame=other))}
    assert len(names) == 2
    write_outputs(work, {GOOD: 0.5})
    fit_cache = FitCache(tmp_path / "fit_cache")
    fit_cache.replace(
        [CachedFit(recipe=GOOD, learned={}, labels_until=AS_OF, **columns_of(work))],
        work,
        {(GOOD.id, 0)},
    )
    again = replace(work, scratch=tmp_path / "again")
    assert fit_cache.predict(again) == {(GOOD.id, 0): {}}
    assert fit_cache.predict(replace(again, problem=make_plain(work.problem))) == {}


# ---------------------------------------------------------------- fits


@pytest.mark.parametrize("half_life", [None, 0.25])
def test_a_fit_weighs_rows_by_the_user_times_their_age(half_life: float | None) -> None:
    ages, user = RNG.random(50), RNG.gamma(2, 1, 50)
    wanted = user * (1.0 if half_life is None else 0.5 ** (ages / half_life))
    assert recency_weights(ages, half_life, user) == pytest.approx(wanted / wanted.mean())


@pytest.mark.parametrize("asks", [True, False])
def test_early_stopping_knows_how_much_later_rows_count_if_it_asks(asks: bool) -> None:
    seen: dict[str, Any] = {}

    def with_later(
        m: Any, X: Any, y: Any, X_val: Any, y_val: Any, weights: Any, *, weights_val: Any
    ) -> Any:
        seen.update(weights=weights, later=weights_val)
        return {}

    def without(m: Any, X: Any, y: Any, X_val: Any, y_val: Any, weights: Any) -> Any:
        seen.update(weights=weights)
        return {}

    family = replace(load_family("linear", Path()), fit=with_later if asks else without)
    shape = Shape(rows=1000, columns=1, classes=0, task="regression")
    fit = Fit(
        tag=(0, 0),
        family="",
        recipe=Recipe("linear", {}),
        learned=None,
        shape=shape,
        data=Path(),
        output=Path(),
    )
    weights = np.arange(1000.0)

    _learn(family, fit, (np.zeros((1000, 1)), np.zeros(1000), weights), {})

    assert np.array_equal(seen["weights"], weights[:850])
    assert ("later" in seen) is asks
    if asks:
        assert np.array_equal(seen["later"], weights[850:])


def test_families_that_take_no_weights_are_named(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem(replace=WEIGHTED)
    families = {n: load_family(n, Path()) for n in ("linear", "mlp")}

    assert [w.partition(";")[0] for w in without_weights(problem, families)] == [
        "fits of mlp ignore history.weight 'copies'"
    ]
    assert without_weights(problem, {"linear": families["linear"]}) == []
    assert without_weights(make_plain(problem), families) == []


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("values", "code", "found"),
    [
        ([-1.0, -0.5], "bad_weight", "2 negative values in 2400 rows"),
        ([np.nan], "bad_weight", "1 missing or infinite values"),
        ([np.inf, -1.0], "bad_weight", "1 negative and 1 missing or infinite values"),
        ([0.0] * 2400, "no_weight", "0 in all 2400 rows"),
    ],
)
def test_weights_that_mean_nothing_are_refused(
    make_problem: Callable[..., Problem], values: list[float], code: str, found: str
) -> None:
    problem = make_problem(replace=WEIGHTED)
    weight = np.append(values, np.ones(2400 - len(values)))
    frame = make_world().assign(copies=weight)

    with pytest.raises(HistoryError, match=f"history.weight 'copies': found {found}") as caught:
        contracts.infer(frame, problem)

    assert caught.value.code == code
    assert caught.value.next_step
    good = frame.assign(copies=1.0)
    contract = contracts.infer(good, problem)
    with pytest.raises(HistoryError, match=r"history\.weight 'copies': found"):
        contracts.check(frame, contract, problem)


@pytest.mark.parametrize("value", ["null", "-2", "9e999"])
def test_a_pull_with_a_bad_weight_is_refused_before_any_model_is_touched(
    make_problem: Callable[..., Problem], value: str
) -> None:
    bad = f"select parcel, sent_at, weight, carrier, late, case when parcel = 7 then {value} else 1 end as copies"
    problem = make_problem(
        replace={**WEIGHTED, "select *": bad, '\nignore      = ["arrived_after"]': ""}
    )
    workspace = open_workspace(problem.file)

    with pytest.raises(HistoryError, match=r"found 1 (negative|missing or infinite) values"):
        retrain(problem, workspace, RunOptions(as_of=AS_OF))

    [cycle] = Store(workspace).cycles("parcels")
    assert (cycle.status, "run_id" in cycle.receipts) == ("refused", False)


def test_a_row_that_weighs_nothing_is_as_if_it_were_not_there(
    make_problem: Callable[..., Problem],
) -> None:
    problem = make_problem(replace=WEIGHTED)
    frame = make_world().assign(copies=2.0)
    frame.loc[frame["carrier"] == "bee", "copies"] = 0.0

    left = contracts.counted(frame, problem)

    assert set(left["carrier"]) == {"ant", "cat"}
    assert left.index.equals(pd.RangeIndex(len(left)))
    alone = contracts.infer(frame[frame["carrier"] != "bee"], problem)
    assert contracts.infer(frame, problem) == alone


# ---------------------------------------------------------------- guards


def test_a_model_of_a_sample_that_is_weighed_back_keeps_its_level() -> None:
    late = RNG.random(4000) < 0.1
    kept = late | (RNG.random(4000) < 0.1)  # one in ten of those on time, each for ten
    weight = np.where(late, 1.0, 10.0)[kept]
    output = np.clip(0.1 + RNG.normal(0, 0.02, kept.sum()), 0, 1)
    labels = np.array([0.09, 0.1, 0.11, 0.1, 0.105])

    assert mean_level(output, labels, weight).passed
    assert not mean_level(output + 0.4 * late[kept], labels).passed, (
        "most rows of the sample are late"
    )
    wanted = np.average(output, weights=weight)
    assert mean_level(output, labels, weight).found.startswith(f"{wanted:.4g}, labels 0.101")


def test_rows_that_hardly_count_do_not_speak_for_a_model() -> None:
    before = RNG.random(500)
    odd = np.arange(500) % 5 == 0
    after = np.where(odd, 1 - before, before + 0.001)
    weight = np.where(odd, 1e-9, 1.0)

    assert drift(before, after).found != drift(before, after, weight).found
    assert drift(before, after, weight).found == "PSI 0.00"
    assert agreement(before, after, weight).found == "correlation 1.00"


def test_equal_weights_change_no_correlation_and_no_level() -> None:
    before, after = RNG.random(200), RNG.random(200)
    copies = RNG.integers(1, 4, 200)
    twice = agreement(repeated(before, copies), repeated(after, copies)).found
    assert agreement(before, after, copies.astype(float)).found == twice
    labels = np.array([0.4, 0.5, 0.6, 0.5])
    assert mean_level(after, labels, np.full(200, 3.0)) == mean_level(after, labels)


def test_gains_of_slices_count_the_rows_by_weight() -> None:
    truth = RNG.normal(size=100)
    heavy = np.arange(100) < 50
    champion, challenger = truth + 1.0, truth + np.where(heavy, 0.5, 2.0)
    columns = [pd.DataFrame({"carrier": ["UA"] * 100})]
    weight = np.where(heavy, 1.0, 1e-12)

    [carriers] = slice_gains(
        columns, [(truth, champion, weight)], [(truth, challenger, weight)], get_metric("mae")
    )

    assert carriers.gains == pytest.approx([0.5])


def test_a_model_is_compared_on_weighted_labels(make_work: MakeWork) -> None:
    work = make_work(WEIGHTED)
    against = compare(work, Blend.single(GOOD), None)
    newest, copies = work.frame.iloc[work.blocks[0].validation], work.frame["copies"].to_numpy()
    weight = newest["copies"].to_numpy()

    assert against.weight is not None
    assert against.labels is not None
    assert np.array_equal(against.weight, copies[work.blocks[0].validation])
    share = repeated(newest["late"].to_numpy("float64"), weight).mean()
    assert against.labels[0] == pytest.approx([1 - share, share])


# ---------------------------------------------------------------- predictions that were published


def test_published_predictions_are_scored_by_weight(
    make_problem: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem(replace={**WEIGHTED, **ALSO})
    labelled = make_world().assign(copies=RNG.integers(0, 4, 2400).astype(float)).head(300)
    chance = RNG.random(300)
    published = labelled[["parcel", "sent_at"]].assign(probability=chance)
    monkeypatch.setattr(realised.predictions, "read_generation", lambda *_: published)
    contract = Contract(features={}, classes=(0, 1))

    generation = make_generation(rows=300)
    scores, rows = realised.score_published(None, problem, contract, generation, labelled)  # type: ignore[arg-type]

    assert rows == 300
    truth = repeated(labelled["late"].to_numpy("float64"), labelled["copies"].to_numpy())
    expanded = repeated(chance, labelled["copies"].to_numpy())
    wanted = {
        name: get_metric(name).score(truth, np.column_stack([1 - expanded, expanded]))
        for name in ("roc_auc", "log_loss")
    }
    assert scores == pytest.approx(wanted)
