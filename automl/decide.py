"""Evidence in, decision out; a pure function of numbers. A tie never promotes.

Assumes that relative losses of neighbouring blocks vary alike for all challengers; if one is far
noisier, its probability is too high. Source of the rule: paired relative block differences, discounted
by age and by how the evidence was made, shrunk towards zero by the spread over challengers (an
empirical-Bayes normal-normal model, method of moments), because the best of many always looks good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from automl.evidence import Duel

__all__ = ["SWEEP_CONFIDENCE", "Decision", "Verdict", "decide"]

DISCOUNT = 0.85  # per cycle of age
SWEEP_WEIGHT = 0.5  # of evidence that took part in choosing
SWEEP_CONFIDENCE = 0.95  # needed when no block is virgin
NOISE_FLOOR = 0.002  # block standard deviation is never believed to be smaller
PRIOR_SD = (0.003, 0.03)  # bounds of the prior's standard deviation of true advantages
MARGIN = 0.001  # cost of switching; none for a blend that holds a fifth of the champion
ANCHORED = 0.2
MANY_BLOCKS = 4  # from here on, at least half of the blocks must agree


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


def decide(
    duels: Sequence[Duel],
    champion: str,
    confidence: float,
    champion_share: Mapping[str, float],
    *,
    sweep_confidence: float = SWEEP_CONFIDENCE,
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
        Weight that each challenger gives to the champion's recipes, 0..1.
    sweep_confidence
        Probability needed while no block is virgin; a first cycle, which has no champion to protect,
        asks for no more than `confidence`.
    """
    ordered = sorted(
        (d for d in duels if d.gains), key=lambda d: d.challenger
    )  # ties and sums must not depend on order
    verdicts = _verdicts(ordered, (confidence, max(confidence, sweep_confidence)), champion_share)
    passed = sorted((v for v in verdicts if v.passed), key=lambda v: -v.shrunk)
    if passed:
        best = passed[0]
        return Decision("promote", best.challenger, f"promoted: {_numbers(best)}", tuple(verdicts))
    if not verdicts:
        return Decision("keep", champion, "kept: no challenger to judge", ())
    best = max(verdicts, key=lambda v: v.shrunk)
    return Decision("keep", champion, f"kept: {best.reason}; {_numbers(best)}", tuple(verdicts))


def _verdicts(
    duels: Sequence[Duel], confidence: tuple[float, float], champion_share: Mapping[str, float]
) -> list[Verdict]:
    weights = [_weights(d) for d in duels]
    means = [float(np.average(d.gains, weights=w)) for d, w in zip(duels, weights, strict=True)]
    variance = _pooled_variance(duels)
    n_eff = [_effective(w, d.gains) for d, w in zip(duels, weights, strict=True)]
    se2 = [variance / n for n in n_eff]
    spread = float(np.var(means, ddof=1)) if len(means) > 1 else 0.0
    tau2 = float(
        np.clip(spread - float(np.mean(se2 or [0.0])) / 2, PRIOR_SD[0] ** 2, PRIOR_SD[1] ** 2)
    )
    return [
        _verdict(d, m, tau2, s, n, variance, confidence, champion_share.get(d.challenger, 0.0))
        for d, m, s, n in zip(duels, means, se2, n_eff, strict=True)
    ]


def _verdict(
    duel: Duel,
    mean: float,
    tau2: float,
    se2: float,
    n: float,
    variance: float,
    confidence: tuple[float, float],
    share: float,
) -> Verdict:
    shrunk = mean * tau2 / (tau2 + se2)
    sd = float(np.sqrt(tau2 * se2 / (tau2 + se2)))
    probability = float(stats.norm.cdf(shrunk / sd))
    virgin = duel.kinds.count("virgin")
    needed = confidence[0] if virgin else confidence[1]
    margin = 0.0 if share >= ANCHORED else MARGIN
    better = sum(g > 0 for g in duel.gains) / len(duel.gains)
    rules = [
        (shrunk > margin, f"its gain is not above the switching margin of {margin:.1%}"),
        (
            probability >= needed,
            f"P(better) {probability:.3f} is below {needed:.2f}"
            + ("" if virgin else ", needed while no block is virgin"),
        ),
        (
            duel.gains[0] > -2 * np.sqrt(variance),
            f"it fell behind by {-duel.gains[0]:.1%} on the newest block",
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
        mean=mean,
        shrunk=shrunk,
        sd=sd,
        probability=probability,
        needed=needed,
        blocks=len(duel.gains),
        virgin=virgin,
        n_effective=n,
        newest=duel.gains[0],
        low=shrunk - z * sd,
        high=shrunk + z * sd,
        passed=not failed,
        reason=failed[0] if failed else "",
    )


def _weights(duel: Duel) -> NDArray[np.float64]:
    kind = np.array([1.0 if k == "virgin" else SWEEP_WEIGHT for k in duel.kinds])
    return kind * DISCOUNT ** np.array(duel.ages, dtype=float)


def _effective(weights: NDArray[np.float64], gains: Sequence[float]) -> float:
    rho = _autocorrelation(gains)
    # fewer equal blocks that hold as much evidence; sweep blocks count half even when all are alike
    kish = weights.sum() ** 2 / (weights**2).sum() * min(1.0, float(weights.max()))
    return float(kish * (1 - rho) / (1 + rho))


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
