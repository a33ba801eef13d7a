"""Encoders learn from training rows only, take data as it comes, and never learn the year."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.history import ColumnKind
from automl.history.contract import Contract
from automl.modeling.families import Encoding
from automl.modeling.features.encoder import (
    CLIP,
    ONE_HOT_LEVELS,
    TREE_LEVELS,
    category_positions,
    make_encoder,
)
from automl.modeling.features.matrices import (
    NEWEST_SHARE,
    Rows,
    shape_of,
    thin,
    to_outcomes,
    write_matrices,
)
from automl.problem import Problem

MakeProblem = Callable[..., Problem]
KINDS: dict[str, ColumnKind] = {
    "carrier": "text",
    "sent_at": "time",
    "size": "number",
    "street": "text",
    "weight": "number",
}


ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)


def parcels(count: int, seed: int = 0, first: str = "2026-01-01") -> pd.DataFrame:
    """Rows with gaps in every kind of column."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "carrier": pd.Series(rng.choice(["ant", "bee", "cat"], count)),
            "sent_at": pd.Series(pd.date_range(first, periods=count, freq="7h")).astype(
                "datetime64[us]"
            ),
            "size": rng.gamma(2, 3, count),
            "street": pd.Series([f"street {i}" for i in rng.integers(0, 20, count)]),
            "weight": rng.normal(0, 1, count),
        }
    )
    return frame.mask(rng.random(frame.shape) < 0.1)


def rows_of(frame: pd.DataFrame) -> Rows:
    """Rows that differ in nothing but their columns."""
    count = len(frame)
    return Rows(
        frame=frame, y=np.arange(count) % 2.0, weight=np.ones(count), age=np.linspace(1, 0, count)
    )


# ---------------------------------------------------------------- an encoder


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(seed=st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_validation_rows_do_not_change_how_any_row_is_encoded(
    encoding: Encoding, seed: int
) -> None:
    train, validation = parcels(80, seed), parcels(40, seed + 1, "2026-06-01")
    encoder = make_encoder(KINDS, encoding)
    before = encoder.fit_transform(train)
    whole = encoder.transform(validation)
    alone = np.vstack([encoder.transform(validation.iloc[[i]]) for i in range(len(validation))])
    assert np.array_equal(whole, alone, equal_nan=True)
    assert np.array_equal(encoder.transform(train), before, equal_nan=True)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_written_training_rows_do_not_depend_on_validation_rows(
    tmp_path: Path, encoding: Encoding
) -> None:
    train, one, other = (
        parcels(80),
        parcels(40, 1, "2026-06-01"),
        parcels(30, 2, "2031-01-01").assign(size=1e6),
    )
    for name, validation in [("one", one), ("other", other), ("none", None)]:
        write_matrices(
            rows_of(train),
            None if validation is None else rows_of(validation),
            KINDS,
            encoding,
            tmp_path / name,
        )
    written = {f: f.read_bytes() for f in (tmp_path / "one").glob("train_*.npy")}
    assert len(written) == 4
    for name in ("other", "none"):
        assert {f: (tmp_path / name / f.name).read_bytes() for f in written} == written
    assert not (tmp_path / "none" / "validation_X.npy").exists()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_matrix_has_one_row_each_and_only_trees_see_gaps(encoding: Encoding) -> None:
    train, later = parcels(200), parcels(50, 1, "2027-01-01")
    encoder = make_encoder(KINDS, encoding)
    for matrix, rows in [(encoder.fit_transform(train), 200), (encoder.transform(later), 50)]:
        assert len(matrix) == rows
        assert np.isnan(matrix).any() == (encoding != "dense")
        assert not np.isinf(matrix).any()


@pytest.mark.parametrize(
    "kinds",
    [KINDS, dict(reversed(KINDS.items())), {"weight": "number"}, {"a": "text", "b": "text"}],
)
def test_category_positions_are_those_of_the_codes(kinds: dict[str, ColumnKind]) -> None:
    frame = parcels(100).assign(a="x", b=["p", "q"] * 50)
    matrix = make_encoder(kinds, "trees").fit_transform(frame)
    texts = [name for name, kind in kinds.items() if kind == "text"]
    positions = category_positions(kinds, "trees")
    assert len(positions) == len(texts)
    for position, name in zip(positions, texts, strict=True):
        codes = {level: float(i) for i, level in enumerate(sorted(frame[name].dropna().unique()))}
        assert np.array_equal(
            matrix[:, position], frame[name].map(codes).to_numpy("float64"), equal_nan=True
        )
    assert category_positions(kinds, "trees+time") == positions
    assert category_positions(kinds, "dense") == ()


def test_a_category_never_seen_is_a_gap_for_trees_and_nothing_for_dense() -> None:
    train, later = (
        pd.DataFrame({"c": ["a", "b", "a"]}),
        pd.DataFrame({"c": ["z", None]}, dtype="str"),
    )
    assert np.isnan(make_encoder({"c": "text"}, "trees").fit(train).transform(later)).all()
    assert (make_encoder({"c": "text"}, "dense").fit(train).transform(later) == 0).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_five_hundred_columns_are_encoded(encoding: Encoding) -> None:
    rng, count = np.random.default_rng(0), 600
    numbers = {f"n{i}": rng.normal(i, 1 + i, count) for i in range(460)}
    empty = {f"e{i}": np.full(count, np.nan) for i in range(10)}
    same = {f"s{i}": np.full(count, 7.0) for i in range(10)}
    texts = {f"t{i}": rng.choice([f"{i}-{j}" for j in range(2**i)], count) for i in range(10)}
    times = {f"d{i}": pd.date_range("2024-01-01", periods=count, freq="1D") for i in range(10)}
    frame = pd.DataFrame(numbers | empty | same | texts | times)
    frame = frame.mask(rng.random(frame.shape) < 0.05)
    kind: dict[str, ColumnKind] = {"t": "text", "d": "time"}
    kinds = {name: kind.get(name[0], "number") for name in frame}
    encoder = make_encoder(kinds, encoding, classes=2)
    train = encoder.fit_transform(frame.iloc[:500], np.arange(500) % 2)
    later = encoder.transform(frame.iloc[500:])
    assert train.shape[1] == later.shape[1] < 1600
    assert not np.isinf(train).any()
    if encoding == "dense":
        assert np.isfinite(train).all()
        assert np.isfinite(later).all()


@pytest.mark.parametrize(("encoding", "most"), [("trees", TREE_LEVELS), ("dense", ONE_HOT_LEVELS)])
def test_rare_levels_share_one_code(encoding: Encoding, most: int) -> None:
    frame = pd.DataFrame({"c": [f"{i:04d}" for i in range(1000) for _ in range(1 + (i < 10))]})
    encoder = make_encoder({"c": "text"}, encoding)
    matrix = encoder.fit_transform(frame)
    levels = len(np.unique(matrix)) if encoding == "trees" else matrix.shape[1]
    assert levels == most
    common = encoder.transform(pd.DataFrame({"c": [f"{i:04d}" for i in range(10)]}))
    assert len(np.unique(common, axis=0)) == 10
    if encoding == "trees":
        assert np.nanmax(matrix) < 255  # what HistGradientBoosting takes


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "column",
    [
        pd.Series([np.nan] * 6, dtype="float64"),
        pd.Series([7.0] * 6),
        pd.Series([None] * 6, dtype="str"),
        pd.Series(["a"] * 6),
        pd.Series([pd.NaT] * 6, dtype="datetime64[us]"),
        pd.Series([pd.Timestamp("2026-01-01")] * 6).astype("datetime64[us]"),
    ],
    ids=["no numbers", "one number", "no text", "one text", "no times", "one time"],
)
def test_an_empty_or_constant_column_adds_nothing_and_breaks_nothing(
    encoding: Encoding, column: pd.Series
) -> None:
    kind: ColumnKind = (
        "text" if column.dtype == "str" else "number" if column.dtype == "float64" else "time"
    )
    encoder = make_encoder({"c": kind, "x": "number"}, encoding)
    matrix = encoder.fit_transform(pd.DataFrame({"c": column, "x": np.arange(6.0)}))
    moving = [i for i in range(matrix.shape[1]) if len(np.unique(matrix[:, i])) > 1]
    assert len(moving) == 1
    later = pd.DataFrame({"c": column[:2].mask([True, False]), "x": [np.nan, 100.0]})
    assert encoder.transform(later).shape == (2, matrix.shape[1])


def test_dense_numbers_are_scaled_clipped_and_say_where_a_gap_was() -> None:
    train = pd.DataFrame({"n": [*np.linspace(-1, 1, 99), np.nan]})
    encoder = make_encoder({"n": "number"}, "dense")
    matrix = encoder.fit_transform(train)
    assert matrix[:99, 0].mean() == pytest.approx(0, abs=1e-12)
    assert matrix[:99, 0].std() == pytest.approx(1, rel=0.02)  # the gap sits in the middle
    later = encoder.transform(pd.DataFrame({"n": [1e12, -1e12, np.nan]}))
    assert later[:2, 0].tolist() == [CLIP, -CLIP]
    assert later[2, 1] == matrix[-1, 1] > later[0, 1]


def test_trees_get_numbers_as_they_are() -> None:
    frame = parcels(50)[["size", "weight"]]
    matrix = make_encoder({"size": "number", "weight": "number"}, "trees").fit_transform(frame)
    assert np.array_equal(matrix, frame.to_numpy(), equal_nan=True)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_encoder_survives_pickling(encoding: Encoding) -> None:
    frame = parcels(60)
    encoder = make_encoder(KINDS, encoding).fit(frame)
    again = pickle.loads(pickle.dumps(encoder))
    assert np.array_equal(again.transform(frame), encoder.transform(frame), equal_nan=True)


# ---------------------------------------------------------------- the calendar


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_matrices_have_the_calendar_of_the_history_s_zone(
    tmp_path: Path, make_problem: MakeProblem, encoding: Encoding, zone: str
) -> None:
    frame = parcels(300).assign(late=0)
    problem = make_problem()
    history = problem.history.model_copy(update={"timezone": zone})
    problem = problem.model_copy(update={"history": history})
    rows = Rows.of(frame, problem, Contract(features={}, classes=(0, 1))).take(np.arange(200))
    encoder = write_matrices(rows, None, {"sent_at": "time"}, encoding, tmp_path)
    wanted = make_encoder({"sent_at": "time"}, encoding, zone=zone).fit(frame.iloc[:200])
    assert np.array_equal(encoder.transform(frame), wanted.transform(frame), equal_nan=True)
    if zone != "UTC":
        utc = make_encoder({"sent_at": "time"}, encoding).fit(frame.iloc[:200])
        assert not np.array_equal(wanted.transform(frame), utc.transform(frame), equal_nan=True)


@given(st.integers(1, 400), st.integers(1, 300), st.integers(0, 2**16))
@settings(deadline=None)
def test_thin_keeps_the_newest_rows_the_order_and_the_total_weight(
    count: int, most: int, seed: int
) -> None:
    rows = rows_of(pd.DataFrame({"n": np.arange(count)}))
    thinned = thin(rows, most, seed)
    numbers = thinned.frame["n"].tolist()
    newest = int(most * NEWEST_SHARE) if count > most else count
    assert len(numbers) == len(set(numbers)) == min(count, most)
    assert numbers == sorted(numbers)
    assert numbers[len(numbers) - newest :] == list(range(count - newest, count))
    assert thinned.weight.sum() == pytest.approx(count)
    assert thinned.weight[len(numbers) - newest :].tolist() == [1.0] * newest
    assert np.array_equal(thinned.y, rows.y[numbers])
    assert np.array_equal(thinned.age, rows.age[numbers])


def test_thin_keeps_half_lives_and_user_weights_on_average() -> None:
    rng = np.random.default_rng(0)
    rows = rows_of(pd.DataFrame({"n": np.arange(4000)}))
    rows = Rows(frame=rows.frame, y=rows.y, weight=rng.gamma(2, 1, 4000), age=rows.age)
    faded = [
        float((r.weight * 0.5 ** (r.age / 0.25)).sum())
        for r in (rows, *(thin(rows, 1000, s) for s in range(50)))
    ]
    # standard error of the mean is below 0.5 %
    assert np.mean(faded[1:]) == pytest.approx(faded[0], rel=0.02)


def test_thin_draws_by_its_seed_and_leaves_its_argument_alone() -> None:
    rows = rows_of(pd.DataFrame({"n": np.arange(100)}))
    draws = [thin(rows, 40, seed).frame["n"].tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert rows.weight.tolist() == [1.0] * 100


def test_rows_know_their_age_outcome_and_weight(make_problem: MakeProblem) -> None:
    problem = make_problem(replace={'["parcel"]': '["parcel"]\nweight = "worth"'})
    frame = pd.DataFrame(
        {
            "sent_at": pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-05"]).astype(
                "datetime64[us]"
            ),
            "late": [1, 0, 1],
            "worth": [2.0, 0.0, 0.5],
        }
    )
    rows = Rows.of(frame, problem, Contract(features={}, classes=(1, 0)))
    assert rows.age.tolist() == [1.0, 0.75, 0.0]
    assert rows.y.tolist() == [0.0, 1.0, 0.0]
    assert rows.weight.tolist() == [2.0, 0.0, 0.5]
    taken = rows.take(np.array([1]))
    assert (taken.age.tolist(), taken.y.tolist(), taken.weight.tolist()) == ([0.75], [1.0], [0.0])


def test_rows_of_a_single_moment_are_new(make_problem: MakeProblem) -> None:
    frame = pd.DataFrame(
        {"sent_at": pd.to_datetime(["2026-01-01"] * 3).astype("datetime64[us]"), "late": [0, 1, 0]}
    )
    rows = Rows.of(frame, make_problem(), Contract(features={}, classes=(0, 1)))
    assert (rows.age.tolist(), rows.weight.tolist()) == ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize(
    ("classes", "target", "outcomes"),
    [
        ((0, 1), [1, 0, 1], [1.0, 0.0, 1.0]),
        (("no", "yes"), ["yes", "no"], [1.0, 0.0]),
        (("c", "a", "b"), ["a", "b", "c"], [1.0, 2.0, 0.0]),
        ((), [1.5, -2.0], [1.5, -2.0]),
    ],
)
def test_outcomes_are_numbered_in_the_order_of_the_contract(
    classes: tuple[str | int, ...], target: list[Any], outcomes: list[float]
) -> None:
    assert (
        to_outcomes(pd.Series(target), Contract(features={}, classes=classes)).tolist() == outcomes
    )


def test_rows_that_know_their_period_are_coded_by_recent_outcomes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"series": [f"series {i % 40}" for i in range(400)]})
    for block, columns in ((0, 2), (80, 3)):
        rows = replace(rows_of(frame), block=block).take(np.arange(360))
        encoder = write_matrices(rows, rows_of(frame), {"series": "text"}, "trees", tmp_path)
        assert encoder.transform(frame).shape[1] == columns


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_written_matrices_say_their_shape(
    tmp_path: Path, make_problem: MakeProblem, encoding: Encoding
) -> None:
    train, validation = parcels(80), parcels(40, 1, "2026-06-01")
    encoder = write_matrices(rows_of(train), rows_of(validation), KINDS, encoding, tmp_path)
    shape = shape_of(tmp_path, make_problem(), Contract(features=KINDS, classes=(0, 1)))
    written = np.load(tmp_path / "validation_X.npy")
    assert (shape.rows, shape.classes, shape.task) == (80, 2, "binary")
    assert shape.columns == written.shape[1]
    assert shape.categories == category_positions(KINDS, encoding)
    assert np.array_equal(written, encoder.transform(validation).astype("float32"), equal_nan=True)
