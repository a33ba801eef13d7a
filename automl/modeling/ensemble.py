"""A few recipes are better than one: greedy selection, and the model that averages them.

Selection never looks at rows outside the judged blocks; the model is made of stock scikit-learn
classes, so that it loads where this package is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelEncoder

from automl.history.contract import Contract
from automl.modeling.features import all_classes
from automl.modeling.losses import DISCOUNT
from automl.modeling.metrics import Metric

__all__ = ["MOST_MEMBERS", "Candidate", "assemble", "block_weights", "greedy", "level"]

MOST_MEMBERS = 5  # beyond five, simulations show no further gain
ROUNDS = 12
ANCHOR_VOTES = 3  # votes the champion starts with: the mix cannot fall far below it
TWINS = 0.999  # correlation above which two candidates are one

Outputs = Sequence[NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Outputs of one recipe on the judged blocks, newest first, where it stands, and what a refit costs."""

    outputs: Outputs
    stands: float
    seconds_refit: float


def block_weights(n_blocks: int) -> NDArray[np.float64]:
    """Weights of blocks, newest first, sum 1."""
    weights = DISCOUNT ** np.arange(n_blocks)
    return weights / weights.sum()


def level(losses: Sequence[float], least: Sequence[float]) -> float:
    """Where a recipe stands over blocks: the geometric mean of its losses, newer ones weighing more.

    So a ratio of two levels is what they differ by on an average block, and one hard block does not outweigh
    the easy ones. `least` is added to the losses, lest answers without a fault be told apart by their last
    digits. Both are per block, newest first; NaN if a loss is.
    """
    added = np.maximum(np.asarray(losses) + np.asarray(least), 1e-12)
    return float(np.exp(np.dot(block_weights(len(added)), np.log(added))))


def greedy(
    candidates: Mapping[str, Candidate],
    truth: Sequence[NDArray[np.float64]],
    metric: Metric,
    stand: Callable[[Sequence[float]], float],
    *,
    weights: Sequence[NDArray[np.float64]] | None = None,
    anchor: Mapping[str, float] | None = None,
    seconds: float = float("inf"),
) -> dict[str, float]:
    """Weights of the members whose mix stands lowest, by greedy selection with replacement.

    `stand` makes one number of losses per block, newest first: `level`, or their mean. `truth` and the rows'
    `weights` go block by block. `anchor` are weights of members to start from with `ANCHOR_VOTES` votes. Members whose refits sum to more than `seconds` are never chosen
    together. Ties go to members already in; where there are as many as may be, who comes in takes the place
    of the one with the fewest votes.

    Source: Caruana, Niculescu-Mizil, Crew, Ksikes 2004, "Ensemble selection from libraries of models".
    """
    judged = [(y, weights[b] if weights else None) for b, y in enumerate(truth)]
    votes = {name: ANCHOR_VOTES * w for name, w in (anchor or {}).items() if name in candidates}
    pool = _without_twins(candidates, set(votes))
    best_votes, best = votes, float("inf")
    if votes:
        sums = _sums(candidates, votes, len(truth))
        best = stand(_losses(sums, sum(votes.values()), judged, metric))
    for _ in range(ROUNDS):
        round_best, chosen = float("inf"), votes
        for name in pool:
            after = _with_vote(votes, name)
            if sum(candidates[m].seconds_refit for m in after) > seconds:
                continue
            mixed = _sums(candidates, after, len(truth))
            mine = stand(_losses(mixed, sum(after.values()), judged, metric))
            if mine < round_best - 1e-12 or (name in votes and mine <= round_best):
                round_best, chosen = mine, after
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
        (name, weight, fitted encoder, fitted estimator) each; estimators answer class numbers. One whose
        training rows lacked a class gives it a probability of 0.
    features
        Column names the model wants, in order.
    """
    classes = len(contract.classes)
    named = [
        (name, Pipeline([("encode", encoder), ("model", all_classes(model, classes))]))
        for name, _, encoder, model in members
    ]
    weights = [weight for _, weight, _, _ in members]
    model: Any
    if contract.classes:
        model = VotingClassifier(named, voting="soft", weights=weights)
        model.le_ = LabelEncoder()
        model.le_.classes_ = model.classes_ = np.asarray(contract.classes)
    else:
        model = VotingRegressor(named, weights=weights)
    # fitted already: the attributes that fit() would have set
    model.estimators_ = [pipeline for _, pipeline in named]
    model.feature_names_in_ = np.asarray(features, dtype=object)
    return model


def _with_vote(votes: dict[str, float], name: str) -> dict[str, float]:
    """The votes with one more for that name; of too many members the weakest goes."""
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
    judged: Sequence[tuple[NDArray[np.float64], NDArray[np.float64] | None]],
    metric: Metric,
) -> list[float]:
    pairs = zip(judged, sums, strict=True)
    return [metric.loss(metric.score(y, s / total, w)) for (y, w), s in pairs]


def _without_twins(candidates: Mapping[str, Candidate], keep: set[str]) -> list[str]:
    ranked = sorted(candidates, key=lambda n: (n not in keep, candidates[n].stands, n))
    kept: list[str] = []
    for name in ranked:
        mine = candidates[name].outputs[0].ravel()
        twin = any(
            _correlation(mine, candidates[other].outputs[0].ravel()) > TWINS for other in kept
        )
        if name in keep or not twin:
            kept.append(name)
    return kept[:12]  # below the twelfth nothing was ever chosen, and each costs a metric per round


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.std() == 0 or b.std() == 0:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(np.corrcoef(a, b)[0, 1])
