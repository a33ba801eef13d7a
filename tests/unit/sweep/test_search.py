"""A sweep ends in time with a leaderboard and the reason it stopped, whatever its trials do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automl.modeling.recipes import Blend, Member, Recipe
from automl.problem import Problem
from automl.sweep import (
    Leaderboard,
    Plan,
    Trial,
    Work,
    sweep,
)
from automl.sweep.search import BUDGET_ENDED
from tests.support.failing_family import HOWS, write_failing_family
from tests.support.sweep_work import make_work as make_work  # a fixture

MakeProblem = Callable[..., Problem]


def numbers(leaderboard: Leaderboard) -> list[Any]:
    """A leaderboard as numbers that must be equal when nothing has changed."""
    return [
        (t.number, t.recipe, t.source, t.status, t.losses, t.reason) for t in leaderboard.trials
    ]


# ---------------------------------------------------------------- never down


def test_every_failure_is_a_failed_trial_with_its_reason(
    make_work: Callable[..., Work], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hows = [how for how in HOWS if how != "sleeps"]  # without a budget a fit may take long
    entry = write_failing_family(tmp_path, *hows)
    work = make_work({'"linear"]': f'"linear", "{entry}"]', "trials   = 4": "trials   = 12"})
    with caplog.at_level(logging.WARNING):
        leaderboard = sweep(work, deadline=float("inf"))
    failed = {t.recipe.params["how"]: t.reason for t in leaderboard.trials if t.status == "failed"}
    assert set(failed) == set(hows)
    for how, reason in failed.items():
        assert HOWS[how] in reason
    assert all(HOWS[how] in caplog.text for how in hows)  # a failing start point is logged
    others = [t for t in leaderboard.trials if t.recipe.family != "failing"]
    assert {t.status for t in others} <= {"complete", "pruned"}
    assert leaderboard.challenger is not None
    assert "failing" not in leaderboard.challenger.families


def test_a_fit_that_hangs_ends_with_the_budget_and_there_is_a_leaderboard(
    make_work: Callable[..., Work], tmp_path: Path
) -> None:
    entry = write_failing_family(tmp_path, "sleeps")
    edits = {'"linear"]': f'"linear", "{entry}"]', "trials   = 4": 'budget   = "10s"'}
    work, started = make_work(edits), time.monotonic()
    leaderboard = sweep(work, deadline=started + 6)
    assert time.monotonic() - started <= 6 + 2
    hung = next(t for t in leaderboard.trials if t.recipe.family == "failing")
    assert hung.status == "failed"
    assert hung.reason.startswith("out of time after")
    assert leaderboard.challenger is not None


def test_without_one_good_trial_there_is_no_challenger_but_a_reason_each(
    make_work: Callable[..., Work], tmp_path: Path
) -> None:
    entry = write_failing_family(tmp_path, "raises", "exits")
    work = make_work({'["baseline", "linear"]': f'["{entry}"]'})
    leaderboard = sweep(work, deadline=float("inf"))
    assert leaderboard.challenger is leaderboard.reference is None
    assert leaderboard.stopped == "nothing left"
    assert [t.status for t in leaderboard.trials] == ["failed", "failed"]


def test_a_killed_sweep_resumes_from_reported_trials(
    make_work: Callable[..., Work],
) -> None:
    ended: list[Trial] = []
    whole = sweep(make_work(), deadline=float("inf"), on_trial=ended.append)
    half = ended[:2]
    again: list[Trial] = []
    leaderboard = sweep(make_work(), deadline=float("inf"), done=half, on_trial=again.append)
    assert numbers(leaderboard) == numbers(whole)
    assert {t.recipe.id for t in again} == {t.recipe.id for t in ended[2:]}


# ---------------------------------------------------------------- the same again


def test_n_trials_with_two_workers_give_the_same_leaderboard_twice(
    make_work: Callable[..., Work],
) -> None:
    edits = {
        '"linear"]': '"linear", "lightgbm", "mlp"]',
        "trials   = 4": "trials   = 18",
    }
    leaderboards = [
        sweep(make_work(edits, scratch=s), deadline=float("inf")) for s in ("one", "two")
    ]
    assert numbers(leaderboards[0]) == numbers(leaderboards[1])
    assert leaderboards[0].challenger == leaderboards[1].challenger
    assert len(leaderboards[0].trials) == 18
    assert leaderboards[0].stopped == "trials"
    assert {t.source for t in leaderboards[0].trials} == {"start", "search"}


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
    entry = write_failing_family(tmp_path, "sleeps")
    edits = {'"linear"]': f'"{entry}"]', "trials   = 4": 'budget   = "10s"'}
    leaderboard = sweep(make_work(edits), deadline=time.monotonic() + 4)
    stopped = next(t for t in leaderboard.trials if t.recipe.params == {"how": "sleeps"})
    assert leaderboard.stopped == "time"
    # the second, if it has run longer than any refit may
    assert stopped.reason == BUDGET_ENDED or stopped.reason.startswith("out of time")
    assert stopped.seconds > 0.5
    assert leaderboard.fit_seconds == pytest.approx(sum(t.seconds for t in leaderboard.trials))


def test_few_rows_allow_few_configurations(make_work: Callable[..., Work]) -> None:
    edits = {"trials   = 4": 'budget   = "60s"', 'block   = "7d"': 'block   = "21d"'}
    leaderboard = sweep(make_work(edits), deadline=time.monotonic() + 60)
    assert leaderboard.stopped in ("configurations", "nothing more to be gained")
    assert len(leaderboard.trials) <= 15


# ---------------------------------------------------------------- what is carried on


def test_a_warm_plan_tries_what_is_carried_and_a_few_more(make_work: Callable[..., Work]) -> None:
    work = make_work({"trials   = 4": "trials   = 40"})
    champion = Blend((Member(Recipe("linear", {"C": 2.0}, 3), 1.0, {}),))
    live = (champion.members[0].recipe, Recipe("linear", {"C": 0.5}, 3))  # the first once only
    plan = Plan(kind="warm", live=live, challengers=3)
    leaderboard = sweep(work, deadline=float("inf"), carried=[champion], plan=plan)
    sources = [t.source for t in leaderboard.trials]
    assert sources == ["start", "carried", "live", "search", "search", "search"]
    assert leaderboard.stopped == "plan"


def test_a_family_too_slow_to_refit_is_skipped_with_a_warning(
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
    assert "Skipping slow: one refit needs about" in caplog.text
    assert sum(t.recipe.family == "slow" for t in leaderboard.trials) == 1
    assert leaderboard.challenger is not None
    assert "slow" not in leaderboard.challenger.families
