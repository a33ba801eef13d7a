"""Turn evidence into a decision: a pure function of numbers. A tie never promotes.

Assumes that relative losses of neighbouring blocks are equally noisy for all challengers; if one is far
noisier, its probability is too high. Sources: paired relative block differences, discounted by age and
by how the evidence was made; noise from successive differences (`automl.promotion.noise`); shrinkage towards zero by
the spread over challengers, by the method of moments (Morris 1983, JASA 78; DerSimonian and Laird 1986),
because the best of many always looks good (Efron 2011, "Tweedie's formula and selection bias", JASA 106);
a prior with a heavy tail, which leaves a gain far above the noise nearly as it is (Efron and Morris 1971,
"Limiting the risk of Bayes and empirical Bayes estimators", JASA 66; Johnstone and Silverman 2004,
"Needles and straw in haystacks", Ann. Stat. 32).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from math import floor
from typing import Literal

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

from automl.modeling.losses import DISCOUNT, BlockLoss
from automl.promotion.evidence import Duel, duels, gain_line, new_shares, shown_probability
from automl.promotion.noise import Noise, block_noise, block_weights, independent

__all__ = [
    "IN_SAMPLE_CONFIDENCE",
    "PROBATION_CYCLES",
    "REVERTED_CONFIDENCE",
    "REVERTED_CYCLES",
    "YOUNG_CONFIDENCE",
    "YOUNG_CYCLES",
    "Decision",
    "Probation",
    "Verdict",
    "decide",
    "probation",
]

SHIFTED_DISCOUNT = 0.6  # after a sudden shift old blocks say little about the present
IN_SAMPLE_CONFIDENCE = 0.95  # needed while no block is out-of-sample
REVERTED_CONFIDENCE = 0.9  # needed by a blend that was rolled back, for so many cycles
REVERTED_CYCLES = 5
PRIOR_SD = (0.003, 0.03)  # bounds of the prior's standard deviation of most true advantages
FAR_SHARE = 0.1  # of challengers may differ from the champion by much
FAR_SD = 0.1  # standard deviation of their true advantages
# a problem's first champions have little evidence behind them: less is needed to replace them
YOUNG_CYCLES, YOUNG_CONFIDENCE = 3, 0.7
LEAST_NEW = 0.2  # lower bound of the share of a blend that is new; its gains are scaled by it
MARGIN = 0.001  # cost of switching; none for a blend that holds a fifth of the champion
ANCHORED = 0.2
AGREEING = 0.5 - 1e-9  # share of the weight; of two equal blocks one is half
MANY_BLOCKS = 4  # from here on, blocks of at least half of the weight must agree
# after a promotion, in which the new champion is compared with the previous one
PROBATION_CYCLES = 3
# probability that the new champion is worse than the previous one, at which it is reverted
REVERT = 0.8
REVERT_BLOCKS = 2  # out-of-sample blocks, at least
FREEDOM_OF_DIFFERENCE = 2 / 3  # degrees; neighbouring differences share a block
# of a block that may be missing where whole blocks are counted: an hour of a clock change
WHOLE = 0.1
Z90 = float(ndtri(0.95))  # standard deviations to either end of a 90 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the evidence says about one challenger; gains are relative losses, 0.01 = 1 %."""

    challenger: str
    mean: float
    shrunk: float
    sd: float
    probability: float  # that it is better
    needed: float
    margin: float  # that the shrunken gain must be above
    blocks: int
    out_of_sample: int
    n_effective: float
    newest: float
    low: float  # 90 % interval of the shrunken gain
    high: float
    passed: bool
    reason: str  # the first rule that it failed; empty if it passed


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on the evidence: promote a challenger, or keep the champion and refit it."""

    outcome: Literal["promote", "keep"]
    blend: str
    reason: str
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probation:
    """A new champion compared with the previous one, on blocks that chose neither."""

    outcome: Literal["revert", "stay"]
    probability: float  # that the new champion is worse
    worse: float  # mean relative loss above the previous champion's, 0.01 = 1 %
    blocks: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Field:
    """Estimates from all challengers together: noise of a block, spread of true gains, discount."""

    noise: Noise
    tau2: float
    discount: float


def decide(
    duels: Sequence[Duel],
    champion: str,
    confidence: float,
    champion_share: Mapping[str, float],
    *,
    in_sample_confidence: float = IN_SAMPLE_CONFIDENCE,
    least: Mapping[str, float] | None = None,
    others: Sequence[Duel] = (),
    shifted: bool = False,
) -> Decision:
    """Compare every challenger with the champion, and decide.

    Parameters
    ----------
    duels
        One per challenger, newest block first.
    champion
        Id of the champion's blend; empty if there is none yet.
    confidence
        Probability of being better that promotion needs, in (0.5, 1).
    champion_share
        Share of each challenger that is the champion, 0..1: the weight on recipes that both hold. Only
        the rest can gain or lose, and the smaller it is, the less its gains vary; so gains are weighed as
        those of a whole switch, and reported unscaled.
    in_sample_confidence
        Probability needed while no block is out-of-sample; in a first cycle, which has no champion to
        protect, it is `confidence`.
    least
        Minimum probability of single challengers, whatever their evidence: a blend that was rolled back
        needs `REVERTED_CONFIDENCE`.
    others
        Duels of the sweep's other recipes. They cannot be promoted, but show how far apart recipes are,
        and so how much of the best one's lead is luck. Those more than 3 % behind are left out: how bad
        the bad ones are does not show how good a good one can be.
    shifted
        The champion's newest loss is an outlier compared with its past: old blocks count less.
    """
    new = {d.challenger: _new_part(champion_share.get(d.challenger, 0.0)) for d in duels}
    ordered = sorted(
        (_scaled(d, 1 / new[d.challenger]) for d in duels if d.gains), key=lambda d: d.challenger
    )  # ties and sums must not depend on order
    field = _field(ordered, others, SHIFTED_DISCOUNT if shifted else DISCOUNT)
    needed = {
        d.challenger: _needed(d, confidence, in_sample_confidence, least or {}) for d in ordered
    }
    verdicts = [_verdict(d, field, needed[d.challenger], new[d.challenger]) for d in ordered]
    passed = sorted((v for v in verdicts if v.passed), key=lambda v: -v.shrunk)
    if passed:
        best = passed[0]
        return Decision("promote", best.challenger, f"promoted: {_numbers(best)}", tuple(verdicts))
    if not verdicts:
        return Decision("keep", champion, "kept: there was no challenger", ())
    best = max(verdicts, key=lambda v: v.shrunk)
    return Decision("keep", champion, f"kept: {best.reason}; {_numbers(best)}", tuple(verdicts))


def probation(
    losses: Iterable[BlockLoss], champion: str, previous_champion: str, since: datetime
) -> Probation:
    """Whether a new champion must be reverted to the previous one.

    Only out-of-sample blocks that begin at or after `since`, the end of the labels that the promotion
    knew, count. Two blends are compared and none is chosen among many, so nothing is shrunk: P(worse) is
    Student's t of the mean difference, with the degrees of freedom of the noise of all duels with the
    champion. Assumes what `decide` does; of two equal champions, about one comparison in eight reverts,
    which costs a refit and no accuracy.

    Parameters
    ----------
    losses
        All evidence; losses of other blends show how noisy blocks are.
    champion, previous_champion
        Blend ids of the new and of the previous champion.
    """
    every = duels(losses, champion)
    duel = next((_since(d, since) for d in every if d.challenger == previous_champion), None)
    if duel is None or _whole(duel) < REVERT_BLOCKS - WHOLE:
        blocks = len(duel.gains) if duel else 0
        reason = f"{blocks} out-of-sample blocks since the promotion, {REVERT_BLOCKS} needed"
        if blocks >= REVERT_BLOCKS:
            reason += " that do not overlap"
        return Probation(outcome="stay", probability=0.5, worse=0.0, blocks=blocks, reason=reason)
    noise, blocks = block_noise(every), len(duel.gains)
    worse = float(np.average(duel.gains, weights=block_weights(duel, DISCOUNT)))
    se = float(np.sqrt(noise.variance / noise.effective(duel, DISCOUNT)))
    freedom = max(1.0, noise.freedom * FREEDOM_OF_DIFFERENCE)
    probability = float(stats.t.cdf(worse / se, df=freedom))
    outcome: Literal["revert", "stay"] = "revert" if probability >= REVERT else "stay"
    reason = (
        f"the new champion is {worse:+.2%} worse than the previous one on {blocks} out-of-sample blocks, "
        f"P(worse) {shown_probability(probability)}, {shown_probability(REVERT)} reverts"
    )
    return Probation(
        outcome=outcome, probability=probability, worse=worse, blocks=blocks, reason=reason
    )


def _whole(duel: Duel) -> float:
    """Blocks that do not overlap."""
    return float(new_shares(duel).sum())


def _since(duel: Duel, since: datetime) -> Duel:
    chosen = [
        i
        for i, (kind, start) in enumerate(zip(duel.kinds, duel.blocks, strict=True))
        if kind == "out_of_sample" and start >= since
    ]
    return Duel(
        challenger=duel.challenger,
        gains=tuple(duel.gains[i] for i in chosen),
        kinds=tuple(duel.kinds[i] for i in chosen),
        ages=tuple(duel.ages[i] for i in chosen),
        blocks=tuple(duel.blocks[i] for i in chosen),
        ends=tuple(duel.ends[i] for i in chosen) if duel.ends else (),
    )


def _needed(
    duel: Duel, confidence: float, in_sample_confidence: float, least: Mapping[str, float]
) -> float:
    out_of_sample = "out_of_sample" in duel.kinds
    needed = confidence if out_of_sample else max(confidence, in_sample_confidence)
    return max(needed, least.get(duel.challenger, 0.0))


def _field(rivals: Sequence[Duel], others: Sequence[Duel], discount: float) -> _Field:
    """Noise of a block and spread of true gains, over challengers and recipes of similar loss.

    The variance of the means holds the true spread and half of the noise: the champion's own half is
    the same in every mean. In-sample evidence and autocorrelation make a single verdict more careful, but
    add nothing to that variance and are not subtracted from it.
    """
    names = {d.challenger for d in rivals}
    rest = sorted(
        (d for d in others if d.gains and d.challenger not in names), key=lambda d: d.challenger
    )
    near = [d for d in rest if _mean(d, discount) >= -PRIOR_SD[1]]
    compared = [*rivals, *near]
    block = block_noise(compared, [*rivals, *rest])
    means = [_mean(d, discount) for d in compared]
    noise = [block.variance / independent(d, discount) for d in compared]
    spread = float(np.var(means, ddof=1)) if len(means) > 1 else 0.0
    tau2 = spread - float(np.mean(noise or [0.0])) / 2
    return _Field(block, float(np.clip(tau2, PRIOR_SD[0] ** 2, PRIOR_SD[1] ** 2)), discount)


def _mean(duel: Duel, discount: float) -> float:
    return float(np.average(duel.gains, weights=block_weights(duel, discount)))


def _new_part(share: float) -> float:
    return max(LEAST_NEW, 1.0 - share)


def _scaled(duel: Duel, factor: float) -> Duel:
    return replace(duel, gains=tuple(g * factor for g in duel.gains))


def _verdict(duel: Duel, field: _Field, needed: float, new: float) -> Verdict:
    """`duel` holds the gains of a whole switch; `new` is the share of the blend that is new."""
    mean, n = _mean(duel, field.discount), field.noise.effective(duel, field.discount)
    shrunk, sd, probability = _posterior(mean, field.noise.variance / n, field.tau2)
    verdict = Verdict(
        challenger=duel.challenger,
        mean=mean * new,
        shrunk=shrunk * new,
        sd=sd * new,
        probability=probability,
        needed=needed,
        margin=0.0 if new <= 1 - ANCHORED else MARGIN,
        blocks=len(duel.gains),
        out_of_sample=duel.kinds.count("out_of_sample"),
        n_effective=n,
        newest=duel.gains[0] * new,
        low=(shrunk - Z90 * sd) * new,
        high=(shrunk + Z90 * sd) * new,
        passed=True,
        reason="",
    )
    reason = _failed(verdict, duel, field)
    return replace(verdict, passed=not reason, reason=reason)


def _posterior(mean: float, se2: float, tau2: float) -> tuple[float, float, float]:
    """Mean and standard deviation of the true gain, and the probability that it is above zero.

    A priori nine true gains in ten are N(0, tau2), and one is N(0, 10 %). A mean far above the noise almost surely belongs
    to the second group, and is hardly shrunk; one within the noise almost surely belongs to the first.
    """
    tau2s = np.array([tau2, max(tau2, FAR_SD**2)])
    total = tau2s + se2
    fits = np.log([1 - FAR_SHARE, FAR_SHARE]) - 0.5 * (np.log(total) + mean**2 / total)
    share = np.exp(fits - fits.max())
    share /= share.sum()
    means, variances = mean * tau2s / total, tau2s * se2 / total
    shrunk = float(share @ means)
    sd = float(np.sqrt(share @ (variances + (means - shrunk) ** 2)))
    return shrunk, sd, float(share @ ndtr(means / np.sqrt(variances)))


def _failed(verdict: Verdict, duel: Duel, field: _Field) -> str:
    """The first rule that a challenger fails; empty if it passes all."""
    weights = block_weights(duel, field.discount)
    better = float(np.average(np.array(duel.gains) > 0, weights=weights))
    rules = [
        (
            verdict.shrunk > verdict.margin,
            f"its gain is not above the switching margin of {verdict.margin:.2%}",
        ),
        (
            verdict.probability >= verdict.needed,
            "its P(better) is below what promotion needs"
            + ("" if verdict.out_of_sample else " while no block is out-of-sample"),
        ),
        (
            duel.gains[0] > -2 * np.sqrt(field.noise.variance),
            f"it fell behind by {-verdict.newest:.2%} on the newest block",
        ),
        (
            better >= AGREEING or _whole(duel) < MANY_BLOCKS - WHOLE,
            f"it was better on only {floor(100 * better)}% of the blocks, newer ones counting more",
        ),
    ]
    return next((reason for passed, reason in rules if not passed), "")


def _numbers(v: Verdict) -> str:
    return gain_line(asdict(v))
