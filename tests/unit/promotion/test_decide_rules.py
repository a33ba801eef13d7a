"""The rules of the decision, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from automl.promotion.decide import decide
from automl.promotion.evidence import Duel, shown_probability
from tests.support.decisions import CONFIDENCE, decide_on, duel, verdict_of


def test_in_sample_evidence_alone_needs_095() -> None:
    gains = [0.004, 0.002, 0.004]

    tested = decide_on(duel("r", gains, out_of_sample=1))
    chosen_by_it = decide_on(duel("r", gains, out_of_sample=0))

    assert tested.blend == "r"
    # enough for out-of-sample evidence
    assert verdict_of(chosen_by_it, "r").probability > CONFIDENCE
    assert chosen_by_it.blend == "champion"
    assert (
        "its P(better) is below what promotion needs while no block is out-of-sample"
        in chosen_by_it.reason
    )
    assert "0.950 needed" in chosen_by_it.reason
    assert "out-of-sample" in chosen_by_it.reason


def test_overwhelming_in_sample_evidence_promotes() -> None:
    rivals = [
        duel("r", [0.05, 0.052, 0.048, 0.05], out_of_sample=0),
        duel("null", [0.001, -0.001, 0.0, 0.001], out_of_sample=0),
    ]

    assert decide_on(*rivals).blend == "r"


def test_a_confidence_above_095_also_holds_for_in_sample_evidence() -> None:
    assert (
        verdict_of(decide_on(duel("r", [0.01], out_of_sample=0), confidence=0.99), "r").needed
        == 0.99
    )


def test_a_challenger_that_collapses_on_the_newest_block_is_refused() -> None:
    steady = [duel(f"null{i}", [0.002, -0.002] * 4) for i in range(8)]
    history = [0.08] * 7

    fine = decide_on(duel("r", [0.08, *history]), *steady)
    collapsed = decide_on(duel("r", [-0.08, *history]), *steady)

    assert fine.blend == "r"
    v = verdict_of(collapsed, "r")
    assert v.shrunk > 0.001  # everything but the newest block speaks for it
    assert v.probability >= v.needed
    assert collapsed.blend == "champion"
    assert "newest block" in v.reason


def test_a_challenger_that_wins_rarely_but_by_much_is_refused() -> None:
    nulls = [duel(f"null{i}", [0.0] * 5) for i in range(6)]

    v = verdict_of(decide_on(duel("r", [0.05, 0.05, -0.001, -0.001, -0.001]), *nulls), "r")

    assert v.probability >= v.needed
    assert not v.passed
    # 2 of 5 blocks, the newest two: (1 + 0.85) / (1 + 0.85 + ... + 0.85^4) = 0.4988 of the weight
    assert "49% of the blocks" in v.reason


@pytest.mark.parametrize(
    ("gains", "agreed"),
    [
        ([0.08] * 5 + [-0.001] * 20, True),  # 57 % of the weight on a fifth of the blocks
        ([0.09] * 4 + [-0.001] * 20, False),  # 49 %
        ([-0.001] * 4 + [0.04] * 12, False),  # three quarters of the blocks, 48 % of the weight
        ([0.05, -0.001, 0.05, -0.001], True),
    ],
)
def test_blocks_of_half_of_the_weight_must_agree(gains: list[float], agreed: bool) -> None:
    v = verdict_of(
        decide_on(duel("r", gains), *[duel(f"n{i}", [0.001, -0.001] * 3) for i in range(5)]),
        "r",
    )

    assert v.probability >= v.needed
    assert v.shrunk > v.margin
    assert v.passed is agreed
    assert agreed or "of the blocks, newer ones counting more" in v.reason


@pytest.mark.parametrize("noise", [0.014, 0.05])
@pytest.mark.parametrize("gain", [0.1, 0.2])
def test_a_clear_gain_is_not_shrunk_to_nothing_among_rivals_that_lie_close(
    gain: float, noise: float
) -> None:
    rng = np.random.default_rng(6)
    close = [duel(f"n{i}", list(rng.normal(0, noise, 4))) for i in range(8)]
    v = verdict_of(decide_on(duel("r", list(gain + rng.normal(0, noise, 12))), *close), "r")

    assert v.passed
    assert v.shrunk > 0.7 * v.mean


def test_an_equal_rival_is_still_shrunk_by_much() -> None:
    rng = np.random.default_rng(7)
    shares = []
    for _ in range(50):
        close = [duel(f"n{i}", list(rng.normal(0, 0.05, 4))) for i in range(8)]
        v = verdict_of(decide_on(duel("r", list(rng.normal(0, 0.05, 6))), *close), "r")
        shares.append(v.shrunk / v.mean)

    assert np.mean(shares) < 0.45


@pytest.mark.parametrize(
    ("share", "promoted"), [(0.0, False), (0.19, False), (0.2, True), (1.0, True)]
)
def test_the_switching_margin_is_waived_for_a_blend_that_holds_a_fifth_of_the_champion(
    share: float, promoted: bool
) -> None:
    decision = decide_on(duel("r", [0.00105] * 20), confidence=0.6, share={"r": share})

    assert 0 < verdict_of(decision, "r").shrunk < 0.001
    assert (decision.outcome == "promote") is promoted


def test_of_several_that_pass_the_largest_gain_is_promoted() -> None:
    nulls = [duel(f"null{i}", [0.001, -0.001, 0.001, -0.001]) for i in range(3)]

    decision = decide_on(duel("good", [0.03] * 4), duel("better", [0.06] * 4), *nulls)

    assert [v.challenger for v in decision.verdicts if v.passed] == ["better", "good"]
    assert decision.blend == "better"


@pytest.mark.parametrize(
    "rivals",
    [[], [Duel(challenger="r", gains=(), kinds=(), ages=(), blocks=())]],
    ids=["none", "one without a block"],
)
def test_without_evidence_the_champion_is_kept(rivals: list[Duel]) -> None:
    decision = decide_on(*rivals)

    assert (decision.outcome, decision.blend, decision.verdicts) == ("keep", "champion", ())


def test_the_reason_is_a_sentence_with_the_numbers_that_decided() -> None:
    decision = decide_on(
        duel("r", [0.04, 0.05, 0.04], out_of_sample=2), duel("null", [0.001, -0.001, 0.0])
    )
    v = verdict_of(decision, "r")

    assert decision.reason == (
        f"promoted: raw gain {v.mean:+.2%}, shrunk {v.shrunk:+.2%}, 0.10% needed; "
        f"P(better) {shown_probability(v.probability)}, 0.800 needed; "
        f"90 % interval {v.low:+.2%} to {v.high:+.2%}; 3 blocks, 2 out-of-sample"
    )


def test_a_blend_that_was_rolled_back_needs_more() -> None:
    rival, nulls = (
        duel("r", [0.006, 0.004, 0.006, 0.005]),
        [duel(f"null{i}", [0.004, -0.006, 0.006, -0.004]) for i in range(3)],
    )
    fresh = decide([rival, *nulls], "champion", CONFIDENCE, {})
    reverted = decide([rival, *nulls], "champion", CONFIDENCE, {}, least={"r": 0.9})

    assert fresh.blend == "r"
    assert CONFIDENCE < verdict_of(fresh, "r").probability < 0.9
    assert reverted.blend == "champion"
    assert "its P(better) is below what promotion needs" in reverted.reason
    assert "0.900 needed" in reverted.reason
    assert verdict_of(reverted, "null0") == verdict_of(
        fresh, "null0"
    )  # other challengers are unaffected


def test_a_lower_least_confidence_lowers_nothing() -> None:
    decision = decide(
        [duel("r", [0.01], out_of_sample=0)], "champion", CONFIDENCE, {}, least={"r": 0.6}
    )

    assert verdict_of(decision, "r").needed == 0.95


def test_after_a_shift_old_blocks_count_less() -> None:
    rival = duel("r", [0.03, 0.03, *[-0.01] * 6])
    calm = verdict_of(decide([rival], "champion", CONFIDENCE, {}), "r")
    shifted = verdict_of(decide([rival], "champion", CONFIDENCE, {}, shifted=True), "r")

    weights = [0.6**age for age in range(8)]
    by_hand = sum(w * g for w, g in zip(weights, rival.gains, strict=True)) / sum(weights)
    assert shifted.mean == pytest.approx(by_hand)
    assert shifted.mean > calm.mean
    assert shifted.n_effective < calm.n_effective
