"""Evidence: blends are compared only on blocks where one cycle scored both, in the stricter kind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.modeling.losses import BlockLoss, Evidence, kind_of
from automl.promotion.evidence import (
    Duel,
    attribute,
    correlations,
    disjoint,
    duels,
    new_shares,
    shown_probability,
)

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
CHAMPION = "champion"
LAW = settings(max_examples=100, deadline=None, derandomize=True)


def week(number: int) -> datetime:
    return FIRST + timedelta(weeks=number)


def entry(
    blend: str,
    block: int,
    loss: float,
    *,
    cycle: int = 9,
    baseline: float = 1.0,
    kind: Evidence = "out_of_sample",
) -> BlockLoss:
    return BlockLoss(
        cycle=week(cycle),
        blend=blend,
        start=week(block),
        end=week(block + 1),
        rows=100,
        loss=loss,
        baseline_loss=baseline,
        kind=kind,
    )


@st.composite
def worlds(draw: st.DrawFn) -> list[BlockLoss]:
    """Some blends on some blocks in some cycles, each at most once, in any order."""
    places = st.tuples(st.integers(0, 3), st.sampled_from([CHAMPION, "a", "b"]), st.integers(0, 5))
    numbers = st.floats(1e-3, 2.0)
    kinds = st.sampled_from(["out_of_sample", "in_sample"])
    return [
        entry(blend, block, draw(numbers), cycle=cycle, baseline=draw(numbers), kind=draw(kinds))
        for cycle, blend, block in draw(st.lists(places, unique=True, max_size=40))
    ]


def slow_duel(losses: Sequence[BlockLoss], challenger: str) -> Duel | None:
    """The definition as a slow loop: newest block first, newest cycle that scored both."""
    starts = sorted({x.start for x in losses}, reverse=True)
    gains, kinds, ages, blocks, ends = [], [], [], [], []
    for age, start in enumerate(starts):
        here = [x for x in losses if x.start == start]
        for cycle in sorted({x.cycle for x in here}, reverse=True):
            challengers = [x for x in here if x.cycle == cycle and x.blend == challenger]
            champions = [x for x in here if x.cycle == cycle and x.blend == CHAMPION]
            if challengers and champions:
                gains.append(
                    (champions[0].loss - challengers[0].loss)
                    / max(champions[0].loss, 0.05 * champions[0].baseline_loss)
                )
                kinds.append(
                    "out_of_sample"
                    if challengers[0].kind == "out_of_sample"
                    and champions[0].kind == "out_of_sample"
                    else "in_sample"
                )
                ages.append(age)
                blocks.append(start)
                ends.append(challengers[0].end)
                break
    return (
        Duel(
            challenger=challenger,
            gains=tuple(gains),
            kinds=tuple(kinds),
            ages=tuple(ages),
            blocks=tuple(blocks),
            ends=tuple(ends),
        )
        if gains
        else None
    )


@LAW
@given(worlds())
def test_duels_equal_the_slow_reading_of_their_definition(losses: list[BlockLoss]) -> None:
    found = {duel.challenger: duel for duel in duels(losses, CHAMPION)}

    assert found == {name: duel for name in ("a", "b") if (duel := slow_duel(losses, name))}


@LAW
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_the_evidence_changes_nothing(losses: list[BlockLoss], random: object) -> None:
    shuffled = list(losses)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert {d.challenger: d for d in duels(shuffled, CHAMPION)} == {
        d.challenger: d for d in duels(losses, CHAMPION)
    }


@LAW
@given(worlds())
def test_who_gains_on_a_block_loses_when_the_roles_are_swapped(losses: list[BlockLoss]) -> None:
    forth = {d.challenger: d for d in duels(losses, CHAMPION)}.get("a")
    back = {d.challenger: d for d in duels(losses, "a")}.get(CHAMPION)

    assert (forth is None) == (back is None)
    if forth and back:
        assert forth.blocks == back.blocks
        assert forth.kinds == back.kinds
        assert [g > 0 for g in forth.gains] == [g < 0 for g in back.gains]


def test_losses_of_different_cycles_are_never_compared() -> None:
    losses = [entry(CHAMPION, 3, 0.5, cycle=4), entry("a", 3, 0.1, cycle=5)]

    assert duels(losses, CHAMPION) == []


def test_the_newest_cycle_that_scored_both_counts() -> None:
    losses = [
        entry(CHAMPION, 3, 0.50, cycle=4),
        entry("a", 3, 0.40, cycle=4),
        entry(CHAMPION, 3, 0.50, cycle=5),
        entry("a", 3, 0.45, cycle=5),
        entry("a", 3, 0.01, cycle=6),  # the champion was not scored with it
    ]

    (duel,) = duels(reversed(losses), CHAMPION)

    assert duel.gains == pytest.approx([0.1])


@pytest.mark.parametrize(
    ("champion", "challenger", "both"),
    [
        ("out_of_sample", "out_of_sample", "out_of_sample"),
        ("out_of_sample", "in_sample", "in_sample"),
        ("in_sample", "out_of_sample", "in_sample"),
        ("in_sample", "in_sample", "in_sample"),
    ],
)
def test_a_block_is_out_of_sample_only_if_it_is_for_both(
    champion: Evidence, challenger: Evidence, both: Evidence
) -> None:
    (duel,) = duels(
        [entry(CHAMPION, 3, 0.5, kind=champion), entry("a", 3, 0.4, kind=challenger)], CHAMPION
    )

    assert duel.kinds == (both,)


def test_ages_count_from_the_newest_block_of_anybody() -> None:
    losses = [entry(CHAMPION, block, 0.5) for block in (1, 2, 3, 4)] + [
        entry("a", block, 0.4) for block in (1, 3)
    ]

    (duel,) = duels(losses, CHAMPION)

    assert duel.blocks == (week(3), week(1))
    assert duel.ages == (1, 3)


def test_a_champion_without_loss_does_not_make_gains_explode() -> None:
    (duel,) = duels(
        [entry(CHAMPION, 3, 0.0, baseline=0.4), entry("a", 3, 0.01, baseline=0.4)], CHAMPION
    )

    assert duel.gains == pytest.approx([-0.01 / (0.05 * 0.4)])


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("whose", [CHAMPION, "a"])
def test_a_block_on_which_a_loss_is_undefined_is_no_evidence(broken: float, whose: str) -> None:
    sound = [entry(CHAMPION, 2, 0.5), entry("a", 2, 0.4)]
    newest = [entry(name, 3, broken if name == whose else 0.5) for name in (CHAMPION, "a")]

    (duel,) = duels([*sound, *newest], CHAMPION)

    assert duel.blocks == (week(2),)


def test_a_champion_has_no_duel_with_itself() -> None:
    assert duels([entry(CHAMPION, 3, 0.5)], CHAMPION) == []


# ---------------------------------------------------------------- blocks that overlap


def spans(*days: tuple[int, int]) -> list[BlockLoss]:
    """Champion and challenger on blocks that last from one day to another, all scored at the end."""
    at = [(FIRST + timedelta(days=a), FIRST + timedelta(days=b)) for a, b in days]
    return [
        BlockLoss(
            cycle=week(9),
            blend=name,
            start=start,
            end=end,
            rows=100,
            loss=loss,
            baseline_loss=1.0,
            kind="out_of_sample",
        )
        for start, end in at
        for name, loss in ((CHAMPION, 0.5), ("a", 0.4))
    ]


@pytest.mark.parametrize(
    ("days", "shares", "ages"),
    [
        ([(0, 7), (7, 14), (14, 21)], [1, 1, 1], [0, 1, 2]),
        (
            [(0, 7), (14, 21)],
            [1, 1],
            [0, 1],
        ),  # a gap is no evidence, and no more than a block older
        ([(d, d + 7) for d in range(15)], [1, *[1 / 7] * 14], [0] * 4 + [1] * 7 + [2] * 4),
        ([(0, 14), (7, 14)], [1, 0.5], [0, 0]),  # merged later
        ([(0, 7), (4, 11), (7, 14)], [1, 3 / 7, 4 / 7], [0, 0, 1]),
    ],
    ids=["disjoint", "gap", "daily blocks of a week", "one within a longer one", "one between two"],
)
def test_a_block_counts_by_what_no_newer_one_covers_and_ages_by_whole_blocks(
    days: list[tuple[int, int]], shares: list[float], ages: list[int]
) -> None:
    (duel,) = duels(spans(*days), CHAMPION)

    assert new_shares(duel) == pytest.approx(shares)
    assert list(duel.ages) == ages
    assert disjoint(duel) is (min(shares) == 1)


@pytest.mark.parametrize(
    "days", [[(0, 7), (7, 14)], [(0, 7), (4, 11), (7, 14)], [(0, 14), (7, 14)]]
)
def test_noise_is_shared_as_the_days_are(days: list[tuple[int, int]]) -> None:
    (duel,) = duels(spans(*days), CHAMPION)
    luck = np.random.default_rng(0).normal(size=(40_000, 14))  # of a day
    newest = sorted(days, reverse=True)
    drawn = np.corrcoef([luck[:, a:b].mean(axis=1) for a, b in newest])

    assert correlations(duel) == pytest.approx(drawn, abs=0.02)


def test_a_duel_that_does_not_say_when_its_blocks_end_has_none_that_overlap() -> None:
    duel = Duel(
        challenger="a",
        gains=(0.1, 0.2),
        kinds=("out_of_sample",) * 2,
        ages=(0, 1),
        blocks=(week(1), week(0)),
    )

    assert disjoint(duel)
    assert list(new_shares(duel)) == [1, 1]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.79999, "0.799"), (0.8, "0.800"), (0.9999, "0.999"), (1.0, "1.000"), (0.7, "0.700")],
)
def test_a_probability_that_is_not_reached_is_not_shown_as_if_it_were(
    value: float, shown: str
) -> None:
    assert shown_probability(value) == shown


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (week(3) - timedelta(microseconds=1), "in_sample"),
        (week(3), "out_of_sample"),
        (week(4), "out_of_sample"),
        (week(2), "in_sample"),
    ],
)
def test_a_block_is_out_of_sample_from_the_end_of_the_known_labels(
    start: datetime, kind: Evidence
) -> None:
    assert kind_of(week(3), start) == kind


# ---------------------------------------------------------------- what a gain is made of

small_losses = st.floats(0.001, 5.0)


@LAW
@given(small_losses, small_losses, small_losses)
def test_fresh_data_and_new_recipe_sum_to_the_whole_gain(
    published: float, refit: float, challenger: float
) -> None:
    gain = attribute(published, refit, challenger, baseline=1.0)

    assert gain.total == pytest.approx((published - challenger) / max(published, 0.05), abs=1e-9)


def test_a_gain_is_split_at_the_champion_fitted_again() -> None:
    gain = attribute(0.50, 0.45, 0.40, baseline=1.0)

    assert (gain.fresh, gain.recipe) == (pytest.approx(0.1), pytest.approx(0.1))


def test_a_champion_that_is_kept_gains_from_fresh_data_alone() -> None:
    assert attribute(0.50, 0.45, 0.45, baseline=1.0).recipe == 0
