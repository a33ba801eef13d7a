"""Recipes and blends: ids and JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.modeling.recipes import HALF_LIVES, RECENT, Blend, Member, Recipe

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
        Recipe("linear", {"C": 1.0}, 0, half_life=0.5),
        Recipe("lightgbm", {"C": 2.0}, 0, half_life=0.5),
        Recipe("lightgbm", {"C": 1.0, "l1": 0}, 0, half_life=0.5),
        Recipe("lightgbm", {"C": 1.0}, 1, half_life=0.5),
        Recipe("lightgbm", {"C": 1.0}, 0, half_life=None),
        Recipe("lightgbm", {"C": 1.0}, 0, half_life=0.5, recent=0.2),
        Recipe("lightgbm", {"C": 1.0}, 0, half_life=0.5, trend=True),
    ],
)
def test_whatever_changes_the_model_changes_the_id(other: Recipe) -> None:
    assert other.id != Recipe("lightgbm", {"C": 1.0}, 0, half_life=0.5).id


def test_an_id_is_the_same_tomorrow() -> None:  # ids live in the store and in MLflow
    assert Recipe("linear", {"C": 1.0}, 3, half_life=0.25).id == "7b9f52d4a0"
    assert Blend.single(Recipe("linear", {"C": 1.0}, 3, half_life=0.25)).id == "82d5f10837"


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
    assert str(blend) == "50% mlp + 30% linear + 20% linear"
    assert str(Blend.single(Recipe("mlp", {}))) == "mlp"


@settings(deadline=None)  # a machine that does other things too is no failure
@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=8))
def test_the_percentages_of_a_blend_add_up_to_100_and_are_off_by_less_than_one(
    weights: list[float],
) -> None:
    members = tuple(Member(Recipe(f"f{i}", {}), w / sum(weights)) for i, w in enumerate(weights))
    shown = [part.split("% ") for part in str(Blend(members)).split(" + ")]
    assert sum(int(percent) for percent, _ in shown) == 100
    of = {m.recipe.family: m.weight for m in members}
    assert all(abs(int(percent) - 100 * of[name]) < 1 for percent, name in shown)
