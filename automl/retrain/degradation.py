"""A control chart of realised losses: whether the champion is worse than promised, beyond past noise.

Uses only the losses that it is given, so it never knows more than the cycle does. It does not say why a champion
is worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1, log, sqrt

from scipy.special import ndtri, stdtr

from automl.problem import LEAST_SHARE
from automl.retrain.situation import RealisedLoss

__all__ = ["FAR", "Chart", "chart"]

LIMIT = 3.0  # z of a single loss; Shewhart's limit: 1 in 740 quiet windows lies above it
JOINS = 2.0  # up to this z a loss joins the reference; what may be a change must not hide itself
FAR = 4.0  # z from which a loss is far out: 1 in 30,000
SLACK, SUM_LIMIT = 0.5, 4.0  # of the one-sided CUSUM, in standard deviations
PRIOR_MEAN_BLOCKS = 2.0  # of evidence that the promise itself is worth
PRIOR_NOISE, PRIOR_FREEDOM = 0.05, 4.0  # noise of a log loss where few blocks are known
LEAST_NOISE = 0.01
MOST_Z = 8.0


@dataclass(frozen=True, slots=True)
class Chart:
    """State of the chart after the newest loss of the present champion.

    `z` and `total` are in standard deviations of past noise; `excess` are the relative losses above the promise,
    newest first, of the run of losses that the sum consists of.
    """

    z: float = 0.0
    total: float = 0.0
    excess: tuple[float, ...] = ()
    seen: int = 0  # losses of the present champion

    @property
    def signals(self) -> bool:
        """Whether the newest loss, or the run of losses, is beyond past noise."""
        return self.z > LIMIT or self.total > SUM_LIMIT

    @property
    def far(self) -> bool:
        """Whether the newest loss is far beyond past noise."""
        return self.z > FAR


def chart(realised: Sequence[RealisedLoss], version: int | None) -> Chart:
    """A self-starting CUSUM and Shewhart chart of log(loss / promised loss).

    Each value is compared with the values before it: its predictive distribution is Student's t, from a normal
    model whose mean and variance have a conjugate prior centred on the promise. The quantile becomes a z, which is
    standard normal while nothing changes, however few values there are. The sum is S = max(0, S + z - 0.5), starts
    again with every new champion, and signals above 4: in quiet times once in about 336 windows. A value above 2
    joins no reference.

    Assumes that blocks are about equally hard for a fresh champion, apart from independent noise. Where hard
    seasons follow easy ones, it signals more often than that.

    Parameters
    ----------
    realised
        Newest first; values without a promise are left out.
    version
        The present champion's: of earlier ones, losses are reference only.

    Source
    ------
    Hawkins 1987, "Self-starting CUSUM charts for location and scale", The Statistician 36; limits: Montgomery,
    "Introduction to Statistical Quality Control", sections 6.2 and 9.1; predictive distribution: Gelman et al.,
    "Bayesian Data Analysis", section 3.3.
    """
    past = _Reference()
    z = total = 0.0
    run: list[float] = []
    seen, current = 0, None
    for loss in sorted(realised, key=lambda r: (r.as_of, r.model_version)):
        if loss.promised is None:
            continue
        if loss.model_version != current:
            z, total, run, current = 0.0, 0.0, [], loss.model_version
            seen = 0
        value = _log_ratio(loss)
        z = past.z(value, loss)
        total = max(0.0, total + z - SLACK)
        run = [value, *run] if total > 0 else []
        seen += 1
        if z <= JOINS:
            past.add(value)
    if current is None or current != version:
        return Chart()
    return Chart(z, total, tuple(map(expm1, run)), seen)


def _log_ratio(loss: RealisedLoss) -> float:
    """log(loss / promised); near-perfect models do not differ by rounding."""
    least = LEAST_SHARE * loss.baseline + 1e-12
    return log((loss.loss + least) / ((loss.promised or 0.0) + least))


class _Reference:
    """Count, mean and sum of squared deviations of past values, updated one by one (Welford 1962)."""

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.n += 1
        before = value - self.mean
        self.mean += before / self.n
        self.squares += before * (value - self.mean)

    def z(self, value: float, loss: RealisedLoss) -> float:
        """The value as a standard normal quantile, given the values before it."""
        known = max(0, loss.blocks - 1) if loss.noise is not None else 0
        weight = PRIOR_MEAN_BLOCKS + self.n
        squares = PRIOR_FREEDOM * PRIOR_NOISE**2 + known * (loss.noise or 0.0) ** 2
        squares += self.squares + PRIOR_MEAN_BLOCKS * self.n / weight * self.mean**2
        freedom = PRIOR_FREEDOM + known + self.n
        scale = max(LEAST_NOISE, sqrt(squares / freedom)) * sqrt(1 + 1 / weight)
        t = (value - self.n * self.mean / weight) / scale
        return max(-MOST_Z, min(MOST_Z, float(-ndtri(stdtr(freedom, -t)))))
