"""A release is refitted on everything; a member that fails then leaves the others, and only all failing fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from automl.blocks import make_blocks
from automl.contract import infer
from automl.ensemble import assemble
from automl.errors import AutomlError
from automl.history import pull, read
from automl.problem import Problem, load_problem
from automl.spaces import Blend, Member, Recipe, load_families
from automl.sweep import Plan, Refits, Refitted, Work, sweep
from automl.workspace import open_workspace
from tests.conftest import AS_OF, write_problem
from tests.troubles import write_troubled

MakeProblem = Callable[..., Problem]
ONLY_LIGHTGBM = {'["baseline", "linear"]': '["baseline", "lightgbm"]'}
GOOD = Recipe("linear", {"C": 1.0}, 0)


@pytest.fixture
def work(make_problem: MakeProblem, tmp_path: Path) -> Work:
    """A sweep's work on the made-up world, with a family that fails when told."""
    entry = write_troubled(tmp_path, "")
    problem = make_problem(replace={'"linear"]': f'"linear", "{entry}"]'})
    frame = read(pull(problem, open_workspace(problem.file), AS_OF))
    return Work(
        problem,
        infer(frame, problem),
        load_families(problem.sweep.families, tmp_path),
        frame,
        make_blocks(frame, problem, AS_OF),
        tmp_path / "scratch",
        workers=2,
    )


def refit(
    work: Work, blend: Blend, seconds: float = 60, costs: Mapping[str, float] | None = None
) -> Refitted:
    """The blend fitted on everything."""
    with Refits(work) as refits:
        return refits.fit(blend, time.monotonic() + seconds, costs or {})


def bad(how: str) -> Recipe:
    """A recipe whose refit goes wrong."""
    return Recipe("troubled", {"how": how}, 0)


@pytest.mark.parametrize(("how", "told"), [("raises", "not today"), ("sleeps", "out of time")])
def test_a_member_that_fails_leaves_its_weight_to_the_others(
    work: Work, how: str, told: str
) -> None:
    blend = Blend((Member(GOOD, 0.5, {}), Member(bad(how), 0.25, {}), Member(bad(""), 0.25, {})))
    done = refit(work, blend, 12)
    assert [(m.recipe, m.weight) for m in done.blend.members] == [
        (GOOD, pytest.approx(2 / 3, abs=1e-5)),
        (bad(""), pytest.approx(1 / 3, abs=1e-5)),
    ]
    assert [(name, weight) for name, weight, _, _ in done.parts] == [
        ("0-linear", done.blend.members[0].weight),
        ("2-troubled", done.blend.members[1].weight),
    ]
    assert list(done.lost) == [bad(how).id]
    assert told in done.lost[bad(how).id]
    assert done.rows == len(work.frame)


def test_a_whole_blend_stays_as_it_was_decided(work: Work) -> None:
    blend = Blend((Member(GOOD, 0.6, {}), Member(bad(""), 0.4, {})))
    done = refit(work, blend)
    assert done.blend is blend
    assert not done.lost


def test_a_recipe_with_a_trend_follows_a_level_that_moved(
    tmp_path: Path, world: pd.DataFrame
) -> None:
    moved = world.assign(hours=world["hours"] + 100 * (world["sent_at"] >= world["sent_at"][1600]))
    file = write_problem(tmp_path, "regression", frame=moved, replace=ONLY_LIGHTGBM)
    problem = load_problem(file)
    frame = read(pull(problem, open_workspace(file), AS_OF))
    families = load_families(problem.sweep.families, tmp_path)
    blocks = make_blocks(frame, problem, AS_OF)[:1]
    work = Work(
        problem, infer(frame, problem), families, frame, blocks, tmp_path / "scratch", workers=2
    )
    plain = Recipe("lightgbm", {"n_estimators": 60, "learning_rate": 0.2}, 0)
    trend = replace(plain, trend=True)
    board = sweep(
        work, deadline=float("inf"), plan=Plan("warm", live=(plain, trend), challengers=0)
    )
    losses = {t.recipe: t.loss for t in board.trials}
    assert losses[trend] < losses[plain] / 2
    done = refit(work, Blend((Member(plain, 0.5), Member(trend, 0.5))))
    model = assemble(done.parts, work.contract, list(work.contract.features))
    last = frame[list(work.contract.features)].tail(50)
    later = last.assign(sent_at=last["sent_at"] + pd.Timedelta(days=3650))
    plain_mean, trend_mean = (float(part.predict(later).mean()) for part in model.estimators_)
    truth = float(frame["hours"].tail(50).mean())
    assert abs(trend_mean - truth) < 15 < abs(plain_mean - truth)  # the newest level still holds


def test_a_refit_without_any_member_left_fails_and_says_why(work: Work) -> None:
    with pytest.raises(AutomlError, match=r"refit of troubled failed: .*not today") as caught:
        refit(work, Blend((Member(bad("raises"), 1.0, {}),)))
    assert caught.value.code == "refit_failed"


def test_rows_are_thinned_when_the_estimate_does_not_fit_the_time(work: Work) -> None:
    done = refit(work, Blend((Member(GOOD, 1.0, {}),)), 10, {GOOD.id: 60.0})
    assert 1000 <= done.rows < len(work.frame)
