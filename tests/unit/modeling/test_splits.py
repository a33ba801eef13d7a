"""No block is scored by a model that could not have been trained at its start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.errors import HistoryError
from automl.history import utc_naive
from automl.modeling.splits import MIN_TRAIN, MIN_VALIDATION, Block, make_blocks
from automl.problem import Problem, load_problem
from tests.support.parcels import AS_OF, FIRST, write_problem

DAY = timedelta(days=1)


@cache
def problem(
    block: str = "7d",
    origins: int | str = 3,
    delay: str = "",
    group: bool = False,
    known: bool = False,
) -> Problem:
    """A problem that differs from the others in what blocks depend on."""
    lines = "".join(
        [
            f'label_delay = "{delay}"\n' if delay else "",
            'group = ["street"]\n' if group else "",
            'label_time = "known_at"\n' if known else "",
        ]
    )
    replace = {
        'label_delay = "1d"\n': lines,
        'block   = "7d"': f'block = "{block}"',
        "origins = 2": f"origins = {origins}" if isinstance(origins, int) else origins,
    }
    return load_problem(write_problem(Path(mkdtemp()), replace=replace))


def history(
    count: int, *, until: datetime = AS_OF, days: float = 60, seed: int = 0, grain: str = "1h"
) -> pd.DataFrame:
    """Rows at random moments before `until`, many of them at the same one, as a snapshot holds them."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.uniform(0, days * 86400, count))
    times = (pd.Timestamp(utc_naive(until)) - pd.to_timedelta(seconds[::-1], unit="s")).floor(grain)
    delay = pd.to_timedelta(rng.gamma(1, 3, count), unit="D")
    return pd.DataFrame(
        {
            "sent_at": pd.Series(times).astype("datetime64[us]"),
            "street": rng.choice(np.arange(count * 4), count).astype(str),
            "known_at": pd.Series(times + delay).astype("datetime64[us]"),
            "late": rng.integers(0, 2, count),
        }
    )


WORLDS = st.fixed_dictionaries(
    {
        "count": st.integers(800, 3000),
        "days": st.floats(20, 90),
        "seed": st.integers(0, 2**16),
        "grain": st.sampled_from(["1s", "1h", "1D"]),
    }
)
PROBLEMS = st.fixed_dictionaries(
    {
        "block": st.sampled_from(["12h", "3d", "7d", "1mo"]),
        "origins": st.integers(1, 4),
        "delay": st.sampled_from(["", "1d", "30h"]),
        "group": st.booleans(),
    }
)


def made(
    world: dict[str, Any], declared: dict[str, Any], **more: bool
) -> tuple[pd.DataFrame, Problem, list[Block]]:
    """The mature rows of a made-up world and their blocks; none where the history is too short."""
    p, frame = problem(**declared, **more), history(**world)
    frame = frame[frame["sent_at"] < utc_naive(p.mature(AS_OF))]
    if more.get("known"):
        frame = frame[frame["known_at"] < utc_naive(AS_OF)]
    frame = frame.reset_index(drop=True)
    try:
        return frame, p, make_blocks(frame, p, AS_OF)
    except HistoryError:
        return frame, p, []


@given(WORLDS, PROBLEMS)
@settings(max_examples=30, deadline=None)
def test_blocks_are_disjoint_newest_first_and_end_where_labels_end(
    world: dict[str, Any], declared: dict[str, Any]
) -> None:
    _, p, blocks = made(world, declared)
    ends = [p.mature(AS_OF), *(block.start for block in blocks)]
    assert [block.end for block in blocks] == ends[: len(blocks)]
    assert all(block.start <= p.validation.block.before(block.end) for block in blocks)
    validation = [i for block in blocks for i in block.validation]
    assert len(validation) == len(set(validation))
    assert len(blocks) <= declared["origins"]


@given(WORLDS, PROBLEMS)
@settings(max_examples=30, deadline=None)
def test_validation_rows_are_exactly_those_of_the_block(
    world: dict[str, Any], declared: dict[str, Any]
) -> None:
    frame, _, blocks = made(world, declared)
    for block in blocks:
        inside = (frame["sent_at"] >= utc_naive(block.start)) & (
            frame["sent_at"] < utc_naive(block.end)
        )
        assert block.validation.tolist() == np.flatnonzero(inside).tolist()
        assert len(block.validation) >= MIN_VALIDATION


@given(WORLDS, PROBLEMS)
@settings(max_examples=30, deadline=None)
def test_a_training_row_had_its_label_at_the_origin(
    world: dict[str, Any], declared: dict[str, Any]
) -> None:
    frame, p, blocks = made(world, declared)
    for block in blocks:
        for when in frame["sent_at"].iloc[block.train].unique():
            sent_at = when.to_pydatetime().replace(tzinfo=UTC)
            delay = p.history.label_delay
            assert (delay.after(sent_at) if delay else sent_at) < block.start
        assert len(block.train) >= MIN_TRAIN


@given(WORLDS, PROBLEMS)
@settings(max_examples=30, deadline=None)
def test_no_row_whose_label_was_known_is_left_out_without_a_group(
    world: dict[str, Any], declared: dict[str, Any]
) -> None:
    frame, p, blocks = made(world, {**declared, "group": False})
    for block in blocks:
        known = frame["sent_at"] < utc_naive(p.mature(block.start))
        assert block.train.tolist() == np.flatnonzero(known).tolist()


@given(WORLDS, PROBLEMS)
@settings(max_examples=30, deadline=None)
def test_label_time_is_respected_at_every_origin(
    world: dict[str, Any], declared: dict[str, Any]
) -> None:
    frame, _, blocks = made(world, {**declared, "delay": ""}, known=True)
    for block in blocks:
        start = utc_naive(block.start)
        assert (frame["known_at"].iloc[block.train] < start).all()
        if not declared["group"]:
            slow = [
                i
                for i, (t, k) in enumerate(zip(frame["sent_at"], frame["known_at"], strict=True))
                if max(t, k) < start
            ]
            assert block.train.tolist() == slow


@given(WORLDS, PROBLEMS)
@settings(max_examples=30, deadline=None)
def test_rows_of_one_moment_are_never_on_both_sides(
    world: dict[str, Any], declared: dict[str, Any]
) -> None:
    frame, _, blocks = made(world, declared)
    times = frame["sent_at"]
    for block in blocks:
        assert not set(times.iloc[block.train]) & set(times.iloc[block.validation])
        assert set(np.flatnonzero(times.isin(times.iloc[block.validation]))) == set(
            block.validation
        )


@given(WORLDS, PROBLEMS)
@settings(max_examples=30, deadline=None)
def test_a_group_is_never_on_both_sides_and_nothing_else_is_left_out(
    world: dict[str, Any], declared: dict[str, Any]
) -> None:
    frame, p, blocks = made(world, {**declared, "group": True})
    streets = frame["street"]
    for block in blocks:
        validation = set(streets.iloc[block.validation])
        assert not set(streets.iloc[block.train]) & validation
        known = np.flatnonzero(frame["sent_at"] < utc_naive(p.mature(block.start)))
        assert block.train.tolist() == [i for i in known if streets.iloc[i] not in validation]


def test_a_group_may_be_several_columns_and_may_be_missing() -> None:
    frame = history(2000, days=30).assign(street="a")
    frame.loc[::2, "street"] = None
    p = problem(origins=1, group=True)
    two = p.model_copy(
        update={"history": p.history.model_copy(update={"group": ("street", "house")})}
    )
    frame["house"] = np.where(np.arange(2000) < 1000, "1", "2")
    block = make_blocks(frame, two, AS_OF)[0]
    assert set(frame["house"].iloc[block.validation]) == {"2"}
    assert block.train.tolist() == list(range(1000))


@given(WORLDS, PROBLEMS, st.integers(1, 400))
@settings(max_examples=30, deadline=None)
def test_rows_that_arrive_later_do_not_move_older_blocks(
    world: dict[str, Any], declared: dict[str, Any], more: int
) -> None:
    frame, p, blocks = made(world, {**declared, "group": False})
    late = history(more, until=AS_OF + 3 * DAY, days=3)
    grown = pd.concat([frame, late], ignore_index=True)
    for old, new in zip(blocks, make_blocks(grown, p, AS_OF) if blocks else [], strict=True):
        assert (old.start, old.end) == (new.start, new.end)
        assert (old.train.tolist(), old.validation.tolist()) == (
            new.train.tolist(),
            new.validation.tolist(),
        )


def test_thin_blocks_are_merged_with_the_one_before() -> None:
    frame = history(600, days=300, grain="1s")  # two a day: fifty days make a block
    blocks = make_blocks(frame, problem(block="7d", origins=2), AS_OF)
    assert [(block.end - block.start).days % 7 for block in blocks] == [0, 0]
    assert all(MIN_VALIDATION <= len(block.validation) < MIN_VALIDATION + 30 for block in blocks)


@pytest.mark.parametrize(("quiet", "lengths"), [(1, [2, 1]), (2, [3, 1]), (4, [5, 1]), (6, [7, 1])])
def test_a_block_of_one_class_is_merged_with_those_before_it_within_a_week(
    quiet: int, lengths: list[int]
) -> None:
    frame = history(20_000, days=60)
    frame.loc[frame["sent_at"] >= utc_naive(AS_OF - quiet * DAY), "late"] = 0
    p = problem(block="1d", origins=2)
    blocks = make_blocks(frame, p, AS_OF)
    assert [(block.end - block.start) // DAY for block in blocks] == lengths
    assert blocks[0].end == p.mature(AS_OF)
    assert all(frame["late"].iloc[block.validation].nunique() == 2 for block in blocks)


@pytest.mark.parametrize(("block", "quiet"), [("1d", 9), ("7d", 9), ("12h", 30)])
def test_a_week_of_one_class_is_refused(block: str, quiet: int) -> None:
    frame = history(20_000, days=60)
    frame.loc[frame["sent_at"] >= utc_naive(AS_OF - quiet * DAY), "late"] = 0
    with pytest.raises(HistoryError, match="rows are 0; roc_auc needs both classes") as caught:
        make_blocks(frame, problem(block=block), AS_OF)
    assert caught.value.code == "one_class_in_block"


def test_one_class_is_enough_for_a_metric_without_ranking() -> None:
    frame = history(20_000, days=60).assign(late=0)
    p = problem(block="1d")
    log_loss = p.model_copy(update={"metric": p.metric.model_copy(update={"name": "log_loss"})})
    blocks = make_blocks(frame, log_loss, AS_OF)
    assert [(block.end - block.start) // DAY for block in blocks] == [1, 1, 1]


AUTO = 'origins = "auto"'


@given(WORLDS, PROBLEMS, st.sampled_from(["30d", "7d", "1mo", "45d"]))
@settings(max_examples=40, deadline=None)
def test_the_block_of_the_season_is_the_batch_one_season_earlier(
    world: dict[str, Any], declared: dict[str, Any], season: str
) -> None:
    more = {**declared, "origins": f'origins = {declared["origins"]}\nseason = "{season}"'}
    frame, p, blocks = made(world, more)
    _, _, newest = made(world, declared)
    assert [b.start for b in blocks[: len(newest)]] == [b.start for b in newest]
    seasonal = blocks[len(newest) :]
    assert all(b.seasonal for b in seasonal)
    for block in seasonal:
        assert len(seasonal) == 1
        assert p.validation.season != "none"
        assert p.validation.season.after(block.start) == AS_OF
        assert block.end <= blocks[-2].start, "no row is in two blocks"
        known = frame["sent_at"] < utc_naive(p.mature(block.start))
        assert set(block.train) <= set(np.flatnonzero(known)), "only what was known then"


def test_a_year_of_history_has_a_block_of_last_year_unless_it_is_declared_off() -> None:
    frame = history(20_000, days=500)
    blocks = make_blocks(frame, problem(block="1mo", origins=2), AS_OF)
    assert [b.name for b in blocks] == ["2026-02-02", "2026-01-02", "2025-03-02"]
    off = problem(block="1mo", origins='origins = 2\nseason = "none"')
    assert [b.seasonal for b in make_blocks(frame, off, AS_OF)] == [False, False]
    short = frame[frame["sent_at"] >= utc_naive(AS_OF - 360 * DAY)].reset_index(drop=True)
    assert not any(b.seasonal for b in make_blocks(short, problem(block="1mo"), AS_OF))


@pytest.mark.parametrize(("most", "newest"), [(6, 5), (4, 3), (3, 2), (1, 2)])
def test_the_budget_allows_blocks_and_the_season_is_one_of_them(most: int, newest: int) -> None:
    frame = history(20_000, days=500)
    blocks = make_blocks(frame, problem(block="1mo", origins=AUTO), AS_OF, most)
    assert [b.seasonal for b in blocks] == [False] * newest + [True]


def test_older_blocks_with_little_to_train_on_are_left_out() -> None:
    frame = history(4000, days=40)
    blocks = make_blocks(frame, problem(block="7d", origins=AUTO), AS_OF)
    assert len(blocks) == 4
    assert len(blocks[-1].train) >= len(blocks[0].train) / 4


def test_fewer_blocks_are_made_of_a_short_history() -> None:
    frame = history(2000, days=20)
    assert len(make_blocks(frame, problem(block="7d", origins=4), AS_OF)) == 2


@pytest.mark.parametrize(
    ("count", "days", "block"),
    [(50, 60.0, "7d"), (150, 60.0, "7d"), (5000, 6.0, "7d"), (5000, 60.0, "1q")],
)
def test_a_history_too_short_for_one_block_is_refused(count: int, days: float, block: str) -> None:
    error = (
        rf"wanted at least {MIN_TRAIN} labelled rows before a block of {block} that ends 2026-03-02"
    )
    with pytest.raises(HistoryError, match=error) as caught:
        make_blocks(history(count, days=days), problem(block=block), AS_OF)
    assert caught.value.code == "too_short"


@pytest.mark.parametrize(
    ("start", "name"), [(FIRST, "2026-01-01"), (FIRST + timedelta(hours=6), "2026-01-01T06:00")]
)
def test_a_block_is_named_after_its_origin(start: datetime, name: str) -> None:
    assert Block(start, AS_OF, np.arange(0), np.arange(0)).name == name
