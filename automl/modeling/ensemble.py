"""Greedy selection of recipes for a blend, and the model that averages them.

Selection reads the validation rows of blocks only; the model is made of stock scikit-learn classes, so
that it loads where this package is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from automl.history.contract import Contract
from automl.modeling.features import all_classes
from automl.modeling.losses import DISCOUNT
from automl.modeling.metrics import Metric
from automl.modeling.tasks import task_of

__all__ = [
    "MOST_MEMBERS",
    "Candidate",
    "assemble",
    "block_weights",
    "default_share",
    "greedy",
    "level",
]

MOST_MEMBERS = 8
ROUNDS = 20
ANCHOR_VOTES = 5  # initial votes of the champion: the mix cannot fall far below it
SEASON_SHARE = 0.4  # weight of the block of the same season, among all blocks
MOST_DEFAULT = 0.5  # largest share of a blend that the default recipe gets
CHOICE_NOISE = 2.0  # times the variance of the mean gain: the same blocks chose the blend
TWINS = 0.999  # two candidates correlated above this are one
MOST_CANDIDATES = 12  # below the twelfth none was ever chosen, and each costs a metric per round

Outputs = Sequence[NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Outputs of one recipe on the blocks, newest first, its level, and the seconds of a refit."""

    outputs: Outputs
    level: float
    seconds_refit: float


def block_weights(n_blocks: int, *, seasonal: bool = False) -> NDArray[np.float64]:
    """Weights of blocks, newest first, that sum to 1.

    If `seasonal`, the last block is the one of the same season, and weighs `SEASON_SHARE`.

    >>> block_weights(2).round(2).tolist()
    [0.54, 0.46]
    >>> block_weights(3, seasonal=True).round(2).tolist()
    [0.32, 0.28, 0.4]
    """
    weights = DISCOUNT ** np.arange(n_blocks)
    if seasonal and n_blocks > 1:
        weights[-1] = SEASON_SHARE / (1 - SEASON_SHARE) * weights[:-1].sum()
    return weights / weights.sum()


def level(
    losses: Sequence[float],
    least: Sequence[float],
    weights: NDArray[np.float64] | None = None,
) -> float:
    """The level of a recipe: the geometric mean of its losses over blocks.

    The ratio of two levels is the difference on an average block, and one hard block does not outweigh the
    easy ones. `least` is added to the losses so that rounding does not rank near-perfect models. Losses,
    `least` and the blocks' `weights`, by default `block_weights`, are newest first; NaN if a loss is.
    """
    added = np.maximum(np.asarray(losses) + np.asarray(least), 1e-12)
    shares = block_weights(len(added)) if weights is None else weights
    return float(np.exp(np.dot(shares, np.log(added))))


def default_share(gains: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The share of a blend that goes to the default recipe, which needs no choice.

    The smaller the mean gain over the default recipe is compared with its noise, the larger the share: noise over noise
    plus squared gain, as in the empirical Bayes estimate of a mean (James and Stein 1961, "Estimation with
    quadratic loss"). 0 for a single block, whose noise is unknown.

    Parameters
    ----------
    gains
        Log ratio of the default recipe's loss and the blend's per block.
    weights
        Of the blocks; their sum is 1.

    >>> weights = np.array([0.5, 0.5])
    >>> default_share(np.array([0.1, 0.1]), weights), default_share(np.array([-0.1, 0.05]), weights)
    (0.0, 0.5)
    """
    if len(gains) < 2:
        return 0.0
    gain = float(weights @ gains)
    if gain <= 0:
        return MOST_DEFAULT
    variance = float(weights @ (gains - gain) ** 2) * len(gains) / (len(gains) - 1)
    noise = CHOICE_NOISE * variance * float((weights**2).sum())
    whole = max(noise + gain**2, 1e-300)
    return min(MOST_DEFAULT, noise / whole)


def greedy(
    candidates: Mapping[str, Candidate],
    truth: Sequence[NDArray[np.float64]],
    metric: Metric,
    summary: Callable[[Sequence[float]], float],
    *,
    weights: Sequence[NDArray[np.float64]] | None = None,
    anchor: Mapping[str, float] | None = None,
    seconds: float = float("inf"),
) -> dict[str, float]:
    """Weights of the members whose mix has the lowest loss, by greedy selection with replacement.

    Parameters
    ----------
    truth, weights
        Outcomes and row weights per block, newest first.
    summary
        Makes one number of the losses per block: `level`, or their mean.
    anchor
        Weights of members that start with `ANCHOR_VOTES` votes together.
    seconds
        Members whose refits sum to more are never chosen together.

    Ties go to members already chosen. Once there are `MOST_MEMBERS`, a new member replaces the member with the
    fewest votes.

    Source: Caruana, Niculescu-Mizil, Crew, Ksikes 2004, "Ensemble selection from libraries of models".
    """
    validation = [(y, weights[b] if weights else None) for b, y in enumerate(truth)]
    votes = {name: ANCHOR_VOTES * w for name, w in (anchor or {}).items() if name in candidates}
    pool = _without_twins(candidates, set(votes))
    best_votes, best = votes, float("inf")
    if votes:
        sums = _sums(candidates, votes, len(truth))
        best = summary(_losses(sums, sum(votes.values()), validation, metric))
    for _ in range(ROUNDS):
        round_best, chosen = float("inf"), votes
        for name in pool:
            after = _with_vote(votes, name)
            if sum(candidates[m].seconds_refit for m in after) > seconds:
                continue
            mixed = _sums(candidates, after, len(truth))
            loss = summary(_losses(mixed, sum(after.values()), validation, metric))
            if loss < round_best - 1e-12 or (name in votes and loss <= round_best):
                round_best, chosen = loss, after
        if chosen is votes:
            break
        votes = chosen
        if round_best < best - 1e-9:
            best, best_votes = round_best, votes
    total = sum(best_votes.values())
    return {name: count / total for name, count in best_votes.items()}


def assemble(
    members: Sequence[tuple[str, float, Any, Any]], contract: Contract, features: Sequence[str]
) -> Any:
    """One fitted scikit-learn model that averages fitted members.

    Parameters
    ----------
    members
        (name, weight, fitted encoder, fitted estimator) each; estimators were fitted on class numbers. An
        estimator whose training rows lacked a class gives it a probability of 0.
    features
        Names of the columns that the model takes, in order.
    """
    named = [
        (
            name,
            Pipeline(
                [("encode", encoder), ("model", all_classes(estimator, len(contract.classes)))]
            ),
        )
        for name, _, encoder, estimator in members
    ]
    model = task_of(contract.classes).average(named, [weight for _, weight, _, _ in members])
    # fitted already: the attributes that fit() would have set
    model.estimators_ = [pipeline for _, pipeline in named]
    model.feature_names_in_ = np.asarray(features, dtype=object)
    return model


def _with_vote(votes: dict[str, float], name: str) -> dict[str, float]:
    """The votes with one more for that name; it replaces the weakest if there are too many members."""
    if name in votes or len(votes) < MOST_MEMBERS:
        return {**votes, name: votes.get(name, 0.0) + 1}
    weakest = min(votes, key=lambda n: votes[n])
    return {n: v for n, v in votes.items() if n != weakest} | {name: 1.0}


def _sums(
    candidates: Mapping[str, Candidate], votes: Mapping[str, float], n_blocks: int
) -> list[Any]:
    return [sum(v * candidates[n].outputs[b] for n, v in votes.items()) for b in range(n_blocks)]


def _losses(
    sums: Sequence[Any],
    total: float,
    validation: Sequence[tuple[NDArray[np.float64], NDArray[np.float64] | None]],
    metric: Metric,
) -> list[float]:
    pairs = zip(validation, sums, strict=True)
    return [metric.loss(metric.score(y, s / total, w)) for (y, w), s in pairs]


def _without_twins(candidates: Mapping[str, Candidate], keep: set[str]) -> list[str]:
    ranked = sorted(candidates, key=lambda n: (n not in keep, candidates[n].level, n))
    distinct: list[str] = []
    for name in ranked:
        output = candidates[name].outputs[0].ravel()
        twin = any(
            _correlation(output, candidates[other].outputs[0].ravel()) > TWINS for other in distinct
        )
        if name in keep or not twin:
            distinct.append(name)
    return distinct[:MOST_CANDIDATES]


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.std() == 0 or b.std() == 0:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(np.corrcoef(a, b)[0, 1])
