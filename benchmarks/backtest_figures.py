"""From replayed events to the figures that are quoted: ratios of mean losses per table, paired over batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from automl.backtest import common_losses, costs_of, recommended

__all__ = ["figures_of"]

Events = Mapping[str, Sequence[Mapping[str, Any]]]
CONSTANT = ("full", "warm", "refit", "never")


class Ratio(NamedTuple):
    """Logarithm of a ratio of two mean losses, and its standard error paired over batches."""

    log: float
    error: float


def figures_of(
    tables: Mapping[str, Events],
) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Figures over all tables, and per table what the first half recommends and the second half says.

    The first cycle, which all policies share, counts neither for losses nor for costs.
    """
    figures: dict[str, float] = {}
    whole = {n: common_losses(e, 1) for n, e in tables.items()}
    if all({"warm", "full"} <= set(losses) for losses in whole.values()):
        warm = [ratio(losses["warm"], losses["full"]) for losses in whole.values()]
        figures |= _mean("warm_loss_gap", warm)
        figures["warm_cost"] = _share([costs_of(e, 1) for e in tables.values()], "warm")
        refits = [ratio(losses["refit"], losses["full"]) for losses in whole.values()]
        figures |= _mean("refit_loss_gap", refits)
        figures["refit_cost"] = _share([costs_of(e, 1) for e in tables.values()], "refit")
    halves = {name: half for name, e in tables.items() if (half := _half(e))}
    if not halves or len(halves) < len(tables):
        return figures, halves
    second = {n: _second(tables[n]) for n in halves}
    chosen = {n: second[n][halves[n]["recommended"]] for n in halves}
    best = [ratio(chosen[n], second[n][halves[n]["best"]]) for n in halves]
    figures |= _mean("recommended_regret", best)
    costs = [costs_of(tables[n], _middle(tables[n])) for n in halves]
    spent = sum(c[halves[n]["recommended"]] for n, c in zip(halves, costs, strict=True))
    figures["recommended_cost"] = round(spent / sum(c["full"] for c in costs), 4)
    constant = {
        name: [ratio(chosen[n], second[n][name]) for n in halves]
        for name in CONSTANT
        if all(name in losses for losses in second.values())
    }
    hardest = max(constant, key=lambda name: np.mean([r.log for r in constant[name]]))
    figures |= _mean(f"recommended_over_best_constant_{hardest}", constant[hardest])
    return figures, halves


def ratio(losses: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Of the means; the error is that of the mean of paired differences of relative losses (delta method)."""
    a, b = np.asarray(losses, dtype="float64"), np.asarray(reference, dtype="float64")
    differences = a / a.mean() - b / b.mean()
    error = float(np.std(differences, ddof=1) / np.sqrt(len(a))) if len(a) > 1 else 0.0
    return Ratio(float(np.log(a.mean() / b.mean())), error)


def _half(events: Events) -> dict[str, Any]:
    middle, second = _middle(events), _second(events)
    found = recommended(events, 0, middle)
    if found.policy is None or not next(iter(second.values()), ()):
        return {}
    means = {name: float(np.mean(losses)) for name, losses in second.items()}
    return {
        "recommended": found.policy,
        "reason": found.reason,
        "best": min(means, key=lambda name: means[name]),
        "second_half": {name: round(mean, 6) for name, mean in means.items()},
    }


def _middle(events: Events) -> int:
    return min(map(len, events.values())) // 2


def _second(events: Events) -> dict[str, list[float]]:
    return common_losses(events, _middle(events))


def _mean(name: str, ratios: Sequence[Ratio]) -> dict[str, float]:
    """Geometric mean over tables less one, and its standard error: tables are independent."""
    mean = float(np.exp(np.mean([r.log for r in ratios])) - 1)
    error = float(np.sqrt(sum(r.error**2 for r in ratios)) / len(ratios))
    return {name: round(mean, 5), f"{name}_standard_error": round(error, 5)}


def _share(costs: Sequence[Mapping[str, float]], name: str) -> float:
    return round(sum(c[name] for c in costs) / max(sum(c["full"] for c in costs), 1e-9), 4)
