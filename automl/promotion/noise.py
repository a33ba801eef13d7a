"""The noise of a block's gain, and how many independent blocks a duel is worth.

Noise is read from the differences of successive blocks (von Neumann, Kent, Bellinson and Hart 1941, "The mean
square successive difference", Ann. Math. Stat. 12): a true gain that changes is in one difference only, while
it is in every distance from the mean. That one is cut to what noise can do (winsorised, Huber 1964, Ann.
Math. Stat. 35), so the estimate does not depend on how large the change was. Blocks that overlap in time
share noise and count by their new part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from automl.promotion.evidence import Array, Duel, correlations, disjoint, new_shares

__all__ = ["Noise", "block_noise", "block_weights", "independent"]

IN_SAMPLE_WEIGHT = 0.5  # of evidence that took part in choosing
LEAST_NOISE = 0.002  # lower bound of the block standard deviation
UNMEASURED = 0.01  # block standard deviation where it cannot be estimated
CUT = 2.5  # standard deviations of a difference; beyond is a change. Lowers the variance of normal noise by 2 %
MEDIAN_SQUARE = 0.4549  # of a standard normal number
ENOUGH_TO_CUT = 3  # differences; with fewer, none can be called unlike the others
TIED = 1e-9  # difference of two gains, up to which they are equal
# differences; missing ones are filled with the spread of the rivals on one block
LEAST_FREEDOM = 2.0
CORRELATION = 0.2  # of neighbouring blocks, before anything is measured
CORRELATION_WORTH = 16  # pairs of differences; with fewer, equal rivals are promoted more often
MOST_CORRELATION = 0.6
NEIGHBOURS = 0.9  # of two blocks' span that must not overlap, where the correlation is measured


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of one block's gain, for all rivals together."""

    variance: float
    freedom: float  # differences that it was estimated from
    correlation: float  # of the noise of neighbouring blocks

    def effective(self, duel: Duel, discount: float) -> float:
        """Blocks of evidence: fewer if correlated or all old, half if all in-sample.

        Autocorrelated blocks are worth n (1 - rho) / (1 + rho) (Bayley and Hammersley 1946, JRSS 8).
        """
        best = min(1.0, float(_worth(duel, discount).max()))
        rho = self.correlation
        return independent(duel, discount) * best * (1 - rho) / (1 + rho)


def block_weights(duel: Duel, discount: float) -> Array:
    """Weight of each block in the mean gain, shape (n_blocks,): by kind, age and new part."""
    return _worth(duel, discount) * new_shares(duel)


def independent(duel: Duel, discount: float) -> float:
    """Equally weighted independent blocks whose mean is as noisy as the weighted one.

    (sum w)^2 / (w R w), with R the correlation of blocks that overlap; without overlaps Kish's 1965 formula.
    """
    weights = block_weights(duel, discount)
    shared = float((weights**2).sum() if disjoint(duel) else weights @ correlations(duel) @ weights)
    return float(weights.sum()) ** 2 / shared


def block_noise(duels: Sequence[Duel], rivals: Sequence[Duel] = ()) -> Noise:
    """Variance of a block's gain around its true value, pooled over duels.

    Parameters
    ----------
    duels
        Those whose differences are pooled. Across a gap a difference counts less: the true gain had more
        time to change.
    rivals
        Where there are fewer than two differences, the spread of these on their newest block stands in for
        what is missing. It holds half of the noise and how far rivals are apart, so twice its square is rather
        too much. Without rivals nothing is filled in.

    Assumes the same noise for all duels, and a correlation that falls off as in an autoregression of
    order one: differences hold only 1 - rho of the variance, and neighbouring ones correlate by
    -(1 - rho) / 2. Changes of less than about three standard deviations count as noise.
    """
    steps = [_steps(d) for d in duels if len(d.gains) > 1]
    freedom = float(sum(s.weights.sum() for s in steps))
    squares = float(sum(s.weights @ s.squares for s in steps)) / 2
    if rivals and freedom < LEAST_FREEDOM:
        squares += (LEAST_FREEDOM - freedom) * _apart(rivals)
        freedom = LEAST_FREEDOM
    rho = _correlation(steps)
    variance = max(squares / freedom if freedom else UNMEASURED**2, LEAST_NOISE**2)
    return Noise(variance / (1 - rho), freedom, rho)


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Differences of successive blocks of a duel, as if none overlapped; shape (n_blocks - 1,) each."""

    differences: Array
    squares: Array  # cut
    weights: Array
    plain: Array  # 1.0 where the difference was not cut and its blocks hardly overlap


def _steps(duel: Duel) -> _Steps:
    apart = 1 - np.diagonal(correlations(duel), 1)
    gaps = np.maximum(1, np.diff(duel.ages))
    differences = np.diff(duel.gains) / np.sqrt(apart)
    squares = differences**2
    unlike = squares[squares > TIED**2]  # ties do not show how large a difference can be
    cut = np.inf
    if len(unlike) >= ENOUGH_TO_CUT:
        cut = CUT**2 * float(np.median(unlike)) / MEDIAN_SQUARE
    plain = (squares <= cut) & (apart >= NEIGHBOURS)
    return _Steps(differences, np.minimum(squares, cut), apart / gaps, plain.astype(float))


def _correlation(steps: Sequence[_Steps]) -> float:
    """Correlation of neighbouring blocks, from neighbouring differences, shrunk towards the usual value.

    A dozen blocks tell it to within a third, so the usual value counts as much as sixteen pairs do. Pairs across
    a gap count too: they read it a little low, but without them it is known worse.
    """
    products, squares, pairs = 0.0, 0.0, 0.0
    for step in steps:
        both = step.plain[1:] * step.plain[:-1]
        if len(step.squares) < ENOUGH_TO_CUT or not both.any():
            continue
        products += float(both @ (step.differences[1:] * step.differences[:-1]))
        squares += float(both.sum() * np.average(step.squares, weights=step.plain))
        pairs += float(both.sum())
    if not squares:
        return CORRELATION
    measured = 1 + 2 * products / squares
    mixed = (CORRELATION_WORTH * CORRELATION + pairs * measured) / (CORRELATION_WORTH + pairs)
    return float(np.clip(mixed, 0.0, MOST_CORRELATION))


def _apart(rivals: Sequence[Duel]) -> float:
    """Twice the variance of rivals and champion on their newest block, robustly; never below what is usual."""
    gains = np.array([0.0, *(d.gains[0] for d in rivals)])
    spread = float(np.median(np.abs(gains - np.median(gains)))) / np.sqrt(MEDIAN_SQUARE)
    return max(UNMEASURED**2, 2 * spread**2)


def _worth(duel: Duel, discount: float) -> Array:
    kind = np.array([1.0 if k == "out_of_sample" else IN_SAMPLE_WEIGHT for k in duel.kinds])
    return kind * discount ** np.array(duel.ages, dtype=float)
