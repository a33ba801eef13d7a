"""Each guard a small pure function: numbers in, the guard with its number out.

Nothing here loads a model or reads a file. A guard that only warns always passes; its text says what
was wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from automl.modeling.metrics import Metric

__all__ = [
    "Guard",
    "SliceGains",
    "agreement",
    "drift",
    "latency",
    "leak",
    "mean_level",
    "psi",
    "size",
    "slice_gains",
    "worst_slice",
]

BINS = 10
DRIFTED, FOREIGN = 0.25, 1.0  # PSI reported as a shift; PSI of a model that predicts something else
CORRELATED = 0.5  # correlation with the champion, above which a shift is one of level or spread
LEVEL_SDS = 4.0  # block standard deviations between predictions' and labels' mean
LEVEL_BLOCKS = 4  # fewer give no usable standard deviation
SLICE_LOSS = 0.02  # relative
SLICE_SURE = 0.8
SLICE_ROWS = 30  # of a slice in a block; a loss of fewer is mostly luck
MOST_SLICES = 20  # values of a column, the most frequent
LEAST_NOISE = 0.002  # lower bound of the block standard deviation of a slice's gain
# correlation reported as low; correlation of swapped classes or columns
AGREED, OPPOSED = 0.9, -0.2
LEAKS = 0.95  # share of a tree model's gain
SLOWEST = 10.0  # seconds per 1,000 rows: a million rows would take three hours, a night's window
LARGEST = 500  # MB: every score fetches, digests and loads them, in about ten seconds

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Guard:
    """One check, what it found and what it wanted."""

    name: str
    passed: bool
    found: str
    wanted: str


@dataclass(frozen=True, slots=True)
class SliceGains:
    """The new blend against the champion on one slice: relative gains and rows, newest block first."""

    name: str
    gains: tuple[float, ...]
    rows: tuple[int, ...]


def psi(expected: Array, found: Array, weight: Array | None = None) -> float:
    """Population stability index of two samples, over ten quantile bins of the first.

    0 for equal distributions; half a row is added to each bin, so that empty ones stay finite. `weight` is
    that of both samples' rows, which are then the same.

    Source: Siddiqi 2006, "Credit risk scorecards"; 0.25 is its line for a large shift.
    """
    shares = np.linspace(0, 1, BINS + 1)[1:-1]
    if weight is None:
        edges = np.unique(np.quantile(expected, shares))
    else:
        weight = weight / weight.mean()
        edges = np.unique(np.quantile(expected, shares, weights=weight, method="inverted_cdf"))
    bins = len(edges) + 1
    before, after = (
        (np.bincount(np.searchsorted(edges, x, side="right"), weight, bins) + 0.5)
        / (len(x) + 0.5 * bins)
        for x in (expected, found)
    )
    return float(np.sum((after - before) * np.log(after / before)))


def drift(champion: Array, found: Array, weight: Array | None = None) -> Guard:
    """Whether predictions moved away from the champion's on the same rows; the worst column counts.

    Outputs have shape (n_rows,) or (n_rows, n_classes). A shift is reported and not refused: a better
    model may well predict differently, and where the base rate moves, a refit moves with it. A model that
    also hardly correlates with the champion predicts something else, and is refused.
    """
    columns = list(zip(_columns(champion).T, _columns(found).T, strict=True))
    found_psi = [psi(a, b, weight) for a, b in columns]
    worst = max(found_psi)
    correlation = min(
        _correlation(a, b, weight)
        for (a, b), p in zip(columns, found_psi, strict=True)
        if p == worst
    )
    result = f"PSI {worst:.2f}" + (
        f", shifted, correlation {correlation:.2f}" if worst > DRIFTED else ""
    )
    wanted = f"below {DRIFTED:g}; refused above {FOREIGN:g} with a correlation below {CORRELATED:g}"
    foreign = worst > FOREIGN and correlation < CORRELATED
    return Guard("drift against the champion", not foreign, result, wanted)


def mean_level(output: Array, labels: Array, weight: Array | None = None) -> Guard:
    """Whether the mean prediction is one that labels of recent blocks have had.

    Parameters
    ----------
    output
        Predictions for the newest block's rows, shape (n_rows,) or (n_rows, n_classes).
    labels
        Means of the target, or shares of the classes, per block, shape (n_blocks,) or
        (n_blocks, n_classes); weighted as the rows are.
    weight
        How much each row of `output` counts, shape (n_rows,).

    Assumes that the rows are typical of a block; a sample of its last hours is not.
    """
    means, found = _columns(labels), _columns(output)
    name, wanted = "mean of predictions", f"within {LEVEL_SDS:g} block deviations of the labels'"
    if len(means) < LEVEL_BLOCKS:
        return Guard(name, True, f"{len(means)} blocks are too few to say", wanted)
    share = np.full(len(found), 1 / len(found)) if weight is None else weight / weight.sum()
    mean = share @ found
    noise = share**2 @ (found - mean) ** 2  # variance of the weighted mean
    spread = np.sqrt(means.var(axis=0, ddof=1) + noise)
    away = np.abs(mean - means.mean(axis=0)) / np.maximum(spread, 1e-12)
    worst = int(np.argmax(away))
    result = (
        f"{mean[worst]:.4g}, labels {means[:, worst].mean():.4g}: "
        f"{away[worst]:.1f} block deviations"
    )
    return Guard(name, bool(away[worst] <= LEVEL_SDS), result, wanted)


def slice_gains(
    columns: Sequence[pd.DataFrame],
    champion: Sequence[tuple[Array, Array, Array]],
    challenger: Sequence[tuple[Array, Array, Array]],
    metric: Metric,
) -> list[SliceGains]:
    """Relative gains per value of each slice column.

    Parameters
    ----------
    columns
        The declared slice columns of the scored rows, a frame per block, newest first.
    champion, challenger
        (truth, output, weight) per block, for the same rows.
    """
    slices = []
    for name in columns[0].columns if columns else ():
        for value in columns[0][name].value_counts().head(MOST_SLICES).index:
            found = [
                (
                    _gain(np.asarray(frame[name] == value), new, old, metric),
                    frame[name] == value,
                )
                for frame, old, new in zip(columns, champion, challenger, strict=False)
            ]
            finite = [(gain, int(rows.sum())) for gain, rows in found if np.isfinite(gain)]
            if finite:
                gains, rows = zip(*finite, strict=True)
                slices.append(SliceGains(f"{name} = {value}", gains, rows))
    return slices


def worst_slice(slices: Sequence[SliceGains]) -> Guard:
    """Whether a declared slice has become more than 2 % worse, with a probability of 0.8.

    The worst of many slices always looks bad, so slices are shrunk towards their common gain by the
    spread between them (normal-normal model, method of moments, as in `automl.promotion.decide`). A block's noise
    is taken to fall with its rows, the same for all slices.
    """
    name, wanted = "worst slice", f"not {SLICE_LOSS:.0%} worse with P >= {SLICE_SURE:g}"
    freedom = sum(len(s.gains) - 1 for s in slices)
    if not freedom:
        return Guard(name, True, "no slice on two blocks", wanted)
    rows = np.array([sum(s.rows) for s in slices], dtype=float)
    blocks = np.array([len(s.gains) for s in slices], dtype=float)
    means = np.array([np.average(s.gains, weights=s.rows) for s in slices])
    squares = sum(
        float(np.sum(np.array(s.rows) * (np.array(s.gains) - m) ** 2))
        for s, m in zip(slices, means, strict=True)
    )
    se2 = np.maximum(squares / freedom / rows, LEAST_NOISE**2 / blocks)
    tau2 = max(0.0, float(np.var(means, ddof=1) - se2.mean())) if len(slices) > 1 else 0.0
    trust = 1 / (tau2 + se2)
    centre = float(np.average(means, weights=trust))
    own = tau2 / (tau2 + se2)  # weight of a slice's own mean
    shrunk = centre + (means - centre) * own
    sd = np.sqrt(own * se2 + (1 - own) ** 2 / trust.sum())
    sure = stats.norm.cdf((-SLICE_LOSS - shrunk) / sd)
    worst = int(np.argmax(sure))
    result = f"{slices[worst].name}: gain {shrunk[worst]:+.1%}, P(2 % worse) {sure[worst]:.2f}"
    return Guard(name, bool(sure[worst] < SLICE_SURE), result, wanted)


def latency(seconds_per_1000: float) -> Guard:
    """Whether the model is fast enough to predict a batch."""
    found, wanted = f"{seconds_per_1000:.2g} s per 1,000 rows", f"at most {SLOWEST:g} s"
    return Guard("latency", seconds_per_1000 <= SLOWEST, found, wanted)


def size(megabytes: float) -> Guard:
    """Whether the model's files may be fetched and loaded by every score."""
    found, wanted = f"{megabytes:.1f} MB", f"at most {LARGEST} MB"
    return Guard("size on disk", megabytes <= LARGEST, found, wanted)


def agreement(swept: Array, refitted: Array, weight: Array | None = None) -> Guard:
    """Whether the refitted model predicts the newest block as the sweep's fits did.

    Both have shape (n_rows,) or (n_rows, n_classes); the worst column counts. Below 0.9 it is reported and
    not refused: the refit has seen these rows and the sweep's fits have not, so deep trees correlate little on a
    noisy target although nothing is wrong (0.15 for trees grown to single rows, 0.95 for leaves of twenty).
    Classes or columns that were swapped turn the sign.
    """
    pairs = zip(_columns(swept).T, _columns(refitted).T, strict=True)
    worst = min(_correlation(a, b, weight) for a, b in pairs)
    result = f"correlation {worst:.2f}" + (", low" if worst < AGREED else "")
    wanted = f"at least {AGREED:g}, refused below {OPPOSED:g}"
    return Guard("refit agrees with the sweep", worst >= OPPOSED, result, wanted)


def leak(shares: Mapping[str, float]) -> Guard:
    """Whether one feature carries nearly all of a tree model's gain; a warning, never a refusal."""
    name, wanted = "leak alarm", f"no feature above {LEAKS:.0%} of the gain; a warning only"
    if not shares:
        return Guard(name, True, "no tree model", wanted)
    feature, share = max(shares.items(), key=lambda item: item[1])
    question = ": is it known in time?" if share > LEAKS else ""
    return Guard(name, True, f"{feature} {share:.0%}{question}", wanted)


def _columns(values: Array) -> Array:
    """Shape (n, n_outputs); of two classes only the second."""
    table = np.asarray(values, dtype="float64")
    if table.ndim == 1:
        return table[:, None]
    return table[:, 1:] if table.shape[1] == 2 else table


def _gain(
    mask: NDArray[np.bool_],
    new: tuple[Array, Array, Array],
    old: tuple[Array, Array, Array],
    metric: Metric,
) -> float:
    if mask.sum() < SLICE_ROWS:
        return float("nan")
    a, b = (
        metric.loss(metric.score(truth[mask], output[mask], weight[mask]))
        for truth, output, weight in (new, old)
    )
    return (b - a) / max(b, 1e-12)


def _correlation(a: Array, b: Array, weight: Array | None = None) -> float:
    if np.ptp(a) < 1e-12 or np.ptp(b) < 1e-12:
        return 1.0  # a constant does not disagree; another guard refuses constants
    if weight is None:
        return float(np.corrcoef(a, b)[0, 1])
    (aa, ab), (_, bb) = np.cov(a, b, aweights=weight)
    return float(ab / np.sqrt(aa * bb))
