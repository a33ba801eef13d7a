"""Drift: whether the newest block is unlike the past ones by more than past blocks are unlike each other.

Every measure of a block (a mean, a spread, shares of categories) is compared with the same measure of all other
blocks, in standard deviations between blocks. A block's score is the smallest p-value over its measures. The newest
block's score is then ranked among the scores of the past blocks, which went through the same computation. The rank
corrects for the number of columns and for their correlation; nothing is assumed of their distributions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

__all__ = [
    "LEAST_BLOCKS",
    "BlockStatistics",
    "Drift",
    "Measure",
    "Shift",
    "blocks_needed",
    "drift_of",
]

Array = NDArray[np.float64]
LEAST_BLOCKS = 19  # past blocks; with fewer no rank among them is as rare as 1 in 20
MOST_CORRELATION = 0.95  # of neighbouring blocks; above, a column is a random walk
LEAST_KNOWN = 14  # a measure counts once more blocks than these have it
CLEAR = 2.3  # standard errors of a correlation of zero; smaller ones are left alone
ROUNDING = 1e-12  # relative
FAR = 0.01  # of alert_rate: a measure alone is so rare, corrected for the number of measures
NAMED = 3  # columns that a sentence names


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Measure:
    """One number per block, or one distribution per block, of one column.

    `values` has shape (n_blocks, 1), or (n_blocks, n_categories) for shares; NaN where a block has none.
    """

    source: Literal["inputs", "predictions", "labels"]
    column: str
    statistic: Literal["mean", "spread", "missing", "shares"]
    values: Array
    least: float = 0.0  # what one row of a block weighs: smaller deviations are rounding


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BlockStatistics:
    """Measures of consecutive blocks, oldest first; the last block is the one in question.

    `lag` is the number of blocks between the last block and the one before it: 1 unless labels arrive so late that
    blocks are missing in between.
    """

    starts: tuple[datetime, ...]
    ends: tuple[datetime, ...]
    rows: tuple[int, ...]
    measures: tuple[Measure, ...]
    lag: int = 1


class Shift(NamedTuple):
    """How far one measure of the newest block is from the past blocks."""

    source: str
    column: str
    statistic: str
    value: float  # of the newest block; of shares, their total variation distance to the past
    reference: float  # mean of the past blocks
    effect: float  # distance in standard deviations between blocks
    p_value: float  # of this measure alone, uncorrected
    past: int  # blocks that it was compared with


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drift:
    """What the newest block shows, worst measure first."""

    state: Literal["alarm", "quiet", "uncalibrated"]
    shifts: tuple[Shift, ...]
    blocks: int  # past blocks
    needed: int  # past blocks without which there is no alarm
    p_value: float | None = (
        None  # of the newest block among the past ones, corrected over all measures
    )
    far: bool = False  # an alarm that is no close call

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, the most shifted first."""
        return tuple(dict.fromkeys(shift.column for shift in self.shifts))

    @property
    def text(self) -> str:
        """One sentence."""
        if self.state == "uncalibrated":
            return f"uncalibrated: {self.blocks} past blocks, {self.needed} needed before any alarm"
        if self.state == "quiet":
            return f"quiet: within what {self.blocks} past blocks show"
        worst: dict[str, Shift] = {}
        for shift in self.shifts:
            worst.setdefault(shift.column, shift)
        named = [f"{s.column} ({s.statistic} {s.effect:+.1f} sd)" for s in worst.values()][:NAMED]
        return (
            f"drift, rarer than 1 in {1 / (self.p_value or 1):.0f} past blocks: {', '.join(named)}"
        )


def blocks_needed(alert_rate: float) -> int:
    """Past blocks without which no alarm is possible: n + 1 ranks must be finer than the rate."""
    return max(LEAST_BLOCKS, ceil(1 / alert_rate - 1e-9) - 1)


def drift_of(statistics: BlockStatistics, alert_rate: float) -> Drift:
    """Compare the last block with the ones before.

    Parameters
    ----------
    statistics
        Measures of the past blocks and of the newest.
    alert_rate
        Share of quiet blocks that may raise any alarm.

    Notes
    -----
    The p-value is (number of blocks that score at least as high as the newest, itself included) / (n + 1): a
    conformal p-value (Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World", ch. 2; for
    permutations Phipson and Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9). It is exact if quiet blocks are exchangeable.
    Neighbouring blocks that resemble each other are not, so what follows from the block before is first taken out of
    each measure, by an autoregression of order one whose coefficient is corrected for small samples (Marriott and Pope
    1954, Biometrika 41). Slow change is therefore no alarm; it is in the effect sizes all the same.

    A block is scored by itself and together with the block before, so that a shift that two blocks share is found
    in the second: a moving sum of two (Bauer and Hackl 1978, Technometrics 20).
    """
    past, needed = len(statistics.rows) - 1, blocks_needed(alert_rate)
    measures = statistics.measures
    if past < 2 or not measures:
        return Drift(state="uncalibrated", shifts=(), blocks=max(past, 0), needed=needed)
    scores, newest = _scores(measures, statistics.lag)
    found = [_shift(m, p) for m, p in zip(measures, newest.tolist(), strict=True)]
    shifts = sorted(
        (s for s in found if not np.isnan(s.effect)),
        key=lambda s: (np.nan_to_num(s.p_value, nan=1.0), -abs(s.effect)),
    )
    if past < needed:
        return Drift(state="uncalibrated", shifts=tuple(shifts), blocks=past, needed=needed)
    p_value = float((scores <= scores[-1]).mean())
    alarm = p_value <= alert_rate + 1e-12
    return Drift(
        state="alarm" if alarm else "quiet",
        shifts=tuple(shifts),
        blocks=past,
        needed=needed,
        p_value=p_value,
        far=alarm and float(scores[-1]) < FAR * alert_rate,
    )


def _scores(measures: Sequence[Measure], lag: int) -> tuple[Array, Array]:
    """Score of each block, shape (n_blocks,), and p-values of the newest, shape (n_measures,)."""
    numbers = [i for i, m in enumerate(measures) if m.values.shape[1] == 1]
    groups = [numbers] if numbers else []
    groups += [[i] for i, m in enumerate(measures) if m.values.shape[1] > 1]
    newest = np.ones(len(measures))
    smallest, counts = [], []
    for group in groups:
        values = np.stack([measures[i].values for i in group], axis=1)
        alone, pairs = _p_values(values, np.array([measures[i].least for i in group]), lag)
        newest[group] = alone[-1]
        best = np.minimum(alone, pairs)
        smallest.append(best.min(axis=1))
        counts.append((best < 1.0).sum(axis=1))
    return np.min(smallest, axis=0) * np.sum(counts, axis=0), newest


def _p_values(values: Array, least: Array, lag: int) -> tuple[Array, Array]:
    """p-values of every block among the others, alone and with the block before; shape (n_blocks, n_measures) each.

    `values` has shape (n_blocks, n_measures, size), NaN where a block has none. Of each block, and of each two, the
    distance from the mean of the others in their standard deviations is an externally studentised residual, which
    is t-distributed if blocks are normal (Cook and Weisberg 1982, "Residuals and Influence in Regression", 2.2.1).
    Numbers are two-sided, distances between distributions one-sided.
    """
    known = np.asarray(np.isfinite(values).all(axis=2))
    n = known.sum(axis=0)
    usable = (n > LEAST_KNOWN) & _moves(values)
    new = np.where(known[..., None], _innovations(values, known, lag), 0.0)
    new = np.where(known[..., None], new - (new.sum(axis=0) / np.maximum(n, 1)[:, None]), 0.0)
    before = np.roll(new, 1, axis=0)
    paired = known & np.roll(known, 1, axis=0)
    paired[0] = False
    number = values.shape[2] == 1
    sizes = new[..., 0] if number else np.abs(new).sum(axis=2) / 2
    sums, squares = sizes.sum(axis=0), (sizes**2).sum(axis=0)
    found = []
    for left, moved, counted in (
        ((sizes,), new, known),
        ((sizes, np.roll(sizes, 1, axis=0)), (new + before) / np.sqrt(2), paired),
    ):
        k = len(left)
        rest = np.maximum(n - k, 3)
        mean = (sums - sum(left)) / rest
        spread = (squares - sum(x**2 for x in left)) / rest - mean**2
        spread = np.maximum(spread, 0.0) * rest / (rest - 1) + least**2
        away = moved[..., 0] - np.sqrt(k) * mean if number else np.abs(moved).sum(axis=2) / 2 - mean
        with np.errstate(divide="ignore", invalid="ignore"):
            away = np.nan_to_num(away / np.sqrt(spread * (1 + k / rest)), nan=0.0)
        tail = 2 * stdtr(rest - 1, -np.abs(away)) if number else stdtr(rest - 1, -away)
        found.append(np.where(counted & usable, np.minimum(tail, 1.0), 1.0))
    return found[0], found[1]


def _moves(values: Array) -> NDArray[np.bool_]:
    """Whether a measure ever differs by more than rounding, shape (n_measures,)."""
    low, high = (np.where(np.isfinite(values), values, fill) for fill in (np.inf, -np.inf))
    apart = (high.max(axis=0) - low.min(axis=0)).max(axis=1)
    return np.asarray(apart > ROUNDING * np.nan_to_num(np.abs(values)).max(axis=(0, 2)))


def _innovations(values: Array, known: NDArray[np.bool_], lag: int) -> Array:
    """What does not follow from the block `lag` before (the innovations of an autoregression), shape as `values`.

    The correlation is estimated without that block, and left alone unless it is clear.
    """
    centre = (
        np.where(known[..., None], values, 0.0).sum(axis=0)
        / np.maximum(known.sum(axis=0), 1)[:, None]
    )
    centred = np.where(known[..., None], values - centre, 0.0)
    before, after = centred[:-lag], centred[lag:]
    pairs = (known[:-lag] & known[lag:]).sum(axis=0) - 1.0
    products = (before * after).sum(axis=2)
    own = (after**2).sum(axis=2)
    total = (centred**2).sum(axis=(0, 2)) - own
    share = np.maximum(known.sum(axis=0) - 1.0, 1.0) / np.maximum(pairs, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.nan_to_num((products.sum(axis=0) - products) / total * share)
    rho += (1 + 3 * rho) / np.maximum(pairs, 1.0)
    clear = (rho > CLEAR / np.sqrt(np.maximum(pairs, 1.0))) & (pairs >= LEAST_BLOCKS - 3)
    rho = np.where(clear, np.minimum(rho, MOST_CORRELATION), 0.0)
    new = centred.copy()
    new[:lag] *= np.sqrt(1 - rho[:lag] ** 2)[..., None]
    new[lag:] -= rho[..., None] * before
    # the further the block before is out, the more the error of the coefficient counts
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(clear, (before**2).sum(axis=2) / total, 0.0)
    new[lag:] /= np.sqrt(1 + np.nan_to_num(reach))[..., None]
    return new


def _shift(measure: Measure, p_value: float) -> Shift:
    """Effect size of the newest block against the past as it is, not of its innovation."""
    values = measure.values
    known = np.asarray(np.isfinite(values).all(axis=1))
    name = (measure.source, measure.column, measure.statistic)
    past = values[:-1][known[:-1]]
    if not known[-1] or len(past) < 2:
        nan = float("nan")
        return Shift(*name, nan, nan, nan, nan, len(past))
    centre = past.mean(axis=0)
    if values.shape[1] == 1:
        value, reference = float(values[-1, 0]), float(centre[0])
        spread = float(past[:, 0].std(ddof=1))
        away = value - reference
    else:
        value = float(np.abs(values[-1] - centre).sum() / 2)
        usual = np.abs(past - centre).sum(axis=1) / 2
        reference, spread = float(usual.mean()), float(usual.std(ddof=1))
        away = value - reference
    spread = float(np.hypot(spread, measure.least))
    p_value = p_value if known.sum() > LEAST_KNOWN else float("nan")
    effect = away / spread if spread else 0.0 if not away else float(np.copysign(np.inf, away))
    return Shift(*name, value, reference, effect, p_value, len(past))
