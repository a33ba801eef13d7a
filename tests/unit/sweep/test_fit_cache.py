"""Cached fits predict only rows that they were not trained on, and only if the rows are unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from automl.history import pull, read
from automl.history.contract import infer
from automl.modeling.families import Shape, load_families
from automl.modeling.features import make_encoder
from automl.modeling.recipes import Blend, Member, Recipe
from automl.modeling.splits import make_blocks
from automl.problem import Problem, Span
from automl.sweep import Refits, Work, output_file
from automl.sweep.fit_cache import CachedFit, FitCache, columns_of
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF

MakeProblem = Callable[..., Problem]
RECIPE = Recipe("linear", {"C": 1.0}, 3)
WEEK = timedelta(days=7)


def work_at(problem: Problem, as_of: datetime, scratch: Path) -> Work:
    """The work of a sweep at that as_of."""
    frame = read(pull(problem, open_workspace(problem.file), as_of))
    families = load_families(problem.sweep.families, problem.file.parent)
    blocks = make_blocks(frame, problem, as_of)
    return Work(
        problem=problem,
        contract=infer(frame, problem),
        families=families,
        frame=frame,
        blocks=blocks,
        scratch=scratch,
        workers=2,
    )


@pytest.fixture
def works(make_problem: MakeProblem, tmp_path: Path) -> tuple[Work, Work]:
    """The work of a cycle, and of the one a week before; labels are known at once."""
    problem = make_problem(replace={'label_delay = "1d"\n': ""})
    before = work_at(problem, AS_OF - WEEK, tmp_path / "before")
    return work_at(problem, AS_OF, tmp_path / "now"), before


def cached_fit(work: Work, labels_until: datetime) -> CachedFit:
    """The recipe fitted on everything that a cycle knew."""
    with Refits(work) as refits:
        done = refits.fit(Blend((Member(RECIPE, 1.0, {}),)), float("inf"), {})
    _, _, encoder, estimator = done.parts[0]
    common = columns_of(work)
    return CachedFit(
        recipe=RECIPE,
        learned={},
        labels_until=labels_until,
        encoder=encoder,
        estimator=estimator,
        **common,
    )


def test_a_cached_fit_scores_the_next_block_like_a_fit_for_that_block(
    works: tuple[Work, Work], tmp_path: Path
) -> None:
    now, before = works
    fit_cache = FitCache(tmp_path / "fit_cache")
    fit_cache.replace([cached_fit(before, before.problem.mature(AS_OF - WEEK))], before, set())
    assert fit_cache.predict(now) == {(RECIPE.id, 0): {}}
    output = np.load(output_file(now, RECIPE, 0))
    cutoff = before.problem.mature(AS_OF - WEEK).replace(tzinfo=None)
    train = now.frame[now.frame["sent_at"] < cutoff]
    validation = now.frame.iloc[now.blocks[0].validation]
    columns = list(now.contract.features)
    encoder = make_encoder(now.contract.features, "dense", 2)
    y = train["late"].to_numpy("float64")
    X = encoder.fit_transform(train[columns], y)
    shape = Shape(rows=len(X), columns=X.shape[1], classes=2, task="binary")
    model = now.families["linear"].build({"C": 1.0}, shape, 3).fit(X, y)
    assert np.allclose(output, model.predict_proba(encoder.transform(validation[columns])))


def test_a_cached_fit_never_predicts_its_training_rows(
    works: tuple[Work, Work], tmp_path: Path
) -> None:
    now, _ = works
    fit_cache = FitCache(tmp_path / "fit_cache")
    fit_cache.replace([cached_fit(now, now.problem.mature(AS_OF))], now, set())
    assert fit_cache.predict(now) == {}


@pytest.mark.parametrize(
    ("ends", "used"),
    [
        (timedelta(0), True),  # where a fit of the block ends
        (-timedelta(hours=36), True),  # less than a quarter of a block before
        (-timedelta(hours=48), False),
        (timedelta(seconds=1), False),  # within the gap of the block
        (timedelta(days=1), False),  # as the cycle before fitted it
    ],
)
def test_with_a_label_delay_a_fit_is_used_only_if_it_ends_before_the_gap_of_the_block(
    works: tuple[Work, Work], tmp_path: Path, ends: timedelta, used: bool
) -> None:
    now, before = works
    delayed = now.problem.history.model_copy(update={"label_delay": Span.parse("1d")})
    now = replace(now, problem=now.problem.model_copy(update={"history": delayed}))
    fit_cache = FitCache(tmp_path / "fit_cache")
    gap = now.blocks[0].start - timedelta(days=1)
    fit_cache.replace([cached_fit(before, gap + ends)], before, set())
    assert fit_cache.predict(now) == ({(RECIPE.id, 0): {}} if used else {})


def test_fits_of_an_older_format_are_ignored(works: tuple[Work, Work], tmp_path: Path) -> None:
    now, before = works
    fit_cache = FitCache(tmp_path / "fit_cache")
    old = replace(cached_fit(before, before.problem.mature(AS_OF - WEEK)), version=1)
    fit_cache.replace([old], before, set())
    assert fit_cache.predict(now) == {}


def test_predictions_are_reused_while_the_rows_are_unchanged(
    works: tuple[Work, Work], tmp_path: Path
) -> None:
    now, before = works
    fit_cache = FitCache(tmp_path / "fit_cache")
    (before.scratch / "outputs").mkdir(parents=True, exist_ok=True)
    predictions = np.random.default_rng(0).random((len(before.blocks[0].validation), 2))
    np.save(output_file(before, RECIPE, 0), predictions)
    only = replace(cached_fit(before, AS_OF), encoder=None, estimator=None)
    fit_cache.replace([only], before, {(RECIPE.id, 0)})
    assert fit_cache.predict(now) == {(RECIPE.id, 1): {}}  # the newest block then is the second now
    assert np.array_equal(np.load(output_file(now, RECIPE, 1)), predictions)
    changed = now.frame.copy()
    changed.iloc[now.blocks[1].validation[0], changed.columns.get_loc("late")] ^= 1
    assert fit_cache.predict(replace(now, frame=changed)) == {}


def test_fits_with_other_columns_or_classes_and_unreadable_files_are_ignored(
    works: tuple[Work, Work], tmp_path: Path
) -> None:
    now, before = works
    fit_cache, until = FitCache(tmp_path / "fit_cache"), before.problem.mature(AS_OF - WEEK)
    good = cached_fit(before, until)
    for other in (replace(good, features={"weight": "number"}), replace(good, classes=(1, 0))):
        fit_cache.replace([other], before, set())
        assert fit_cache.predict(now) == {}
    fit_cache.replace([good], before, set())
    (tmp_path / "fit_cache" / f"{RECIPE.id}.pickle").write_bytes(b"not a pickle")
    assert fit_cache.predict(now) == {}
    assert FitCache(tmp_path / "nowhere").predict(now) == {}


def test_a_fit_with_the_calendar_of_another_zone_is_ignored(
    works: tuple[Work, Work], tmp_path: Path
) -> None:
    now, before = works
    fit_cache = FitCache(tmp_path / "fit_cache")
    fit_cache.replace([cached_fit(before, before.problem.mature(AS_OF - WEEK))], before, set())
    moved = now.problem.history.model_copy(update={"timezone": "Europe/Berlin"})
    elsewhere = replace(now, problem=now.problem.model_copy(update={"history": moved}))
    assert fit_cache.predict(elsewhere) == {}
    assert fit_cache.predict(now) == {(RECIPE.id, 0): {}}


def test_new_fits_replace_the_old_ones(works: tuple[Work, Work], tmp_path: Path) -> None:
    now, before = works
    fit_cache = FitCache(tmp_path / "fit_cache")
    fit_cache.replace([cached_fit(before, before.problem.mature(AS_OF - WEEK))], before, set())
    assert any((tmp_path / "fit_cache").iterdir())
    fit_cache.replace([], now, set())
    assert not any((tmp_path / "fit_cache").iterdir())
