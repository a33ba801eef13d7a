"""Review mode: no recipe takes the champion's place before a person has approved it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from automl.cycles.options import RunOptions
from automl.modeling.recipes import Blend, Member, Recipe
from automl.retrain import retrain
from automl.review import approve, reject
from automl.store import tables as t
from automl.sweep import Refits, Refitted
from tests.support.parcels import AS_OF, make_world, write_problem
from tests.support.workspaces import file as file  # a fixture
from tests.support.workspaces import let_wait, opened, rows, run_cycle, standing

DAY = timedelta(days=1)
REVIEW = '[promotion]\nmode = "review"\n\n[validation]'
BOTH, MINE = '["baseline", "linear"]', '["baseline", "mine.py"]'
FAMILY = '''"""Mine: nearest rows, as a family of the user's own."""
from automl import Family


def build(params, shape, seed):
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(**params)


family = Family(name="mine", short="mine", tasks={"binary"}, encoding="dense", start=[(1, {"n_neighbors": 30})],
                space=lambda trial, shape: {"n_neighbors": 30}, build=build, weights=False)
'''


def _first(folder: Path, families: str) -> Path:
    """A first cycle in review mode, with these families."""
    edits = {"trials   = 4": "trials   = 2", BOTH: families, "[validation]": REVIEW}
    (folder / "mine.py").write_text(FAMILY, encoding="utf-8")
    problem = write_problem(folder, replace=edits, frame=make_world())
    run_cycle(problem, AS_OF - DAY)
    return problem


def _edit(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8").replace(before, after)
    file.write_text(text.replace("trials   = 2", "trials   = 3"), encoding="utf-8")


@pytest.mark.slow
def test_a_champion_whose_family_is_no_longer_offered_is_refit_and_another_waits(
    tmp_path: Path,
) -> None:
    file = _first(tmp_path, BOTH)
    problem, workspace, store = opened(file)
    first = store.champion("parcels")
    assert first is not None
    _edit(file, BOTH, MINE)

    done = run_cycle(file, AS_OF)

    champion, waiting = store.champion("parcels"), store.waiting("parcels")
    assert champion is not None
    assert waiting is not None
    assert (champion.blend.recipes, champion.model_version) == (first.blend.recipes, 2), "refit"
    assert set(waiting.blend.families) <= {"baseline", "mine"}
    assert "waits for approval: family linear of the champion is no longer offered" in done.reason
    assert (done.status, done.model_version) == ("published", 2)
    assert done.leaderboard is not None
    carried = {t.recipe.family for t in done.leaderboard.trials if t.source == "carried"}
    assert (carried, len(done.leaderboard.trials)) == ({"linear"}, 3), "it is scored, not searched"

    reject(problem, workspace, "not this one")
    run_cycle(file, AS_OF + DAY, plan="full")

    again = store.waiting("parcels")
    assert again is None or again.blend.recipes != waiting.blend.recipes
    assert store.champion("parcels").blend.recipes == first.blend.recipes  # type: ignore[union-attr]


def test_a_champion_whose_family_is_gone_stays_as_it_was_released(tmp_path: Path) -> None:
    file = _first(tmp_path, MINE)
    _edit(file, MINE, BOTH)
    (tmp_path / "mine.py").unlink()
    problem, workspace, store = opened(file)
    before = store.releases("parcels")

    done = retrain(problem, workspace, RunOptions(as_of=AS_OF))

    assert (done.status, done.model_version) == ("waiting", 1)
    assert "kept version 1 unchanged: its family mine cannot be loaded; " in done.reason
    assert "it was not compared with the champion" in done.reason
    assert "gain" not in done.reason, "over what only stands in for the champion"
    assert store.releases("parcels") == before
    assert retrain(problem, workspace, RunOptions(as_of=AS_OF)).already

    scored = run_cycle(file, AS_OF)  # by the same command as always: the batch alone is missing

    assert (scored.status, scored.model_version) == ("published", 1)
    assert [e[0] for e in standing(file)["ledger"]] == ["promote", "wait"]

    both = run_cycle(file, AS_OF + DAY)

    assert (both.status, both.model_version) == ("published", 1)
    assert store.releases("parcels") == before
    published = rows(file, "select distinct model_version, date(as_of) from parcels")
    assert published == [(1, f"{AS_OF + DAY:%Y-%m-%d}")]
    waiting = store.waiting("parcels")
    assert waiting is not None
    assert set(waiting.blend.families) <= {"baseline", "linear"}
    approved = approve(problem, workspace, "yes")
    champion = store.champion("parcels")
    assert champion is not None
    assert approved.model_version == waiting.model_version
    assert (champion.as_of, champion.blend) == (AS_OF + DAY, waiting.blend)
    assert [v for _, v, _ in standing(file)["live"]] == [waiting.model_version]


def test_a_champion_that_lost_a_recipe_in_its_refit_stays_as_it_was_released(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, store = opened(file)
    champion_before = store.champion("parcels")
    assert champion_before is not None
    both = Blend(
        (Member(Recipe("linear", {"C": 1.0}, 3), 0.6), Member(Recipe("linear", {"C": 0.1}, 3), 0.4))
    )
    with store.writer.begin() as connection:
        connection.execute(t.release.update().values(blend=both.to_json()))
    _edit(file, "[validation]", REVIEW)
    fit = Refits.fit

    def one_lost(self: Refits, blend: Blend, *given: Any, **more: Any) -> Refitted:
        done = fit(self, blend, *given, **more)
        lost = {both.members[1].recipe.id: "out of time after 9.0 s"}
        return replace(done, parts=done.parts[:1], blend=Blend(done.blend.members[:1]), lost=lost)

    monkeypatch.setattr(Refits, "fit", one_lost)

    done = run_cycle(file, AS_OF + DAY, plan="refit")

    assert (done.status, done.model_version) == ("published", champion_before.model_version)
    assert "unchanged" in done.reason
    assert "out of time after 9.0 s" in done.reason
    assert store.champion("parcels").blend == both  # type: ignore[union-attr]
    assert [v for _, v, _ in standing(file)["live"]] == [champion_before.model_version]


def test_what_a_person_approved_stays_champion_when_the_cycle_is_run_again(file: Path) -> None:
    problem, workspace, store = opened(file)
    blend = let_wait(file)
    approve(problem, workspace, "yes")
    _edit(file, "[validation]", REVIEW)

    done = run_cycle(file, AS_OF, again=True, reason="another look", plan="refit")

    assert (done.status, done.model_version) == ("published", 3)
    assert store.champion("parcels").blend.recipes == blend.recipes  # type: ignore[union-attr]
