"""Codes of categories by their outcomes never tell a row its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl.modeling.features import make_encoder


def shops(count: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of forty shops, some unnamed, and class numbers that follow the shop."""
    random = np.random.default_rng(seed)
    shop = random.integers(0, 40, count)
    frame = pd.DataFrame({"shop": pd.Series([f"shop {s}" for s in shop], dtype="str")})
    frame.loc[random.random(count) < 0.05, "shop"] = np.nan
    return frame, (random.random(count) < shop / 40).astype("float64")


def codes_of(frame: pd.DataFrame, y: np.ndarray, later: pd.DataFrame) -> tuple[Any, Any]:
    """Codes of training rows and of later rows, of an encoder for trees."""
    encoder = make_encoder({"shop": "text"}, "trees", 2)
    return encoder.fit_transform(frame, y)[:, 1], encoder.transform(later)[:, 1]


def test_a_code_never_holds_the_outcome_of_its_own_row_or_a_later_one() -> None:
    frame, y = shops(500)
    before, _ = codes_of(frame, y, frame)
    for at in (0, 17, 250, 499):
        other = y.copy()
        other[at:] = 1 - other[at:]
        # centring and scaling use all outcomes: the same share of ones keeps them
        if other.mean() != y.mean():
            other[at:] = np.random.default_rng(at).permutation(y[at:])
        after, _ = codes_of(frame, other, frame)
        assert np.array_equal(before[: at + 1], after[: at + 1])


def test_a_code_is_the_shrunk_mean_of_the_earlier_rows_of_the_category() -> None:
    frame, y = shops(400)
    codes, later = codes_of(frame, y, frame)
    scaled = (y - y.mean()) / y.std()
    for at in (3, 120, 399):
        name = frame["shop"].iloc[at]
        same = frame["shop"].isna() if pd.isna(name) else frame["shop"] == name
        mine = scaled[:at][same.to_numpy()[:at]]
        assert codes[at] == pytest.approx(mine.sum() / (len(mine) + 20))
        everyone = scaled[same.to_numpy()]
        assert later[at] == pytest.approx(everyone.sum() / (len(everyone) + 20))


def test_an_unseen_category_gets_the_overall_mean_and_few_levels_get_no_code() -> None:
    frame, y = shops(400)
    _, later = codes_of(
        frame, y, pd.DataFrame({"shop": pd.Series(["new", "shop 39"], dtype="str")})
    )
    assert later[0] == 0 < later[1]
    few = frame.assign(shop=(frame["shop"].str[-1].fillna("x")))
    assert make_encoder({"shop": "text"}, "trees", 2).fit_transform(few, y).shape[1] == 1


def test_classes_get_a_code_each_but_the_first_and_values_one() -> None:
    frame, y = shops(400)
    three = np.random.default_rng(1).integers(0, 3, 400).astype("float64")
    shapes = {
        classes: make_encoder({"shop": "text"}, "trees", classes)
        .fit_transform(frame, outcome)
        .shape
        for classes, outcome in ((2, y), (3, three), (0, 10 * y))
    }
    assert shapes == {2: (400, 2), 3: (400, 3), 0: (400, 2)}


def test_a_recent_code_is_the_fading_mean_of_the_rows_before_the_block() -> None:
    frame, y = shops(430)
    encoder = make_encoder({"shop": "text"}, "trees", 2, block=100)
    codes, later = encoder.fit_transform(frame, y)[:, 2], encoder.transform(frame)[:, 2]
    scaled = (y - y.mean()) / y.std()
    for at, start in ((3, 0), (29, 0), (30, 30), (229, 130), (230, 230), (429, 330)):
        name = frame["shop"].iloc[at]
        same = (frame["shop"].isna() if pd.isna(name) else frame["shop"] == name).to_numpy()
        for code, end in ((codes[at], start), (later[at], len(y))):
            ages = (end - np.arange(end)) / 100  # in blocks
            weights = np.where(same[:end], 0.5 ** (ages / 2), 0.0)
            assert code == pytest.approx((weights * scaled[:end]).sum() / (weights.sum() + 2))


@pytest.mark.parametrize(("encoding", "more"), [("trees", 1), ("trees+time", 0), ("dense", 1)])
def test_all_but_trees_that_see_the_time_have_recent_codes(encoding: Any, more: int) -> None:
    frame, y = shops(430)
    with_block, without = (
        make_encoder({"shop": "text"}, encoding, 2, block).fit_transform(frame, y)
        for block in (100, 0)
    )
    assert with_block.shape[1] == without.shape[1] + more


def test_more_than_two_hundred_blocks_are_made_longer() -> None:
    frame, y = shops(1000)
    short, long = (
        make_encoder({"shop": "text"}, "trees", 2, block).fit_transform(frame, y)[:, 2]
        for block in (1, 5)
    )
    assert np.array_equal(short, long)
