"""Spaces of users' files: whatever they do is a failed trial with its reason, and the sweep goes on in time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from automl.modeling.families import Shape, load_family, suggest_recipe
from automl.sweep import Work, deadline, spaces, sweep
from automl.sweep.spaces import SpaceFailedError, Spaces
from tests.support.broken_families import FITS, SPACES, write_family
from tests.support.sweep_work import make_work as make_work  # a fixture

SHAPE = Shape(rows=500, columns=4, classes=2, task="binary")


@pytest.fixture(scope="module")
def asked(server: None) -> Iterator[Spaces]:
    made = Spaces()
    yield made
    made.close()


@pytest.mark.parametrize("how", SPACES)
def test_a_space_that_fails_says_how(
    asked: Spaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    statement, reason = SPACES[how]
    monkeypatch.setattr(spaces, "SECONDS", 0.5 if how == "hangs" else 60)
    entry = write_family(tmp_path, f"space_{how}", SPACE=statement)
    trial = optuna.create_study().ask()
    with pytest.raises(SpaceFailedError, match=re.escape(reason)) as caught:
        asked.recipe(load_family(entry, tmp_path), trial, SHAPE, 0)
    assert caught.value.late == (how == "hangs")


def test_a_space_in_another_process_draws_what_it_would_draw_here(
    asked: Spaces, tmp_path: Path
) -> None:
    family = load_family(write_family(tmp_path, "good"), tmp_path)

    def drawn(recipe: Callable[..., object]) -> list[object]:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
        return [recipe(family, study.ask(), SHAPE, 0) for _ in range(3)]

    assert drawn(asked.recipe) == drawn(suggest_recipe)
    assert asked.suggests(family, SHAPE)


def test_every_family_that_goes_wrong_is_a_failed_trial_and_the_others_are_searched(
    make_work: Callable[..., Work], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "FIT_SECONDS", 3)
    entries = [write_family(tmp_path, n, **{place: do}) for n, (place, do, _) in FITS.items()]
    entries.append(write_family(tmp_path, "space_raises", SPACE=SPACES["raises"][0]))
    listed = ", ".join(f'"{entry}"' for entry in ["linear", *entries])
    trials = len(entries) + 12

    leaderboard = sweep(
        make_work({'"linear"]': f"{listed}]", "trials   = 4": f"trials   = {trials}"}),
        deadline=float("inf"),
    )

    failed = {t.recipe.family: t.reason for t in leaderboard.trials if t.status == "failed"}
    missing = {
        n: failed.get(n, "") for n, (*_, why) in FITS.items() if why not in failed.get(n, "")
    }
    assert missing == {}
    assert failed.keys() == {*FITS, "space_raises"}
    assert failed["space_raises"] == "space: RuntimeError: boom"
    assert len(leaderboard.trials) == trials
    assert leaderboard.challenger is not None


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fit_hangs", "fit_spins", "fit_forks"])
def test_a_budget_ends_in_time_with_nothing_but_fits_that_hang(
    make_work: Callable[..., Work], tmp_path: Path, how: str
) -> None:
    place, statement, _ = FITS[how]
    entry = write_family(tmp_path, how, **{place: statement})
    work = make_work({'"linear"]': f'"{entry}"]', "trials   = 4": 'budget   = "10s"'})
    started = time.monotonic()
    leaderboard = sweep(work, deadline=started + 10)
    assert time.monotonic() - started <= 10 + 2
    assert {t.status for t in leaderboard.trials if t.recipe.family == how} == {"failed"}
