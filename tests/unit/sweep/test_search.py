"""A sweep ends in time with an answer, says why it stopped, and nothing a trial does brings it down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl.history import pull, read
from automl.history.contract import infer
from automl.modeling.families import load_families
from automl.modeling.features.matrices import to_outcomes
from automl.modeling.recipes import Blend, Member, Recipe
from automl.modeling.splits import make_blocks
from automl.problem import Problem
from automl.sweep import (
    Leaderboard,
    Plan,
    Trial,
    Work,
    baseline_losses,
    blend_losses,
    output_file,
    reweighed,
    sweep,
)
from automl.sweep.blending import (
    MEMBER_MARGIN,
    TREND_MARGIN,
    TREND_SHARE,
    Answer,
    least_losses,
)
from automl.sweep.leaderboard import means
from automl.sweep.proposals import Asked, Proposals
from automl.sweep.search import BUDGET_ENDED
from automl.workspace import open_workspace
from tests.support.failing_family import HOWS, write_troubled
from tests.support.parcels import AS_OF
from tests.support.sweep_work import make_work as make_work  # a fixture
from tests.support.sweep_work import say

MakeProblem = Callable[..., Problem]


def told(leaderboard: Leaderboard) -> list[Any]:
    """A leaderboard as numbers that must be equal when nothing has changed."""
    return [
        (t.number, t.recipe, t.source, t.status, t.losses, t.reason) for t in leaderboard.trials
    ]


# ---------------------------------------------------------------- never down


def test_every_way_to_go_wrong_is_a_failed_trial_with_its_reason(
    make_work: Callable[..., Work], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hows = [how for how in HOWS if how != "sleeps"]  # without a budget a fit may take long
    entry = write_troubled(tmp_path, *hows)
    work = make_work({'"linear"]': f'"linear", "{entry}"]', "trials   = 4": "trials   = 12"})
    with caplog.at_level(logging.WARNING):
        leaderboard = sweep(work, deadline=float("inf"))
    failed = {t.recipe.params["how"]: t.reason for t in leaderboard.trials if t.status == "failed"}
    assert set(failed) == set(hows)
    for how, reason in failed.items():
        assert HOWS[how] in reason
    assert all(HOWS[how] in caplog.text for how in hows)  # a start point that fails is said aloud
    others = [t for t in leaderboard.trials if t.recipe.family != "troubled"]
    assert {t.status for t in others} <= {"complete", "pruned"}
    assert leaderboard.challenger is not None
    assert "troubled" not in leaderboard.challenger.families


def test_a_fit_that_hangs_ends_with_the_budget_and_the_answer_is_there(
    make_work: Callable[..., Work], tmp_path: Path
) -> None:
    entry = write_troubled(tmp_path, "sleeps")
    edits = {'"linear"]': f'"linear", "{entry}"]', "trials   = 4": 'budget   = "10s"'}
    work, started = make_work(edits), time.monotonic()
    leaderboard = sweep(work, deadline=started + 6)
    assert time.monotonic() - started <= 6 + 2
    hung = next(t for t in leaderboard.trials if t.recipe.family == "troubled")
    assert hung.reason == "the budget ended"
    assert leaderboard.challenger is not None


def test_without_one_good_trial_there_is_no_challenger_but_a_reason_each(
    make_work: Callable[..., Work], tmp_path: Path
) -> None:
    entry = write_troubled(tmp_path, "raises", "exits")
    work = make_work({'["baseline", "linear"]': f'["{entry}"]'})
    leaderboard = sweep(work, deadline=float("inf"))
    assert leaderboard.challenger is leaderboard.reference is None
    assert leaderboard.stopped == "nothing left"
    assert [t.status for t in leaderboard.trials] == ["failed", "failed"]


def test_a_killed_sweep_goes_on_with_the_trials_that_were_told(
    make_work: Callable[..., Work],
) -> None:
    heard: list[Trial] = []
    whole = sweep(make_work(), deadline=float("inf"), on_trial=heard.append)
    half = heard[:2]
    again: list[Trial] = []
    leaderboard = sweep(make_work(), deadline=float("inf"), done=half, on_trial=again.append)
    assert told(leaderboard) == told(whole)
    assert {t.recipe.id for t in again} == {t.recipe.id for t in heard[2:]}


# ---------------------------------------------------------------- the same again


def test_n_trials_with_two_workers_give_the_same_leaderboard_twice(
    make_work: Callable[..., Work],
) -> None:
    edits = {
        '"linear"]': '"linear", "lightgbm", "mlp"]',
        "trials   = 4": "trials   = 18",
    }
    boards = [sweep(make_work(edits, scratch=s), deadline=float("inf")) for s in ("one", "two")]
    assert told(boards[0]) == told(boards[1])
    assert boards[0].challenger == boards[1].challenger
    assert len(boards[0].trials) == 18
    assert boards[0].stopped == "trials"
    assert {t.source for t in boards[0].trials} == {"start", "search"}


# ---------------------------------------------------------------- stopping


def test_a_small_budget_ends_in_time_and_time_in_fits_is_counted(
    make_work: Callable[..., Work],
) -> None:
    edits = {'"linear"]': '"linear", "extra_trees"]', "trials   = 4": 'budget   = "10s"'}
    work, started = make_work(edits), time.monotonic()
    leaderboard = sweep(work, deadline=started + 5)
    assert time.monotonic() - started <= 5 + 2
    assert leaderboard.stopped in ("time", "configurations", "nothing more to be gained")
    assert 0 < leaderboard.fit_seconds <= 2 * leaderboard.seconds
    assert leaderboard.encode_seconds > 0
    # a matrix at work holds a core, as a fit does
    assert leaderboard.fit_seconds + leaderboard.encode_seconds <= 2 * leaderboard.seconds
    assert sum(t.seconds for t in leaderboard.trials) == pytest.approx(
        leaderboard.fit_seconds, abs=0.5
    )


def test_a_fit_that_the_end_of_the_budget_stops_has_cost_what_it_took(
    make_work: Callable[..., Work], tmp_path: Path
) -> None:
    entry = write_troubled(tmp_path, "sleeps")
    edits = {'"linear"]': f'"{entry}"]', "trials   = 4": 'budget   = "10s"'}
    leaderboard = sweep(make_work(edits), deadline=time.monotonic() + 4)
    stopped = next(t for t in leaderboard.trials if t.recipe.params == {"how": "sleeps"})
    assert (leaderboard.stopped, stopped.reason) == ("time", BUDGET_ENDED)
    assert stopped.seconds > 0.5
    assert leaderboard.fit_seconds == pytest.approx(sum(t.seconds for t in leaderboard.trials))


def test_few_rows_allow_few_configurations(make_work: Callable[..., Work]) -> None:
    edits = {"trials   = 4": 'budget   = "60s"', 'block   = "7d"': 'block   = "21d"'}
    leaderboard = sweep(make_work(edits), deadline=time.monotonic() + 60)
    assert leaderboard.stopped in ("configurations", "nothing more to be gained")
    assert len(leaderboard.trials) <= 15


def proposals(work: Work, losses: list[float], **plan: Any) -> Proposals:
    """Proposals that were told of search trials with these losses, in order."""
    asked = Proposals(work, Plan(**plan), (), lambda _: None)  # type: ignore[arg-type,return-value]
    for i, loss in enumerate(losses):
        recipe = Recipe("linear", {"C": 1.0 + i}, 0)
        pair = (loss, loss * (1 + 0.001 * (i % 3)))
        trial = Trial(i, recipe, "search", "complete", pair, pair)
        asked.tell(Asked(recipe, "search"), trial)
    return asked


def test_a_search_that_gains_nothing_any_more_is_still(make_work: Callable[..., Work]) -> None:
    work = make_work()
    flat = [1.0] * 80
    falling = [1.0 - 0.01 * i for i in range(80)]
    assert proposals(work, flat).still
    assert not proposals(work, falling).still
    assert not proposals(work, flat[:10]).still


# ---------------------------------------------------------------- what is carried on


def test_a_warm_plan_tries_what_is_carried_and_a_few_more(make_work: Callable[..., Work]) -> None:
    work = make_work({"trials   = 4": "trials   = 40"})
    champion = Blend((Member(Recipe("linear", {"C": 2.0}, 3), 1.0, {}),))
    live = (champion.members[0].recipe, Recipe("linear", {"C": 0.5}, 3))  # the first once only
    plan = Plan("warm", live=live, challengers=3)
    leaderboard = sweep(work, deadline=float("inf"), carried=[champion], plan=plan)
    sources = [t.source for t in leaderboard.trials]
    assert sources == ["start", "carried", "live", "search", "search", "search"]
    assert leaderboard.stopped == "plan"


def test_families_that_won_before_start_first(make_work: Callable[..., Work]) -> None:
    work = make_work({'"linear"]': '"linear", "lightgbm", "mlp"]'})
    order = Proposals(work, Plan(favour=("mlp", "lightgbm", "linear")), (), lambda _: None)  # type: ignore[arg-type,return-value]
    families = list(dict.fromkeys(r.family for r, _ in order.queue))
    assert families == ["baseline", "mlp", "lightgbm", "linear"]
    plain = Proposals(work, Plan(), (), lambda _: None)  # type: ignore[arg-type,return-value]
    assert [r.family for r, _ in plain.queue][:3] == ["baseline", "lightgbm", "linear"]


def test_start_points_bring_their_recency(make_work: Callable[..., Work]) -> None:
    work = make_work({'"linear"]': '"lightgbm"]'})
    found = {(r.half_life, r.recent) for r, _ in Proposals(work, Plan(), (), lambda _: None).queue}  # type: ignore[arg-type,return-value]
    assert found >= {(None, 0.0), (0.5, 0.0), (None, 0.2)}
    assert all(
        "half_life" not in r.params for r, _ in Proposals(work, Plan(), (), lambda _: None).queue
    )  # type: ignore[arg-type,return-value]


def test_a_family_too_slow_to_refit_is_skipped_aloud(
    make_work: Callable[..., Work], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "slow.py").write_text(
        '''"""Slow: sleeps while it fits."""
import time
from sklearn.linear_model import LogisticRegression
from automl import Family

class Slow(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        time.sleep(3)
        return super().fit(X, y, sample_weight)

family = Family(name="slow", short="slow", tasks={"binary"}, encoding="dense",
                start=[(1, {"C": 1.0})],
                space=lambda trial, shape: {"C": trial.suggest_float("C", 0.1, 1.0)},
                build=lambda params, shape, seed: Slow(**params))
''',
        encoding="utf-8",
    )
    work = make_work({'"linear"]': '"linear", "./slow.py"]', "trials   = 4": 'budget   = "12s"'})
    with caplog.at_level(logging.WARNING):
        leaderboard = sweep(work, deadline=time.monotonic() + 12)
    assert "no more of slow is tried: one refit would take about" in caplog.text
    assert sum(t.recipe.family == "slow" for t in leaderboard.trials) == 1
    assert leaderboard.challenger is not None
    assert "slow" not in leaderboard.challenger.families


def answered(work: Work, noises: dict[Recipe, float], source: str = "start") -> list[Trial]:
    """Complete trials whose outputs are the truth and so much noise."""
    outcomes = to_outcomes(work.frame["late"], work.contract)
    (work.scratch / "outputs").mkdir(parents=True, exist_ok=True)
    rng, trials = np.random.default_rng(0), []
    for number, (recipe, noise) in enumerate(noises.items()):
        losses = []
        for b, block in enumerate(work.blocks):
            truth = outcomes[block.validation]
            said = truth + rng.normal(0, noise, len(truth))
            output = np.column_stack([-said, said])
            np.save(output_file(work, recipe, b), output)
            losses.append(work.metric.loss(work.metric.score(truth, output)))
        told = tuple(losses)
        trials.append(Trial(number, recipe, source, "complete", told, tuple(1 - x for x in told)))
    return trials


def answer(work: Work) -> Answer:
    """What a sweep without a budget would make of trials."""
    outcomes = to_outcomes(work.frame["late"], work.contract)
    truth = [outcomes[block.validation] for block in work.blocks]
    least = least_losses(work)
    weights = [np.ones(len(y)) for y in truth]
    return Answer(
        work, truth, weights, least, lambda _: 0, lambda _: True, float("inf"), float("inf")
    )


def seeing(i: int, *, trend: bool = True) -> Recipe:
    """A recipe of trees, with the time or without."""
    return Recipe("lightgbm", {"num_leaves": i}, trend=trend)


@pytest.mark.parametrize("of", ["reference", "challenger"])
def test_less_than_half_of_a_blend_sees_the_time_if_others_come_near(
    make_work: Callable[..., Work], of: str
) -> None:
    work = make_work({})
    noises = {seeing(i): 0.5 for i in range(5)} | {
        seeing(i, trend=False): 0.52 for i in range(9, 12)
    }
    trials = answered(work, noises)
    told = answer(work)
    blend = told.reference(trials) if of == "reference" else told.challenger(trials, None)
    assert blend is not None
    assert len(blend.members) <= 5
    assert sum(m.weight for m in blend.members) == pytest.approx(1, abs=1e-5)
    assert sum(m.weight for m in blend.members if m.recipe.trend) <= TREND_SHARE + 1e-6


@pytest.mark.parametrize("of", ["reference", "challenger"])
def test_who_sees_the_time_and_is_behind_the_others_has_no_say(
    make_work: Callable[..., Work], of: str
) -> None:
    work = make_work({})
    behind = {seeing(i): 0.525 for i in range(3)}
    trials = answered(work, behind | {seeing(9, trend=False): 0.5})
    told = answer(work)
    ahead = min(map(told._level, trials[:3])) / told._level(trials[3])
    assert 1 + TREND_MARGIN < ahead < 1 + MEMBER_MARGIN, "near enough, if it did not see the time"
    blend = told.reference(trials) if of == "reference" else told.challenger(trials, None)
    assert blend is not None
    assert [m.recipe for m in blend.members] == [trials[3].recipe]


def test_a_hedge_costs_no_more_than_the_refits_may(make_work: Callable[..., Work]) -> None:
    work = make_work({})
    noises = {seeing(i): 0.5 for i in range(3)} | {seeing(9, trend=False): 0.52}
    trials = [replace(t, seconds_refit=1.0) for t in answered(work, noises)]
    blend = replace(answer(work), seconds=3.0).challenger(trials[:3], None)
    assert blend is not None
    count = len(blend.members)
    for seconds, hedged in ((count + 0.9, False), (count + 1.0, True)):
        told = replace(answer(work), seconds=seconds)._hedged(
            {m.recipe.id: m.weight for m in blend.members}, {t.recipe.id: t for t in trials}
        )
        assert (trials[3].recipe.id in told) == hedged


def test_who_sees_the_time_stays_alone_where_nobody_else_comes_near(
    make_work: Callable[..., Work],
) -> None:
    work = make_work({})
    trials = answered(work, {seeing(i): 0.5 for i in range(5)} | {seeing(9, trend=False): 3.0})
    blend = answer(work).reference(trials)
    assert blend is not None
    assert all(m.recipe.trend for m in blend.members)


def test_what_stands_in_for_a_champion_is_made_of_start_points(
    make_work: Callable[..., Work],
) -> None:
    work = make_work({})
    starts = answered(work, {Recipe("linear", {"C": float(i)}): 0.8 for i in range(1, 5)})
    found = answered(work, {Recipe("linear", {"C": float(i)}): 0.4 for i in range(5, 8)}, "search")
    blend = answer(work).reference([*starts, *found])
    assert blend is not None
    assert {m.recipe for m in blend.members} <= {t.recipe for t in starts}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_floor_is_what_the_baseline_says_without_a_fit(
    make_problem: MakeProblem, tmp_path: Path, task: str
) -> None:
    problem = make_problem(task)
    frame = read(pull(problem, open_workspace(problem.file), AS_OF))
    families = load_families(problem.sweep.families, tmp_path)
    blocks = make_blocks(frame, problem, AS_OF)
    work = Work(problem, infer(frame, problem), families, frame, blocks, tmp_path / "s", workers=2)
    leaderboard = sweep(work, deadline=float("inf"), plan=Plan("warm", challengers=0))
    baseline = next(t for t in leaderboard.trials if t.recipe.family == "baseline")
    assert baseline_losses(work) == pytest.approx(list(baseline.losses), rel=1e-6)


def test_weights_are_learned_from_the_blocks_and_nobody_is_lost(
    make_work: Callable[..., Work],
) -> None:
    work = make_work({})
    wise, fool = Recipe("linear", {"C": 1.0}), Recipe("linear", {"C": 2.0})
    say(work, {wise: 0.3, fool: 3.0})
    blend = Blend((Member(fool, 0.9), Member(wise, 0.1)))

    found = reweighed(work, blend)

    assert found.id == blend.id
    assert [m.recipe for m in found.members] == [fool, wise]
    assert found.members[0].weight == pytest.approx(0.02, abs=0.001), (
        "far behind: its old weight says nothing"
    )
    assert sum(m.weight for m in found.members) == pytest.approx(1)
    assert sum(blend_losses(work, found)) < sum(blend_losses(work, blend))
    one_class = work.frame.assign(late=work.frame["late"].iloc[0])
    assert reweighed(replace(work, frame=one_class), blend) == blend, "no metric, nothing to learn"
    output_file(work, fool, 0).unlink()
    assert reweighed(work, blend) == blend, "without all answers nothing is learned"


def test_weights_are_learned_from_the_newest_blocks_of_a_search_that_looks_further_back(
    make_work: Callable[..., Work],
) -> None:
    work = make_work({})
    further = replace(work, blocks=[*work.blocks, work.blocks[-1]])
    better, worse = Recipe("linear", {"C": 1.0}), Recipe("linear", {"C": 2.0})
    say(further, {better: 0.70, worse: 0.75})
    say(further, {better: 9.0, worse: 0.1}, since=2)
    blend = Blend((Member(better, 0.5), Member(worse, 0.5)))
    assert len(work.blocks) == 2
    assert reweighed(further, blend) == reweighed(work, blend) != blend


@pytest.mark.parametrize(
    ("seen", "plain", "weight"),
    [
        pytest.param(0.70, 0.71, TREND_SHARE, id="others are near"),
        pytest.param(0.70, 3.00, 0.98, id="others are far behind"),
        pytest.param(0.71, 0.70, 2.7 / 15, id="a little behind: its old votes count"),
        pytest.param(0.80, 0.70, 0.02, id="behind the others"),
    ],
)
def test_weights_learned_again_are_hedged_against_a_turn_of_the_world(
    make_work: Callable[..., Work], seen: float, plain: float, weight: float
) -> None:
    work = make_work({})
    other, seeing = Recipe("lightgbm", {}), Recipe("lightgbm", {}, trend=True)
    say(work, {seeing: seen, other: plain})
    found = reweighed(work, Blend((Member(seeing, 0.9), Member(other, 0.1))))
    assert found.members[0].weight == pytest.approx(weight, abs=0.002)


def test_a_further_metric_without_a_value_on_a_block_is_left_out() -> None:
    rows = [{"mae": 1.0, "mape": 0.1}, {"mae": 2.0, "mape": float("nan")}]
    assert means(rows) == {"mae": pytest.approx((1 + 0.85 * 2) / 1.85)}
    assert means([]) == {}
