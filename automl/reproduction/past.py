"""What store and MLflow know of a past cycle; only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from automl.errors import ProblemError
from automl.history.maturity import Maturity, with_maturity
from automl.modeling.families import Family, load_families, load_retired
from automl.modeling.features import Columns, load_columns
from automl.problem import Problem
from automl.store import Cycle, DecisionRecord, Release, Store
from automl.tracking import Registry
from automl.workspace import Workspace, day_of

__all__ = ["PastCycle", "past_cycle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastCycle:
    """What store and MLflow know of a cycle."""

    problem: Problem
    workspace: Workspace
    store: Store
    cycle: Cycle
    decision: DecisionRecord
    release: Release
    registry: Registry
    families: Mapping[str, Family] = field(default_factory=dict)
    columns: Columns | None = None


def past_cycle(problem: Problem, workspace: Workspace, as_of: datetime) -> PastCycle:
    """The cycle of an as_of with its decision and release.

    Raises
    ------
    ProblemError
        There is no such cycle, or it released nothing.
    """
    store = Store(workspace)
    cycle = store.find_cycle(problem.name, "retrain", as_of)
    known = store.cycles(problem.name, verb="retrain", limit=5)
    if cycle is None:
        found = ", ".join(dict.fromkeys(day_of(c.as_of) for c in known)) or "none"
        raise ProblemError(
            f"{problem.name}: no retraining cycle as of {day_of(as_of)}; found {found}",
            code="no_cycle",
            next_step="automl status FILE lists cycles.",
        )
    decisions = store.decisions(problem.name, limit=100_000)
    decision = next((d for d in decisions if d.as_of == as_of and d.attempt == cycle.attempt), None)
    releases = store.releases(problem.name, limit=100_000)
    made = [r for r in releases if decision and r.decision_id == decision.id and r.as_of == as_of]
    if decision is None or not made:
        raise ProblemError(
            f"{problem.name}: the cycle of {day_of(as_of)} released nothing ({cycle.status}: {cycle.reason})",
            code="no_release",
            next_step="automl champion FILE --at T names the release that was in effect.",
        )
    if receipt := cycle.receipts.get("maturity"):
        problem = with_maturity(problem, Maturity.from_json(receipt))
    root, families = problem.file.parent, load_families(problem.sweep.families, problem.file.parent)
    missing = [n for n in made[-1].blend.families if n not in families]
    entries = {n: (cycle.receipts.get("families") or {}).get(n, n) for n in missing}
    return PastCycle(
        problem=problem,
        workspace=workspace,
        store=store,
        cycle=cycle,
        decision=decision,
        release=made[-1],
        registry=Registry(problem, workspace, reading=True),
        families=families | load_retired(entries, root, families),
        columns=load_columns(problem.transformer),
    )
