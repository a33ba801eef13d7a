"""Compare policies on the same batches: mean losses, noise of their differences, and which to use.

Pure functions of losses and costs. Batches are drawn in runs of neighbours, the same ones for every policy, so
what all policies share, such as a hard week, cancels in their differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST", "Comparison", "Recommendation", "compare", "recommend"]

Array: TypeAlias = NDArray[np.float64]
Losses: TypeAlias = Mapping[str, Sequence[float]]
LEAST = 4  # batches; fewer give no idea of the noise
DRAWS = 2000
INTERVAL = 0.9
# whose model ages without end: a window shows only the beginning of what it loses
YARDSTICK = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One policy against the best one, on all batches of a window."""

    loss: float  # mean over batches
    low: float
    high: float
    regret: float  # its loss less that of the best policy
    noise: float  # standard error of the regret


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The cheapest policy that is not worse than the best one beyond noise."""

    policy: str | None  # None: too few batches
    best: str | None
    reason: str


def compare(losses: Losses, *, seed: int = 0) -> dict[str, Comparison]:
    """Mean losses with 90 % intervals, and the regret of each policy to the best with its standard error.

    Circular block bootstrap (Politis and Romano 1992), blocks of about the cube root of the number of batches:
    neighbouring batches are alike, and drawn singly they would make intervals too narrow. The deviation of the
    draws is multiplied by sqrt(n / (n - length)), for a mean over few blocks varies less than the mean itself.

    Parameters
    ----------
    losses
        Per policy the loss on each batch, the same batches in the same order, shape (n_batches,).
    """
    names = list(losses)
    table = np.array([losses[name] for name in names], dtype="float64")
    means = table.mean(axis=1)
    best = int(np.argmin(means))
    drawn, widening = _drawn_means(table, seed)
    tail = (1 - INTERVAL) / 2
    wide = means[:, None] + widening * (drawn - means[:, None])
    low, high = np.quantile(wide, [tail, 1 - tail], axis=1)
    noise = widening * np.std(drawn - drawn[best], axis=1, ddof=1)
    return {
        name: Comparison(
            loss=float(means[i]),
            low=float(low[i]),
            high=float(high[i]),
            regret=float(means[i] - means[best]),
            noise=float(noise[i]),
        )
        for i, name in enumerate(names)
    }


def recommend(losses: Losses, costs: Mapping[str, float], *, seed: int = 0) -> Recommendation:
    """The cheapest policy whose loss is within one standard error of the best one's.

    The one-standard-error rule (Breiman, Friedman, Olshen and Stone 1984, section 3.4.3), with the paired standard
    error of the difference. `never` is a yardstick, not a candidate: its model ages without end.

    Parameters
    ----------
    costs
        Core-seconds per policy after the first cycle, which all share.
    """
    candidates = {name: found for name, found in losses.items() if name != YARDSTICK}
    count = len(next(iter(losses.values()), ()))
    if count < LEAST or not candidates:
        wanted = f"wanted at least {LEAST}" if count < LEAST else "none but never"
        return Recommendation(policy=None, best=None, reason=f"{count} scored batches; {wanted}")
    compared = compare(candidates, seed=seed)
    best = min(candidates, key=lambda name: compared[name].loss)
    rounding = 1e-12 * abs(compared[best].loss)
    near = [n for n in candidates if compared[n].regret <= compared[n].noise + rounding]
    chosen = min(near, key=lambda name: (costs[name], compared[name].loss))
    reason = _reason(chosen, best, compared, costs)
    if YARDSTICK in losses:
        reason += f"; {_earned(compared[chosen].loss, float(np.mean(losses[YARDSTICK])))}"
    return Recommendation(policy=chosen, best=best, reason=reason)


def _reason(
    chosen: str, best: str, compared: Mapping[str, Comparison], costs: Mapping[str, float]
) -> str:
    found, least = compared[chosen], compared[best].loss
    if chosen == best:
        text = f"no other policy that retrains has a lower loss than its {found.loss:.5g}"
    else:
        relative = 100 / max(abs(least), 1e-12)
        text = (
            f"its loss {found.loss:.5g} is {found.regret * relative:.1f} % above that of {best}, within one "
            f"standard error of their paired difference ({found.noise * relative:.1f} %)"
        )
    if costs.get("full") and chosen != "full":
        text += f", at {costs[chosen] / costs['full']:.0%} of the core-seconds of full"
    return text


def _earned(loss: float, never: float) -> str:
    share = never / loss - 1 if loss else 0.0
    if share > 0:
        return f"without retraining the loss would have been {share:.1%} higher"
    return f"without retraining the loss would have been no higher ({share:+.1%})"


def _drawn_means(table: Array, seed: int) -> tuple[Array, float]:
    """Means of drawn batches, shape (n_policies, DRAWS), and by how much they vary too little."""
    count = table.shape[1]
    length = min(max(1, round(count ** (1 / 3))), max(1, count - 1))
    blocks = -(-count // length)
    random = np.random.default_rng(seed)
    starts = random.integers(0, count, (DRAWS, blocks, 1))
    places = ((starts + np.arange(length)) % count).reshape(DRAWS, -1)[:, :count]
    widening = float(np.sqrt(count / (count - length))) if count > length else 1.0
    return table[:, places].mean(axis=2), widening
