"""The decision: its formula, and laws that hold for any evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from math import erf, exp, inf, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.promotion.decide import decide
from automl.promotion.evidence import Duel, duels
from automl.promotion.noise import block_weights
from tests.support.decisions import CONFIDENCE, FIRST, decide_on, duel, verdict_of, week_of_losses

LAW = settings(max_examples=100, deadline=None, derandomize=True)


gains_of_blocks = st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=12)


@st.composite
def fields(draw: st.DrawFn) -> list[Duel]:
    """One to six challengers, each with some gaps and some in-sample blocks."""
    rivals = []
    for number in range(draw(st.integers(1, 6))):
        gains = draw(gains_of_blocks)
        ages = sorted(draw(st.sets(st.integers(0, 15), min_size=len(gains), max_size=len(gains))))
        kinds = tuple(draw(st.sampled_from(["out_of_sample", "in_sample"])) for _ in gains)
        starts = tuple(FIRST - timedelta(weeks=age) for age in ages)
        rivals.append(
            Duel(
                challenger=f"r{number}",
                gains=tuple(gains),
                kinds=kinds,
                ages=tuple(ages),
                blocks=starts,
            )
        )
    return rivals


# ---------------------------------------------------------------- the formula


def slow_noise(rivals: Sequence[Duel]) -> tuple[float, float]:
    """Variance of a block's gain and correlation of neighbouring blocks, difference by difference."""
    squares, freedom, products, scale, pairs = 0.0, 0.0, 0.0, 0.0, 0
    for d in rivals:
        steps = [a - b for a, b in zip(d.gains, d.gains[1:], strict=False)]
        gaps = [b - a for a, b in zip(d.ages, d.ages[1:], strict=False)]
        unlike = [x * x for x in steps if abs(x) > 1e-9]
        cut = 2.5**2 * float(np.median(unlike)) / 0.4549 if len(unlike) > 2 else inf
        squares += sum(min(x * x, cut) / 2 / gap for x, gap in zip(steps, gaps, strict=True))
        freedom += sum(1 / gap for gap in gaps)
        plain = [x * x <= cut for x in steps]
        both = [i for i in range(len(steps) - 1) if plain[i] and plain[i + 1]]
        if len(steps) > 2 and both:
            products += sum(steps[i] * steps[i + 1] for i in both)
            scale += len(both) * float(
                np.mean([x * x for x, p in zip(steps, plain, strict=True) if p])
            )
            pairs += len(both)
    if freedom < 2:
        at = [0.0, *(d.gains[0] for d in rivals)]
        spread2 = float(np.median([abs(x - np.median(at)) for x in at])) ** 2 / 0.4549
        squares, freedom = squares + (2 - freedom) * max(0.01**2, 2 * spread2), 2
    rho = 0.2
    if scale:
        rho = min(0.6, max(0.0, (16 * 0.2 + pairs * (1 + 2 * products / scale)) / (16 + pairs)))
    return max(squares / freedom, 0.002**2) / (1 - rho), rho


def slow_verdicts(rivals: Sequence[Duel]) -> dict[str, tuple[float, float, float, float, float]]:
    """m, n_eff, m_hat, sd and P of every challenger, term by term."""
    weights = [
        [
            0.85**a * (1.0 if k == "out_of_sample" else 0.5)
            for a, k in zip(d.ages, d.kinds, strict=True)
        ]
        for d in rivals
    ]
    m = [
        sum(w * g for w, g in zip(ws, d.gains, strict=True)) / sum(ws)
        for ws, d in zip(weights, rivals, strict=True)
    ]
    s2, rho = slow_noise(rivals)
    n_eff, spread_noise = [], []
    for ws in weights:
        effective = sum(ws) ** 2 / sum(w * w for w in ws)
        # the scale of weights cancels in the line above; evidence that is all old or all sweep is worth less
        n_eff.append(effective * min(1.0, max(ws)) * (1 - rho) / (1 + rho))
        spread_noise.append(1 / effective / 2)  # the champion's half is common to all means
    se2 = [s2 / n for n in n_eff]
    centre = sum(m) / len(m)
    spread = sum((x - centre) ** 2 for x in m) / (len(m) - 1) if len(m) > 1 else 0.0
    tau2 = min(0.03**2, max(0.003**2, spread - s2 * sum(spread_noise) / len(spread_noise)))
    posteriors = {}
    for d, mean, n, e in zip(rivals, m, n_eff, se2, strict=True):
        sorts = [(0.9, tau2), (0.1, 0.1**2)]  # most true gains, and large ones
        fits = [p * exp(-(mean**2) / 2 / (t + e)) / sqrt(t + e) for p, t in sorts]
        shares = [x / sum(fits) for x in fits]
        means = [mean * t / (t + e) for _, t in sorts]
        variances = [t * e / (t + e) for _, t in sorts]
        m_hat = sum(s * x for s, x in zip(shares, means, strict=True))
        sd = sqrt(
            sum(
                s * (v + (x - m_hat) ** 2) for s, v, x in zip(shares, variances, means, strict=True)
            )
        )
        better = sum(
            s * (1 + erf(x / sqrt(2 * v))) / 2
            for s, v, x in zip(shares, variances, means, strict=True)
        )
        posteriors[d.challenger] = (mean, n, m_hat, sd, better)
    return posteriors


@LAW
@given(fields())
def test_verdicts_equal_the_formula_computed_term_by_term(rivals: list[Duel]) -> None:
    wanted = slow_verdicts(rivals)

    for v in decide_on(*rivals).verdicts:
        assert (v.mean, v.n_effective, v.shrunk, v.sd, v.probability) == pytest.approx(
            wanted[v.challenger], rel=1e-6, abs=1e-9
        )


@LAW
@given(fields(), st.floats(0.55, 0.95), st.floats(0, 1))
def test_a_promoted_challenger_passes_every_rule(
    rivals: list[Duel], confidence: float, share: float
) -> None:
    decision = decide_on(
        *rivals, confidence=confidence, share={d.challenger: share for d in rivals}
    )

    if decision.outcome == "keep":
        assert decision.blend == "champion"
        return
    chosen = verdict_of(decision, decision.blend)
    duel_of = next(d for d in rivals if d.challenger == decision.blend)
    gains, weights = duel_of.gains, block_weights(duel_of, 0.85)
    new = max(0.2, 1 - share)
    block_sd = new * sqrt(
        slow_noise(
            [replace(d, gains=tuple(g / new for g in d.gains)) for d in rivals],
        )[0]
    )
    assert chosen.shrunk > (0 if share >= 0.2 else 0.001)
    assert chosen.probability >= (confidence if chosen.out_of_sample else 0.95)
    assert gains[0] > -2 * block_sd
    assert len(gains) < 4 or np.average(np.array(gains) > 0, weights=weights) >= 0.499999
    assert chosen.shrunk == max(v.shrunk for v in decision.verdicts if v.passed)


# ---------------------------------------------------------------- laws


@LAW
@given(fields(), st.integers(1, 12), st.floats(0.51, 0.99), st.floats(0, 1))
def test_a_twin_is_never_promoted(
    rivals: list[Duel], blocks: int, confidence: float, share: float
) -> None:
    twin = duel("twin", [0.0] * blocks)

    assert decide_on(*rivals, twin, confidence=confidence, share={"twin": share}).blend != "twin"


@LAW
@given(fields(), st.randoms(use_true_random=False))
def test_the_order_of_challengers_changes_nothing(rivals: list[Duel], random: object) -> None:
    rivals = [
        *rivals,
        replace(rivals[0], challenger="equal"),
    ]  # two whose numbers are equal
    shuffled = list(rivals)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert decide_on(*shuffled) == decide_on(*rivals)


@LAW
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_the_order_in_which_evidence_arrives_changes_nothing(seed: int, random: object) -> None:
    losses = week_of_losses(np.random.default_rng(seed), np.zeros(4), block=0)
    losses += week_of_losses(np.random.default_rng(seed + 1), np.zeros(4), block=1)
    shuffled = list(losses)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert decide(duels(shuffled, "0"), "0", 0.8, {}) == decide(duels(losses, "0"), "0", 0.8, {})


@LAW
@given(
    st.floats(1e-4, 0.2),
    st.integers(1, 20),
    st.integers(0, 5),
    st.lists(st.floats(-0.05, 0.05), min_size=2, max_size=6),
)
def test_one_more_out_of_sample_block_of_the_same_gain_never_lowers_the_probability(
    gain: float, blocks: int, sweep: int, other: list[float]
) -> None:
    def probability(out_of_sample: int) -> float:
        own = duel("own", [gain] * (out_of_sample + sweep), out_of_sample=out_of_sample)
        return verdict_of(decide_on(own, duel("other", other)), "own").probability

    assert probability(blocks + 1) >= probability(blocks) - 1e-12


@LAW
@given(fields())
def test_shrinkage_only_ever_pulls_towards_zero(rivals: list[Duel]) -> None:
    for v in decide_on(*rivals).verdicts:
        assert abs(v.shrunk) <= abs(v.mean)
        assert v.shrunk * v.mean >= 0
        assert v.low <= v.shrunk <= v.high


@LAW
@given(gains_of_blocks)
def test_the_same_evidence_is_worth_less_when_it_took_part_in_choosing(gains: list[float]) -> None:
    out_of_sample = verdict_of(decide_on(duel("r", gains)), "r")
    sweep = verdict_of(decide_on(duel("r", gains, out_of_sample=0)), "r")

    assert sweep.n_effective == pytest.approx(out_of_sample.n_effective / 2)
    assert abs(sweep.probability - 0.5) <= abs(out_of_sample.probability - 0.5) + 1e-12
    assert sweep.needed == 0.95


@LAW
@given(fields(), fields())
def test_what_else_was_tried_is_never_promoted_and_moves_no_mean(
    rivals: list[Duel], tried: list[Duel]
) -> None:
    others = [replace(d, challenger=f"tried {d.challenger}") for d in tried]
    alone = decide_on(*rivals)
    together = decide(rivals, "champion", CONFIDENCE, {}, others=others)

    assert [v.challenger for v in together.verdicts] == [v.challenger for v in alone.verdicts]
    assert [v.mean for v in together.verdicts] == [v.mean for v in alone.verdicts]
    assert together == decide(rivals, "champion", CONFIDENCE, {}, others=others[::-1])


def test_a_lead_is_believed_less_where_all_that_was_tried_lies_close_together() -> None:
    rival = duel("r", [0.02, 0.005, 0.015, 0.01])
    luck = [0.005, 0.005, -0.005, -0.005]  # neither like its neighbours nor always the opposite
    close = [duel(f"t{i}", luck) for i in range(8)]
    apart = [duel(f"t{i}", [x + y for y in luck]) for i, x in enumerate((-0.03, 0.03) * 4)]

    def shrunk(others: Sequence[Duel]) -> float:
        return verdict_of(decide([rival], "champion", CONFIDENCE, {}, others=others), "r").shrunk

    assert shrunk(close) < shrunk(apart) / 2


def test_what_is_hopelessly_behind_makes_no_lead_more_credible() -> None:
    rival = duel("r", [0.02, 0.005, 0.015, 0.01])
    near = [duel(f"t{i}", [0.004, -0.004] * 2) for i in range(4)]
    far = [duel(f"far{i}", [-0.2 * i, -0.3 * i]) for i in range(1, 9)]

    assert decide([rival], "champion", CONFIDENCE, {}, others=near) == decide(
        [rival], "champion", CONFIDENCE, {}, others=[*near, *far]
    )
