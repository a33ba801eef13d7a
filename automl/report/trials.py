"""The trials of a cycle for its report: intervals of their distances, where the time went, what the search gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, variance
from typing import Any

from automl.modeling.recipes import Recipe
from automl.store import Cycle, Store

__all__ = ["budget_of", "with_intervals"]

Z90 = 1.6449  # standard deviations to either end of a 90 % interval
SHOWN_TRIALS = 14
SHOWN_PARAMS = 4
LEAST_NOISE = 0.002  # of the distance of two recipes on a block
NEAR = 0.2  # trials further behind say nothing about noise
Trials = Mapping[str, Mapping[str, Any]]  # recipe -> as the store keeps it


def with_intervals(store: Store, cycle: Cycle, ranked: Mapping[str, Any]) -> dict[str, Any]:
    """The leaderboard's best trials, each with its distance from the best one and a 90 % interval of it.

    The distance is the mean over blocks of the difference of both losses, relative to the best trial's. Its noise
    is pooled over trials: the standard deviation between blocks of their distances. With two or three blocks a
    trial's own would say little.
    """
    stored = {Recipe.from_json(t["recipe"]).id: t for t in store.trials(cycle)}
    complete = [t for t in ranked["trials"] if t["state"] == "complete"]
    best = stored[complete[0]["recipe"]]["losses"] if complete else []
    noise = _noise([stored[t["recipe"]]["losses"] for t in complete[1:]], best)
    rows = [_row(t, stored, best, noise) for t in ranked["trials"][:SHOWN_TRIALS]]
    states = [t["state"] for t in ranked["trials"]]
    failed = [t for t in ranked["trials"] if t["state"] == "failed"]
    return {
        "blocks": ranked["blocks"],
        "also": ranked["also"],
        "trials": rows,
        "counts": {s: states.count(s) for s in ("complete", "pruned", "failed")},
        "failed": [{"family": t["family"], "reason": _first_line(t["reason"])} for t in failed[:5]],
    }


def _row(
    trial: Mapping[str, Any], stored: Trials, best: Sequence[float], noise: float
) -> dict[str, Any]:
    row = {**trial, "key_params": _key_params(trial["params"]), "distance": None}
    if trial["state"] == "complete":
        distances = _distances(stored[trial["recipe"]]["losses"], best)
        distance = fmean(distances)
        half = 0.0 if trial["rank"] == 1 else Z90 * noise / sqrt(len(distances))
        row |= {"distance": distance, "low": distance - half, "high": distance + half}
        row["scores"] = list(stored[trial["recipe"]]["scores"])
    return row


def _distances(losses: Sequence[float], best: Sequence[float]) -> list[float]:
    """Per block, relative: 0.01 is 1 % more loss than the best trial's."""
    return [(a - b) / max(abs(b), 1e-12) for a, b in zip(losses, best, strict=False)]


def _noise(losses: Sequence[Sequence[float]], best: Sequence[float]) -> float:
    distances = [_distances(each, best) for each in losses]
    spreads = [variance(d) for d in distances if len(d) > 1 and abs(fmean(d)) < NEAR]
    return max(LEAST_NOISE, sqrt(fmean(spreads)) if spreads else 0.0)


def _key_params(params: Mapping[str, Any]) -> str:
    """The first parameters, in a few words."""
    shown = [f"{k} {_value(v)}" for k, v in list(params.items())[:SHOWN_PARAMS]]
    return ", ".join(shown) + (", …" if len(params) > SHOWN_PARAMS else "")


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _first_line(text: str) -> str:
    return (text.splitlines() or [""])[0][:200]


def budget_of(
    store: Store, cycle: Cycle, why: Mapping[str, Any], diagnostics: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Core-seconds by purpose, and the best loss over the seconds of the sweep; None where nothing was fitted."""
    cost, trials = why.get("cost"), store.trials(cycle)
    if not cost or not cost.get("core_seconds"):
        return None
    families: dict[str, float] = {}
    for t in trials:
        family = t["recipe"]["family"]
        families[family] = families.get(family, 0.0) + float(t["seconds"])
    workers = int(diagnostics.get("workers") or 0)
    spent = float(cost.get("core_seconds") or 0.0)
    idle = workers * float(cost.get("sweep_seconds") or 0.0) - spent if workers else 0.0
    ended = sorted((t for t in trials if t["status"] == "complete"), key=lambda t: t["elapsed"])
    return {
        **cost,
        "families": dict(sorted(families.items(), key=lambda item: -item[1])),
        "idle_core_seconds": max(0.0, idle),
        "stopped": (why.get("sweep") or {}).get("stopped"),
        "training_rows": (why.get("sweep") or {}).get("rows"),
        "search": _search(ended),
    }


def _search(ended: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Complete trials in the order in which they ended, with the best score until then."""
    points, best = [], None
    for t in ended:
        loss = fmean(t["losses"])
        if best is None or loss < best[0]:
            best = (loss, fmean(t["scores"]))
        points.append(
            {
                "seconds": t["elapsed"],
                "family": t["recipe"]["family"],
                "score": fmean(t["scores"]),
                "best": best[1],
            }
        )
    return points
