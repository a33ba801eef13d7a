"""Recipes and blends survive JSON and keep their names; family files are loaded or refused clearly."""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.errors import SpaceError
from automl.modeling.families import (
    HALF_LIVES,
    RECENT,
    Blend,
    Family,
    Member,
    Recipe,
    load_families,
    load_family,
    load_retired,
)
from automl.problem import family_folder, family_names

FAMILY = '''"""Mine: says nothing. Second sentence."""
from automl import Family

class Mine:
    """An estimator of the user's own."""

family = Family(name="{name}", short="mine", tasks={{"binary"}}, encoding="trees", start=[(1, {{}})],
                space=lambda trial, shape: {{}}, build=lambda params, shape, seed: Mine())
'''

VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
)
PARAMS = st.dictionaries(st.text(max_size=8), VALUES | st.lists(VALUES, max_size=3), max_size=6)
RECIPES = st.builds(
    Recipe,
    family=st.sampled_from(["linear", "lightgbm", "mlp"]),
    params=PARAMS,
    seed=st.integers(0, 2**31),
    half_life=st.sampled_from(HALF_LIVES),
    recent=st.sampled_from(RECENT),
    trend=st.booleans(),
)
MEMBERS = st.builds(Member, recipe=RECIPES, weight=st.floats(0.01, 1), learned=PARAMS)
BLENDS = st.builds(Blend, st.lists(MEMBERS, min_size=1, max_size=4).map(tuple))


@given(RECIPES)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    back = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert back == recipe
    assert (back.id, hash(back)) == (recipe.id, hash(recipe))


@given(BLENDS)
def test_a_blend_survives_json(blend: Blend) -> None:
    back = Blend.from_json(json.loads(json.dumps(blend.to_json())))
    assert back == blend
    assert (back.id, str(back)) == (blend.id, str(blend))


@given(RECIPES)
def test_the_order_of_params_does_not_change_an_id(recipe: Recipe) -> None:
    turned = dict(reversed(recipe.params.items()))
    assert replace(recipe, params=turned).id == recipe.id


@pytest.mark.parametrize(
    "other",
    [
        Recipe("linear", {"C": 1.0}, 0, 0.5),
        Recipe("lightgbm", {"C": 2.0}, 0, 0.5),
        Recipe("lightgbm", {"C": 1.0, "l1": 0}, 0, 0.5),
        Recipe("lightgbm", {"C": 1.0}, 1, 0.5),
        Recipe("lightgbm", {"C": 1.0}, 0, None),
        Recipe("lightgbm", {"C": 1.0}, 0, 0.5, 0.2),
        Recipe("lightgbm", {"C": 1.0}, 0, 0.5, trend=True),
    ],
)
def test_whatever_changes_the_model_changes_the_id(other: Recipe) -> None:
    assert other.id != Recipe("lightgbm", {"C": 1.0}, 0, 0.5).id


def test_an_id_is_the_same_tomorrow() -> None:  # ids live in the store and in MLflow
    assert Recipe("linear", {"C": 1.0}, 3, 0.25).id == "7b9f52d4a0"
    assert Blend.single(Recipe("linear", {"C": 1.0}, 3, 0.25)).id == "82d5f10837"


@given(BLENDS, PARAMS)
def test_the_id_of_a_blend_ignores_what_a_refit_learns(
    blend: Blend, learned: dict[str, object]
) -> None:
    again = Blend(tuple(Member(m.recipe, 1 - m.weight, learned) for m in blend.members[::-1]))
    assert again.id == blend.id


def test_the_id_of_a_blend_knows_its_recipes() -> None:
    a, b = Recipe("linear", {}), Recipe("mlp", {})
    blends = [Blend.single(a), Blend.single(b), Blend((Member(a, 0.5), Member(b, 0.5)))]
    assert len({blend.id for blend in blends}) == 3


def test_a_blend_names_its_families_heaviest_first_and_once() -> None:
    parts = [("linear", 0.2), ("mlp", 0.5), ("linear", 0.3)]
    blend = Blend(tuple(Member(Recipe(f, {"i": i}), w) for i, (f, w) in enumerate(parts)))
    assert blend.families == ("mlp", "linear")
    assert str(blend) == "blend of 20% linear + 50% mlp + 30% linear"
    assert str(Blend.single(Recipe("mlp", {}))) == "mlp"


# ---------------------------------------------------------------- family files


@pytest.mark.parametrize("name", family_names())
def test_a_shipped_family_is_loaded_by_name_and_by_path(name: str, tmp_path: Path) -> None:
    by_name, by_path = (
        load_family(name, tmp_path),
        load_family(str(family_folder() / f"{name}.py"), tmp_path),
    )
    assert by_name.name == by_path.name == name
    assert by_name.path == by_path.path == family_folder() / f"{name}.py"
    assert by_name.doc


def test_a_family_file_is_found_beside_the_problem_and_its_classes_can_be_pickled(
    tmp_path: Path,
) -> None:
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "my_idea.py").write_text(FAMILY.format(name="idea"), encoding="utf-8")
    family = load_family("families/my_idea.py", tmp_path)
    assert isinstance(family, Family)
    assert (family.name, family.doc, family.module) == (
        "idea",
        "Mine: says nothing. Second sentence.",
        "automl_family_my_idea",
    )
    assert type(pickle.loads(pickle.dumps(family.build({}, None, 0)))).__module__ == family.module  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        (None, "no_family", r"broken\.py: no family file at .*broken\.py"),
        (
            "import nowhere_to_be_found",
            "family_raises",
            r"loading raised ModuleNotFoundError: .*nowhere_to_be_found",
        ),
        ("def f(:", "family_raises", "loading raised SyntaxError"),
        ("1 / 0", "family_raises", "loading raised ZeroDivisionError"),
        ("famly = 1", "no_family", r"found no `family = Family"),
        ("family = 'linear'", "no_family", r"found no `family = Family"),
        (
            FAMILY.format(name="half").replace("space=", "share=len, space="),
            "share_alone",
            "one of share and fit_shared; wanted both or none",
        ),
    ],
)
def test_a_family_file_that_cannot_be_used_is_refused(
    tmp_path: Path, content: str | None, code: str, told: str
) -> None:
    if content is not None:
        (tmp_path / "broken.py").write_text(content, encoding="utf-8")
    with pytest.raises(SpaceError, match=told) as caught:
        load_family("broken.py", tmp_path)
    assert caught.value.code == code


def test_a_family_file_that_raises_leaves_no_module_behind(tmp_path: Path) -> None:
    (tmp_path / "half_done.py").write_text("1 / 0", encoding="utf-8")
    with pytest.raises(SpaceError, match="ZeroDivisionError") as caught:
        load_family("half_done.py", tmp_path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "automl_family_half_done" not in sys.modules


def test_families_keep_the_order_of_the_problem_file(tmp_path: Path) -> None:
    assert list(load_families(["mlp", "baseline", "linear"], tmp_path)) == [
        "mlp",
        "baseline",
        "linear",
    ]


@pytest.mark.parametrize(
    ("file", "name", "told"),
    [
        ("mine.py", "baseline", r"mine\.py: family 'baseline' is also defined by .*baseline\.py"),
        (
            "baseline.py",
            "mine",
            r"a file of the same name is already loaded, .*search_spaces/baseline\.py",
        ),
    ],
)
def test_two_families_that_could_be_mixed_up_are_refused(
    tmp_path: Path, file: str, name: str, told: str
) -> None:
    (tmp_path / file).write_text(FAMILY.format(name=name), encoding="utf-8")
    with pytest.raises(SpaceError, match=told) as caught:
        load_families(["baseline", f"./{file}"], tmp_path)
    assert caught.value.code == "family_twice"


@pytest.mark.parametrize(
    ("entry", "module", "reason"),
    [
        ("gone.py", "other", "no family file"),
        ("mine.py", "mine", "a file of the same name"),
        ("broken.py", "other", "SyntaxError"),
        ("needing.py", "other", "needs no_such_module"),
    ],
)
def test_a_family_that_is_no_longer_offered_is_loaded_if_it_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, entry: str, module: str, reason: str
) -> None:
    (tmp_path / "mine.py").write_text(FAMILY.format(name="mine"), encoding="utf-8")
    (tmp_path / "broken.py").write_text("family =", encoding="utf-8")
    needing = FAMILY.format(name="needing").replace("start=", 'needs=["no_such_module"], start=')
    (tmp_path / "needing.py").write_text(needing, encoding="utf-8")
    offered = {module: replace(load_family("linear", tmp_path), path=tmp_path / f"{module}.py")}

    found = load_retired({"linear": "linear", "x": entry}, tmp_path, offered)

    assert {name: f.offered for name, f in found.items()} == {"linear": False}
    assert reason in caplog.text
