"""Promotion regret compares what was rejected with what was chosen, on the blocks after the decision alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from automl.modeling.losses import BlockLoss
from automl.promotion.regret import BLOCKS, Regret, regret_of
from automl.store import DecisionRecord

WEEK = timedelta(days=7)
START = datetime(2026, 3, 2, tzinfo=UTC)


def decided(outcome: str, *challengers: tuple[str, float]) -> DecisionRecord:
    verdicts = [{"challenger": name, "shrunk": shrunk} for name, shrunk in challengers]
    return DecisionRecord(
        id=1,
        as_of=START,
        attempt=1,
        outcome=outcome,
        reason="",
        content={"verdicts": verdicts},
        decided_at=START,
    )


def lost(blend: str, week: int, loss: float, *, cycle: int | None = None) -> BlockLoss:
    """Loss on the block that begins `week` weeks after the decision, measured a week later."""
    start = START + week * WEEK
    return BlockLoss(
        cycle=START + (week + 1 if cycle is None else cycle) * WEEK,
        blend=blend,
        start=start,
        end=start + WEEK,
        rows=100,
        loss=loss,
        baseline_loss=1.0,
        kind="out_of_sample",
    )


def of(
    decision: DecisionRecord, *losses: BlockLoss, former: str = "old", chosen: str = "old"
) -> Regret:
    return regret_of(decision, chosen, former, START, losses)


def test_a_rejected_challenger_that_did_better_is_regretted() -> None:
    keep = decided("keep", ("weak", 0.001), ("close", 0.01))
    found = of(
        keep, lost("old", 0, 0.5), lost("close", 0, 0.4), lost("old", 1, 0.5), lost("close", 1, 0.5)
    )
    assert found.rejected == "close", "the best of the challengers"
    assert found.gains == pytest.approx((0.2, 0.0))
    assert (found.regret, found.right) == (pytest.approx(0.1), False)
    assert "lost 10.00% less: the decision was wrong" in found.in_words


def test_a_promotion_is_compared_with_the_champion_before() -> None:
    promote = decided("promote", ("new", 0.02), ("other", 0.01))
    losses = [lost("new", 0, 0.4), lost("old", 0, 0.5), lost("other", 0, 0.1)]
    found = of(promote, *losses, chosen="new")
    assert (found.rejected, found.right, found.regret) == ("old", True, 0.0)
    assert found.gain == pytest.approx(-0.25)


def test_only_blocks_after_the_decision_count_and_only_the_next_ones() -> None:
    keep = decided("keep", ("close", 0.01))
    known = [lost("old", -1, 0.5, cycle=1), lost("close", -1, 0.1, cycle=1)]
    own = [lost("old", 0, 0.5, cycle=0), lost("close", 0, 0.1, cycle=0)]
    assert of(keep, *known, *own).right is None
    late = [
        x
        for week in range(BLOCKS + 3)
        for x in (lost("old", week, 0.5), lost("close", week, 0.5 if week < BLOCKS else 0.1))
    ]
    assert of(keep, *late).gains == (0.0,) * BLOCKS


def test_blends_are_compared_within_one_cycle_alone() -> None:
    keep = decided("keep", ("close", 0.01))
    found = of(keep, lost("old", 0, 0.5, cycle=1), lost("close", 0, 0.4, cycle=2))
    assert found.right is None
    assert "no later cycle scored both" in found.in_words


@pytest.mark.parametrize(
    ("decision", "why"),
    [
        (decided("keep"), "nothing was rejected"),
        (decided("keep", ("close", 0.01)), "no block after it"),
    ],
)
def test_what_is_not_known_is_said(decision: DecisionRecord, why: str) -> None:
    found = of(decision)
    assert (found.gain, found.regret, found.right) == (None, None, None)
    assert found.in_words.startswith("not known: ")
    assert why in found.in_words
