"""Evidence in, decision out; a pure function of numbers. A tie never promotes.

Assumes that relative losses of neighbouring blocks vary alike for all challengers; if one is far
noisier, its probability is too high. Sources: paired relative block differences, discounted by age and
by how the evidence was made; the effective number of autocorrelated blocks, n (1 - rho) / (1 + rho) (Bayley
and Hammersley 1946, JRSS 8); shrinkage towards zero by the spread over challengers, a normal-normal
model by the method of moments (Morris 1983, JASA 78; DerSimonian and Laird 1986), because the best
of many always looks good (Efron 2011, "Tweedie's formula and selection bias", JASA 106).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from automl.evidence import BlockLoss, Duel, duels

__all__ = [
    "PROBATION_CYCLES",
    "REVERTED_CONFIDENCE",
    "REVERTED_CYCLES",
    "SWEEP_CONFIDENCE",
    "YOUNG_CONFIDENCE",
    "YOUNG_CYCLES",
    "Decision",
    "Probation",
    "Verdict",
    "decide",
    "probation",
]

DISCOUNT = 0.85  # per cycle of age
SHIFTED_DISCOUNT = 0.6  # after a sudden shift old blocks speak of another world
SWEEP_WEIGHT = 0.5  # of evidence that took part in choosing
SWEEP_CONFIDENCE = 0.95  # needed when no block is virgin
REVERTED_CONFIDENCE = 0.9  # needed by a blend that was rolled back, for so many cycles
REVERTED_CYCLES = 5
NOISE_FLOOR = 0.002  # block standard deviation is never believed to be smaller
PRIOR_SD = (0.003, 0.03)  # bounds of the prior's standard deviation of true advantages
YOUNG_CYCLES, YOUNG_CONFIDENCE = (
    3,
    0.7,
)  # a problem's first champions have not proved themselves yet
LEAST_NEW = (
    0.2  # share of a blend that is not the champion, by which its gains are scaled, at least
)
MARGIN = 0.001  # cost of switching; none for a blend that holds a fifth of the champion
ANCHORED = 0.2
MANY_BLOCKS = 4  # from here on, at least half of the blocks must agree
PROBATION_CYCLES = 3  # after a promotion, in which the old champion is held against the new one
REVERT = 0.8  # probability that a new champion is worse than the old one, at which it goes
REVERT_BLOCKS = 2  # virgin ones, at least


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence says about one challenger; gains are relative losses, 0.01 = 1 %."""

    challenger: str
    mean: float
    shrunk: float
    sd: float
    probability: float  # that it is better
    needed: float
    blocks: int
    virgin: int
    n_effective: float
    newest: float
    low: float  # 90 % interval of the shrunken gain
    high: float
    passed: bool
    reason: str  # the first rule that it failed; empty if it passed


@dataclass(frozen=True, slots=True)
class Decision:
    """Promote a challenger, or keep the champion and refit it."""

    outcome: Literal["promote", "keep"]
    blend: str
    reason: str
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Probation:
    """How a new champion does against the one that it dethroned, on blocks that chose neither."""

    outcome: Literal["revert", "stay"]
    probability: float  # that the new one is worse
    worse: float  # mean relative loss above the old one's, 0.01 = 1 %
    blocks: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Field:
    """What all challengers together say: noise of a block, spread of true gains, memory."""

    variance: float
    tau2: float
    discount: float


def decide(
    duels: Sequence[Duel],
    champion: str,
    confidence: float,
    champion_share: Mapping[str, float],
    *,
    sweep_confidence: float = SWEEP_CONFIDENCE,
    least: Mapping[str, float] | None = None,
    others: Sequence[Duel] = (),
    shifted: bool = False,
) -> Decision:
    """Judge every challenger against the champion.

    Parameters
    ----------
    duels
        One per challenger, newest block first.
    champion
        Id of the champion's blend; empty if there is none yet.
    confidence
        Probability of being better that promotion needs, in (0.5, 1).
    champion_share
        Share of each challenger that is the champion, 0..1: the weights that both give alike. Only the
        rest can gain or lose, and its gains vary as much less as it is smaller; so they are weighed as
        those of a whole switch, and told as they are.
    sweep_confidence
        Probability needed while no block is virgin; a first cycle, which has no champion to protect,
        asks for no more than `confidence`.
    least
        Probability that single challengers need at least, whatever their evidence: what was rolled
        back before asks for `REVERTED_CONFIDENCE`.
    others
        Duels of what else was tried. They cannot be promoted, but they tell how far apart recipes
        are, and so how much of the best one's lead is luck. Those more than 3 % behind are left out:
        how bad the bad ones are says nothing of how good a good one can be.
    shifted
        The champion's newest loss is an outlier against its past: old blocks count less.
    """
    new = {d.challenger: _new_part(champion_share.get(d.challenger, 0.0)) for d in duels}
    ordered = sorted(
        (_scaled(d, 1 / new[d.challenger]) for d in duels if d.gains), key=lambda d: d.challenger
    )  # ties and sums must not depend on order
    field = _field(ordered, others, SHIFTED_DISCOUNT if shifted else DISCOUNT)
    needed = {d.challenger: _needed(d, confidence, sweep_confidence, least or {}) for d in ordered}
    verdicts = [_verdict(d, field, needed[d.challenger], new[d.challenger]) for d in ordered]
    passed = sorted((v for v in verdicts if v.passed), key=lambda v: -v.shrunk)
    if passed:
        best = passed[0]
        return Decision("promote", best.challenger, f"promoted: {_numbers(best)}", tuple(verdicts))
    if not verdicts:
        return Decision("keep", champion, "kept: no challenger to judge", ())
    best = max(verdicts, key=lambda v: v.shrunk)
    return Decision("keep", champion, f"kept: {best.reason}; {_numbers(best)}", tuple(verdicts))


def probation(
    losses: Iterable[BlockLoss], champion: str, dethroned: str, since: datetime
) -> Probation:
    """Whether a new champion must give its place back to the one that it dethroned.

    Only virgin blocks that begin at or after `since`, the end of the labels that the promotion knew, count. There are two rivals
    and no choice among many, so nothing is shrunk: P(worse) is Student's t of the mean difference, with
    the freedom that all duels against the champion leave for the noise of a block. Assumes what
    `decide` does; two equal champions are told apart wrongly about once in eight looks, which costs
    a refit and no accuracy.

    Parameters
    ----------
    losses
        All evidence; what other blends did on the blocks tells how noisy blocks are.
    champion, dethroned
        Blend ids of the new and of the old champion.
    """
    every = duels(losses, champion)
    mine = next((_since(d, since) for d in every if d.challenger == dethroned), None)
    blocks = len(mine.gains) if mine else 0
    if mine is None or blocks < REVERT_BLOCKS:
        reason = f"{blocks} virgin blocks since the promotion, {REVERT_BLOCKS} needed"
        return Probation("stay", 0.5, 0.0, blocks, reason)
    weights = _weights(mine, DISCOUNT)
    worse = float(np.average(mine.gains, weights=weights))
    se = float(np.sqrt(_pooled_variance(every) / _effective(weights, mine.gains)))
    probability = float(stats.t.cdf(worse / se, df=max(1, sum(len(d.gains) - 1 for d in every))))
    outcome: Literal["revert", "stay"] = "revert" if probability >= REVERT else "stay"
    reason = (
        f"the new champion is {worse:+.2%} worse than the old one on {blocks} virgin blocks, "
        f"P(worse) {probability:.2f}, {REVERT:.2f} reverts"
    )
    return Probation(outcome, probability, worse, blocks, reason)


def _since(duel: Duel, since: datetime) -> Duel:
    kept = [
        i
        for i, (kind, start) in enumerate(zip(duel.kinds, duel.blocks, strict=True))
        if kind == "virgin" and start >= since
    ]
    return Duel(
        duel.challenger,
        tuple(duel.gains[i] for i in kept),
        tuple(duel.kinds[i] for i in kept),
        tuple(duel.ages[i] for i in kept),
        tuple(duel.blocks[i] for i in kept),
    )


def _needed(
    duel: Duel, confidence: float, sweep_confidence: float, least: Mapping[str, float]
) -> float:
    virgin = "virgin" in duel.kinds
    asked = confidence if virgin else max(confidence, sweep_confidence)
    return max(asked, least.get(duel.challenger, 0.0))


def _field(judged: Sequence[Duel], others: Sequence[Duel], discount: float) -> _Field:
    """Noise of a block and spread of true gains, over challengers and what else came near.

    var(m) holds the true spread and half of the noise: the champion's own half is in every mean alike.
    What makes a single verdict more careful, sweep evidence and autocorrelation, adds nothing to var(m)
    and is not taken off it.
    """
    names = {d.challenger for d in judged}
    rest = sorted(
        (d for d in others if d.gains and d.challenger not in names), key=lambda d: d.challenger
    )
    near = [d for d in rest if _mean(d, discount) >= -PRIOR_SD[1]]
    known = [*judged, *near]
    variance = _pooled_variance(known)
    means = [_mean(d, discount) for d in known]
    noise = [variance / _kish(_weights(d, discount)) for d in known]
    spread = float(np.var(means, ddof=1)) if len(means) > 1 else 0.0
    tau2 = spread - float(np.mean(noise or [0.0])) / 2
    return _Field(variance, float(np.clip(tau2, PRIOR_SD[0] ** 2, PRIOR_SD[1] ** 2)), discount)


def _mean(duel: Duel, discount: float) -> float:
    return float(np.average(duel.gains, weights=_weights(duel, discount)))


def _new_part(share: float) -> float:
    return max(LEAST_NEW, 1.0 - share)


def _scaled(duel: Duel, factor: float) -> Duel:
    return replace(duel, gains=tuple(g * factor for g in duel.gains))


def _verdict(duel: Duel, field: _Field, needed: float, new: float) -> Verdict:
    """`duel` holds the gains of a whole switch, of which `new` is made."""
    weights = _weights(duel, field.discount)
    mean, n = _mean(duel, field.discount), _effective(weights, duel.gains)
    tau2, se2 = field.tau2, field.variance / n
    shrunk = mean * tau2 / (tau2 + se2)
    sd = float(np.sqrt(tau2 * se2 / (tau2 + se2)))
    probability = float(stats.norm.cdf(shrunk / sd))
    virgin = duel.kinds.count("virgin")
    margin = 0.0 if new <= 1 - ANCHORED else MARGIN
    better = sum(g > 0 for g in duel.gains) / len(duel.gains)
    rules = [
        (shrunk * new > margin, f"its gain is not above the switching margin of {margin:.1%}"),
        (
            probability >= needed,
            f"P(better) {probability:.3f} is below {needed:.2f}"
            + ("" if virgin else ", needed while no block is virgin"),
        ),
        (
            duel.gains[0] > -2 * np.sqrt(field.variance),
            f"it fell behind by {-duel.gains[0] * new:.1%} on the newest block",
        ),
        (
            len(duel.gains) < MANY_BLOCKS or better >= 0.5,
            f"it was better on only {better:.0%} of the blocks",
        ),
    ]
    failed = [reason for holds, reason in rules if not holds]
    z = float(stats.norm.ppf(0.95))
    return Verdict(
        challenger=duel.challenger,
        mean=mean * new,
        shrunk=shrunk * new,
        sd=sd * new,
        probability=probability,
        needed=needed,
        blocks=len(duel.gains),
        virgin=virgin,
        n_effective=n,
        newest=duel.gains[0] * new,
        low=(shrunk - z * sd) * new,
        high=(shrunk + z * sd) * new,
        passed=not failed,
        reason=failed[0] if failed else "",
    )


def _weights(duel: Duel, discount: float) -> NDArray[np.float64]:
    kind = np.array([1.0 if k == "virgin" else SWEEP_WEIGHT for k in duel.kinds])
    return kind * discount ** np.array(duel.ages, dtype=float)


def _effective(weights: NDArray[np.float64], gains: Sequence[float]) -> float:
    """Blocks of evidence: fewer if alike, if all of it is old, and half if all of it is of a sweep."""
    rho = _autocorrelation(gains)
    return _kish(weights) * min(1.0, float(weights.max())) * (1 - rho) / (1 + rho)


def _kish(weights: NDArray[np.float64]) -> float:
    """Equally weighted blocks whose mean is as noisy as the weighted one (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _autocorrelation(gains: Sequence[float]) -> float:
    if len(gains) < 8 or np.ptp(gains) < 1e-12:
        return 0.3  # too few blocks, or too much alike, to estimate it
    centred = np.asarray(gains) - np.mean(gains)
    total = float((centred**2).sum())
    return float(np.clip((centred[1:] * centred[:-1]).sum() / total, 0.0, 0.6))


def _pooled_variance(duels: Sequence[Duel]) -> float:
    squares = sum(float(np.sum((np.asarray(d.gains) - np.mean(d.gains)) ** 2)) for d in duels)
    freedom = sum(len(d.gains) - 1 for d in duels)
    return max(squares / freedom if freedom else 0.01**2, NOISE_FLOOR**2)


def _numbers(v: Verdict) -> str:
    return (
        f"gain {v.shrunk:+.2%} (90 % interval {v.low:+.2%} to {v.high:+.2%}), P(better) {v.probability:.2f}, "
        f"{v.needed:.2f} needed, {v.blocks} blocks, {v.virgin} virgin"
    )
