"""Everything that the report of a cycle shows, as one plain document; what is not in the store comes from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from automl.errors import ProblemError
from automl.problem import HIGHER_IS_BETTER, Problem
from automl.report.decision_evidence import evidence_of_decision
from automl.report.monitoring import monitoring_state
from automl.report.over_time import decisions_over_time, live_over_time
from automl.report.tables import champion, leaderboard, why
from automl.report.trials import budget_of, with_intervals
from automl.report.what_to_do import reproduction, ways_to_act
from automl.store import Cycle, DecisionRecord, Release, Store
from automl.workspace import Workspace, day_of, now

__all__ = ["cycle_report", "newest_cycle"]

LOOKED_BACK = 400  # cycles
EARLIER = 10  # cycles that are searched for diagnostics to compare with


def newest_cycle(store: Store, problem: Problem, as_of: datetime | None) -> Cycle:
    """The retraining cycle of an as_of, by default the newest, whatever became of it.

    Raises
    ------
    ProblemError
        There is none.
    """
    cycles = store.cycles(problem.name, verb="retrain", limit=LOOKED_BACK)
    found = next((c for c in cycles if as_of in (None, c.as_of)), None)
    if found is not None:
        return found
    known = ", ".join(list(dict.fromkeys(day_of(c.as_of) for c in cycles))[:5]) or "none"
    raise ProblemError(
        f"{problem.name}: no retraining cycle {'yet' if as_of is None else f'as of {day_of(as_of)}'}; found {known}",
        code="no_cycle",
        next_step=f"automl cycle {problem.file.name}",
    )


def cycle_report(
    problem: Problem,
    workspace: Workspace,
    as_of: datetime | None = None,
    *,
    since: datetime | None = None,
) -> dict[str, Any]:
    """What the report of a cycle shows.

    Parameters
    ----------
    as_of
        Of the cycle. Default: the newest.
    since
        What happened over time is shown from then on. Default: from the beginning.

    Raises
    ------
    ProblemError
        There is no such cycle.
    """
    store = Store(workspace)
    cycle = newest_cycle(store, problem, as_of)
    reason, ranked = (f(problem, workspace, cycle.as_of) for f in (why, leaderboard))
    record = _record(store, problem, cycle)
    released = _release(store, problem, record)
    diagnostics = _diagnostics(workspace, cycle)
    state = monitoring_state(store, problem)
    higher = problem.metric.name in HIGHER_IS_BETTER
    return {
        "problem": problem.name,
        "question": problem.question,
        "file": problem.file.name,
        "task": problem.task,
        "positive": str(problem.history.positive) if problem.task == "binary" else None,
        "target": problem.history.target,
        "metric": ranked["metric"],
        "better": "higher" if higher else "lower",
        "as_of": day_of(cycle.as_of),
        "attempt": cycle.attempt,
        "status": cycle.status,
        "made_at": f"{now():%Y-%m-%d %H:%M} UTC",
        "since": day_of(since) if since else None,
        "decision": {
            "outcome": record.outcome if record else None,
            "reason": cycle.reason,
            "evidence": evidence_of_decision(store, problem, cycle, reason),
            "plan": reason["plan"],
            "policy": reason["policy"],
            "probation": reason.get("probation"),
            "regret": reason.get("regret"),
            "version": released.model_version if released else None,
            "blend": str(released.blend) if released else None,
        },
        "live": {
            **champion(problem, workspace, None),
            **live_over_time(store, problem, since),
            "decisions": decisions_over_time(store, problem, since),
        },
        "gain": reason.get("attribution"),
        "leaderboard": with_intervals(store, cycle, ranked),
        "budget": budget_of(store, cycle, reason, diagnostics),
        "diagnostics": diagnostics,
        "earlier": _earlier(store, problem, workspace, cycle),
        "monitoring": state,
        "findings": list(diagnostics.get("warnings", ())),
        "batch": diagnostics.get("batch"),
        "act": ways_to_act(store, problem, cycle, record),
        "reproduce": reproduction(problem, workspace, cycle, record, released),
        "backtest": _backtest(workspace, problem),
    }


def _record(store: Store, problem: Problem, cycle: Cycle) -> DecisionRecord | None:
    found = store.decisions(problem.name, limit=LOOKED_BACK)
    return next((d for d in found if (d.as_of, d.attempt) == (cycle.as_of, cycle.attempt)), None)


def _release(store: Store, problem: Problem, record: DecisionRecord | None) -> Release | None:
    releases = store.releases(problem.name, limit=LOOKED_BACK) if record else []
    return next((r for r in releases if record and r.decision_id == record.id), None)


def _folder(workspace: Workspace, cycle: Cycle) -> Path:
    return workspace.report_of(cycle.problem, cycle.as_of, cycle.attempt)


def _diagnostics(workspace: Workspace, cycle: Cycle) -> dict[str, Any]:
    """What was computed from the cycle's predictions; empty if nothing was kept."""
    file = _folder(workspace, cycle) / "diagnostics.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _earlier(
    store: Store, problem: Problem, workspace: Workspace, cycle: Cycle
) -> dict[str, Any] | None:
    """Importance of columns in the newest earlier cycle that measured it."""
    before = store.cycles(problem.name, verb="retrain", before=cycle.as_of, limit=EARLIER)
    for other in before:
        importance = _diagnostics(workspace, other).get("importance")
        if importance:
            return {"as_of": day_of(other.as_of), "importance": importance}
    return None


def _backtest(workspace: Workspace, problem: Problem) -> Mapping[str, Any] | None:
    """The newest backtest of the problem in this workspace."""
    files = (workspace.home / "backtests").glob(f"{problem.name}-*/backtest.json")
    newest = max(files, key=lambda f: f.stat().st_mtime, default=None)
    if newest is None:
        return None
    content: Mapping[str, Any] = json.loads(newest.read_text(encoding="utf-8"))
    return content if content.get("problem") == problem.name else None
