"""How published predictions turned out against what was promised, and how decisions turned out, cycle by cycle."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from automl.monitoring.promises import LiveLoss, live_losses
from automl.problem import HIGHER_IS_BETTER, Problem
from automl.report.regret_table import decisions_with_regret
from automl.store import Store, rows_of
from automl.workspace import day_of

__all__ = ["decisions_over_time", "live_over_time"]

SHOWN_GENERATIONS = 60
SHOWN_CYCLES = 60
CHANGES = ("promote", "approve", "rollback", "revert")  # another blend than before


def live_over_time(store: Store, problem: Problem, since: datetime | None) -> dict[str, Any]:
    """Realised scores of published generations, oldest first, with what was promised, and changes of champion."""
    found = live_losses(store, problem, limit=SHOWN_GENERATIONS)
    found = [x for x in found if since is None or x.as_of >= since]
    intervals = _intervals(store, problem, [x.generation for x in found])
    changes = [
        e
        for e in store.ledger(problem.name)
        if e.kind in CHANGES and (since is None or e.as_of >= since)
    ]
    return {
        "turned_out": [_point(x, problem, intervals.get(x.generation, {})) for x in found],
        "changes": [
            {
                "as_of": day_of(e.as_of),
                "at": f"{e.at:%Y-%m-%d %H:%M}",
                "kind": e.kind,
                "version": e.to_version,
                "reason": e.reason,
                "actor": e.actor,
            }
            for e in changes
        ],
    }


def _intervals(store: Store, problem: Problem, generations: list[int]) -> dict[int, dict[str, Any]]:
    """90 % intervals of realised scores that monitoring computed."""
    rows = rows_of(store, problem.table, "performance", generations)
    name = problem.metric.name
    return {r["generation"]: r for r in rows if r["metric"] == name and not r["slice_column"]}


def _point(loss: LiveLoss, problem: Problem, interval: dict[str, Any]) -> dict[str, Any]:
    higher = problem.metric.name in HIGHER_IS_BETTER

    def score(value: float | None) -> float | None:
        return None if value is None else 1 - value if higher else value

    limits = sorted(map(score, loss.promise.limits)) if loss.promise else [None, None]  # type: ignore[type-var]
    same = interval.get("labelled_rows") == loss.labelled_rows
    return {
        "generation": loss.generation,
        "as_of": day_of(loss.as_of),
        "until": day_of(loss.until),
        "version": loss.model_version,
        "rows": loss.rows,
        "labelled_rows": loss.labelled_rows,
        "value": score(loss.loss),
        "low": interval.get("low") if same else None,
        "high": interval.get("high") if same else None,
        "promised": score(loss.promised),
        "promised_low": limits[0],
        "promised_high": limits[1],
        "degraded": loss.degraded,
    }


def decisions_over_time(
    store: Store, problem: Problem, since: datetime | None
) -> list[dict[str, Any]]:
    """Decisions, oldest first: the gain that was estimated, and what later blocks say about it."""
    found = []
    for decision, regret in decisions_with_regret(store, problem, limit=SHOWN_CYCLES):
        if since is not None and decision.as_of < since:
            continue
        verdicts = decision.content.get("verdicts") or ()
        best = max(verdicts, key=lambda v: v["shrunk"], default=None)
        found.append(
            {
                "as_of": day_of(decision.as_of),
                "outcome": decision.outcome,
                "reason": decision.reason,
                "gain": best["shrunk"] if best else None,
                "low": best["low"] if best else None,
                "high": best["high"] if best else None,
                "probability": best["probability"] if best else None,
                "right": regret["right"],
                "regret": regret["regret"],
                "core_seconds": regret["core_seconds"],
                "wall_seconds": regret["wall_seconds"],
                "plan": regret["plan"],
            }
        )
    return found
