"""What a backtest found, as one document: a row per policy, the recommendation, every event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automl.backtest.compare import Comparison, Recommendation, compare, recommend
from automl.backtest.scratch import folder_of
from automl.backtest.window import Window
from automl.modeling.metrics import get_metric
from automl.problem import POLICIES
from automl.workspace import day_of

__all__ = ["IN_WORDS", "common_losses", "costs_of", "make_document", "recommended"]

Events = Mapping[str, Sequence[Mapping[str, Any]]]
ACTIONS = ("full", "warm", "refit", "skip", "refused")
IN_WORDS = {
    "schedule": "train at every slot, as much as has changed calls for",
    "full": "search in full at every slot",
    "warm": "search a little at every slot",
    "refit": "refit the champion at every slot",
    "never": "never retrain",
    "on_degradation": "retrain when published predictions do worse than was promised",
    "on_drift": "retrain when columns drift",
    "on_new_rows": "retrain when enough rows are new",
    "cost_aware": "retrain when what staleness costs exceeds what training costs",
}


def make_document(
    window: Window,
    events: Events,
    *,
    failed: Mapping[str, str],
    home: Path,
    estimate: float,
    seconds: float,
) -> dict[str, Any]:
    """The document of a backtest; policies that failed have a row and no rank.

    Parameters
    ----------
    events
        Documents of the replayed events per policy, oldest first; the first one is the same for all.
    estimate, seconds
        What it was expected to take at most, and took.
    """
    problem, ranked = window.problem, {n: e for n, e in events.items() if n not in failed}
    losses = common_losses(ranked)
    found = recommended(ranked)
    compared = compare(losses) if len(next(iter(losses.values()), ())) else {}
    batches = len(next(iter(losses.values()), ()))
    first = next(iter(events.values()))[0]
    return {
        "problem": problem.name,
        "metric": problem.metric.name,
        "better": get_metric(problem.metric.name).better,
        "from": day_of(window.start),
        "to": day_of(window.end),
        "every": problem.schedule.retrain or problem.schedule.score or str(problem.horizon),
        "cycles": len(window.events),
        "batches": batches,
        "recommendation": {
            "policy": found.policy,
            "best": found.best,
            "text": _sentence(found),
            "rule": "the cheapest policy within one paired standard error of the best; never is not a candidate",
        },
        "policies": [_row(problem.metric.name, n, events[n], compared.get(n)) for n in events],
        "first_core_seconds": first["core_seconds"],
        "as_known": _as_known(window, next(iter(events.values()))),
        "not_run": _not_run(window, events, failed),
        "failed": dict(failed),
        "estimated_seconds": round(estimate, 1),
        "seconds": round(seconds, 1),
        "folder": str(home),
        "events": {name: list(found) for name, found in events.items()},
    }


def common_losses(
    events: Events, first: int = 0, last: int | None = None
) -> dict[str, list[float]]:
    """Losses on the batches that every policy has predicted and that have labels; of some events alone, if given."""
    shortest = min((len(found) for found in events.values()), default=0)
    places = range(shortest)[first:last]
    scored = [
        i for i in places if all(found[i].get("loss") is not None for found in events.values())
    ]
    return {name: [float(found[i]["loss"]) for i in scored] for name, found in events.items()}


def costs_of(events: Events, first: int = 0, last: int | None = None) -> dict[str, float]:
    """Core-seconds per policy on the events that all have; the first, which they share, does not count."""
    shortest = min((len(found) for found in events.values()), default=0)
    places = [i for i in range(shortest)[first:last] if i > 0]
    return {n: float(sum(found[i]["core_seconds"] for i in places)) for n, found in events.items()}


def recommended(events: Events, first: int = 0, last: int | None = None) -> Recommendation:
    """The policy to use, as some of the events show it."""
    return recommend(common_losses(events, first, last), costs_of(events, first, last))


def _sentence(found: Recommendation) -> str:
    if found.policy is None:
        return f"No recommendation: {found.reason}."
    words = IN_WORDS.get(found.policy, "the policy of that file")
    return f"Recommended: {found.policy} ({words}); {found.reason}."


def _row(
    metric: str, name: str, events: Sequence[Mapping[str, Any]], compared: Comparison | None
) -> dict[str, Any]:
    outcomes = Counter(e["outcome"] for e in events)
    actions = Counter(e["action"] for e in events)
    moved = [e["moved"] for e in events if e.get("moved") is not None]
    higher = get_metric(metric).better == "higher"
    row: dict[str, Any] = {
        "policy": name if name in POLICIES else Path(name).name,
        "folder": folder_of(name),
        "cycles": len(events),
        "score": None,
        "low": None,
        "high": None,
        "loss": None,
        "regret": None,
        "noise": None,
        "core_seconds": round(sum(e["core_seconds"] for e in events[1:]), 2),
        "promotions": outcomes["promote"],
        "reverts": outcomes["revert"],
        "moved": sum(moved) / len(moved) if moved else None,
        "actions": {action: actions[action] for action in ACTIONS},
    }
    if compared is None:
        return row
    ends = (compared.low, compared.high)
    return {
        **row,
        "score": 1 - compared.loss if higher else compared.loss,
        "low": 1 - ends[1] if higher else ends[0],
        "high": 1 - ends[0] if higher else ends[1],
        "loss": compared.loss,
        "regret": compared.regret,
        "noise": compared.noise,
    }


def _as_known(window: Window, events: Sequence[Mapping[str, Any]]) -> str:
    """Whether rows were replayed as they were known then."""
    if not window.problem.history.updated_at:
        return "then"
    kept = sum(bool(e["as_known_then"]) for e in events)
    text = "as known today: rows that have changed since are replayed as they are now"
    return (
        f"{text}; but the history of {kept} of {len(events)} cycles is as it was then"
        if kept
        else text
    )


def _not_run(window: Window, events: Events, failed: Mapping[str, str]) -> str:
    missing = {n: len(window.events) - len(e) for n, e in events.items() if n not in failed}
    behind = {n: count for n, count in missing.items() if count}
    if not behind:
        return ""
    cycles = ", ".join(f"{count} of {name}" for name, count in behind.items())
    return f"the budget ended before {cycles}; the same command continues, policies are compared until there"
