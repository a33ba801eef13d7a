"""A release is refitted on everything; a member that fails then leaves the others, and only all failing fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from automl.errors import AutomlError
from automl.history import pull, read
from automl.history.contract import infer
from automl.modeling.ensemble import assemble
from automl.modeling.families import load_families
from automl.modeling.recipes import Blend, Member, Recipe
from automl.modeling.splits import make_blocks
from automl.modeling.training import Fit, FitResult, Pool
from automl.problem import Problem, load_problem
from automl.sweep import Plan, Refits, Refitted, Work, sweep
from automl.sweep.refit import share_in_time
from automl.workspace import open_workspace
from tests.support.failing_family import write_failing_family
from tests.support.parcels import AS_OF, write_problem

MakeProblem = Callable[..., Problem]
ONLY_LIGHTGBM = {'["baseline", "linear"]': '["baseline", "lightgbm"]'}
GOOD = Recipe("linear", {"C": 1.0}, 0)


@pytest.fixture
def work(make_problem: MakeProblem, tmp_path: Path) -> Work:
    """A sweep's work on the synthetic world, with a family that fails on demand."""
    entry = write_failing_family(tmp_path, "")
    problem = make_problem(replace={'"linear"]': f'"linear", "{entry}"]'})
    frame = read(pull(problem, open_workspace(problem.file), AS_OF))
    return Work(
        problem=problem,
        contract=infer(frame, problem),
        families=load_families(problem.sweep.families, tmp_path),
        frame=frame,
        blocks=make_blocks(frame, problem, AS_OF),
        scratch=tmp_path / "scratch",
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
    return Recipe("failing", {"how": how}, 0)


def test_a_release_codes_categories_by_what_its_next_block_will_know(work: Work) -> None:
    ((_, _, encoder, _),) = refit(work, Blend.single(GOOD)).parts
    assert encoder.named_transformers_["codes"].block == len(work.blocks[0].validation) > 0


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("raises", "not today"),
        pytest.param("sleeps", "out of time", marks=pytest.mark.slow),  # waits for its whole budget
    ],
)
def test_a_member_that_fails_leaves_its_weight_to_the_others(
    work: Work, how: str, error: str
) -> None:
    blend = Blend((Member(GOOD, 0.5, {}), Member(bad(how), 0.25, {}), Member(bad(""), 0.25, {})))
    done = refit(work, blend, 12)
    assert [(m.recipe, m.weight) for m in done.blend.members] == [
        (GOOD, pytest.approx(2 / 3, abs=1e-5)),
        (bad(""), pytest.approx(1 / 3, abs=1e-5)),
    ]
    assert [(name, weight) for name, weight, _, _ in done.parts] == [
        ("0-linear", done.blend.members[0].weight),
        ("2-failing", done.blend.members[1].weight),
    ]
    assert list(done.lost) == [bad(how).id]
    assert error in done.lost[bad(how).id]
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
        problem=problem,
        contract=infer(frame, problem),
        families=families,
        frame=frame,
        blocks=blocks,
        scratch=tmp_path / "scratch",
        workers=2,
    )
    plain = Recipe("lightgbm", {"n_estimators": 60, "learning_rate": 0.2}, 0)
    trend = replace(plain, trend=True)
    leaderboard = sweep(
        work, deadline=float("inf"), plan=Plan(kind="warm", live=(plain, trend), challengers=0)
    )
    losses = {t.recipe: t.loss for t in leaderboard.trials}
    assert losses[trend] < losses[plain] / 2
    done = refit(work, Blend((Member(plain, 0.5), Member(trend, 0.5))))
    model = assemble(done.parts, work.contract, list(work.contract.features))
    last = frame[list(work.contract.features)].tail(50)
    later = last.assign(sent_at=last["sent_at"] + pd.Timedelta(days=3650))
    plain_mean, trend_mean = (float(part.predict(later).mean()) for part in model.estimators_)
    truth = float(frame["hours"].tail(50).mean())
    assert abs(trend_mean - truth) < 15 < abs(plain_mean - truth)  # the newest level still holds


def test_a_refit_without_any_member_left_fails_and_says_why(work: Work) -> None:
    with pytest.raises(AutomlError, match=r"refit of failing failed: .*not today") as caught:
        refit(work, Blend((Member(bad("raises"), 1.0, {}),)))
    assert caught.value.code == "refit_failed"


def test_rows_are_thinned_when_the_estimate_does_not_fit_the_time(work: Work) -> None:
    done = refit(work, Blend((Member(GOOD, 1.0, {}),)), 10, {GOOD.id: 60.0})
    assert 1000 <= done.rows < len(work.frame)


# ---------------------------------------------------------------- started before the decision


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """Refits that were started, in order."""
    fits: list[Fit] = []
    start = Pool.start

    def record(self: Pool, fit: Fit, limit: float) -> None:
        if fit.refit:
            fits.append(fit)
        start(self, fit, limit)

    monkeypatch.setattr(Pool, "start", record)
    return fits


def begin(refits: Refits, member: Member) -> None:
    """Begin the fit of a member, as a sweep with an idle core would."""
    while refits.begin([member], float("inf")) or not refits.pool.running:
        time.sleep(0.01)


def waking(take: Callable[..., None]) -> Callable[..., None]:
    """`Refits.take`; once a member is refitted, sleeping fits are killed."""

    def wake(self: Refits, fit: Fit, result: FitResult) -> None:
        take(self, fit, result)
        for child in self.pool._workers:
            if child.fit and child.fit.recipe == bad("sleeps"):
                child.process.kill()

    return wake


def test_a_sweep_begins_the_refit_of_its_champion_where_a_core_would_wait(
    work: Work, started: list[Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = Blend.single(GOOD)
    monkeypatch.setattr(Refits, "take", waking(Refits.take))
    plan = Plan(kind="warm", live=(bad("sleeps"),), challengers=0)
    with Refits(work) as refits:
        leaderboard = sweep(
            work, deadline=float("inf"), carried=[champion], plan=plan, refits=refits
        )
        assert leaderboard.stopped == "plan"
        assert [fit.recipe for fit in started] == [GOOD]
        assert 0 < leaderboard.refit_seconds <= refits.spent
        assert leaderboard.time_in_fits(work.workers) <= 1
        done = refits.fit(champion, time.monotonic() + 60, {})
    assert [fit.recipe for fit in started] == [GOOD]  # nothing was fitted twice
    alone = refit(replace(work, scratch=work.scratch / "alone"), champion)
    features = work.frame[list(work.contract.features)]
    outputs = [
        assemble(d.parts, work.contract, list(features)).predict_proba(features)
        for d in (done, alone)
    ]
    assert (outputs[0] == outputs[1]).all()
    assert not refits.pool._workers


def test_a_first_sweep_begins_the_refit_of_what_stands_in_for_a_champion(
    work: Work, started: list[Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refits, "take", waking(Refits.take))
    plan = Plan(kind="full", live=(bad("sleeps"),), challengers=0)
    before: dict[str, int] = {}  # source -> refits begun when its last trial ended
    with Refits(work) as refits:
        leaderboard = sweep(
            work,
            deadline=float("inf"),
            plan=plan,
            refits=refits,
            on_trial=lambda t: before.update({t.source: len(started)}),
        )
        assert leaderboard.reference
        members = {member.recipe for member in leaderboard.reference.members}
        assert {fit.recipe for fit in started} <= members
        assert leaderboard.refit_seconds > 0
        begun = len(started)
        refits.fit(leaderboard.reference, time.monotonic() + 60, {})
    assert begun > 0
    assert before["start"] == 0
    assert len(started) == len(members)  # nothing was fitted twice


def test_a_leaderboard_is_the_same_with_and_without_a_refit(
    work: Work, started: list[Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(name: str) -> list[tuple[Recipe, tuple[float, ...]]]:
        here = replace(work, scratch=work.scratch / name)
        leaderboard = sweep(here, deadline=float("inf"), carried=[Blend.single(GOOD)])
        return [(t.recipe, t.losses) for t in leaderboard.trials]

    with_refit = losses("with")
    count = len(started)
    monkeypatch.setattr(Refits, "begin", lambda *_: False)
    assert losses("without") == with_refit
    assert len(started) == count


def test_an_unneeded_refit_is_stopped_and_its_time_is_counted(work: Work) -> None:
    with Refits(work) as refits:
        begin(refits, Member(bad("sleeps"), 1.0))
        time.sleep(0.5)
        refits.fit(Blend.single(GOOD), time.monotonic() + 60, {})
        assert not refits.pool.at_work
        assert refits.spent > 0.5


def test_a_member_with_other_learned_params_or_a_failure_is_fitted_again(
    work: Work, started: list[Fit]
) -> None:
    with Refits(work) as refits:
        begin(refits, Member(GOOD, 1.0, {}))
        done = refits.fit(Blend.single(GOOD, {"C": 0.5}), time.monotonic() + 60, {})
        assert [fit.learned for fit in started] == [{}, {"C": 0.5}]
        assert done.parts[0][3].get_params()["C"] == 0.5
        begin(refits, Member(bad("raises"), 1.0))
        for fit, result in refits.pool.collect(float("inf")):
            refits.take(fit, result)
        with pytest.raises(AutomlError, match="not today"):
            refits.fit(Blend.single(bad("raises")), time.monotonic() + 60, {})
    assert [fit.recipe for fit in started[2:]] == 2 * [bad("raises")]


def test_only_as_many_rows_as_the_time_allows() -> None:
    assert share_in_time([10.0, 10.0], 2, 15.0) == 1.0
    assert share_in_time([10.0, 10.0], 2, 7.5) == 0.5
    assert share_in_time([], 2, 0.0) == 1.0
    assert share_in_time([0.0], 2, -1.0) == 1.0, "nothing is known of it, and no time is left"
    assert share_in_time([10.0], 2, float("inf")) == 1.0
