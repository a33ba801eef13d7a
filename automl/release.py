"""The decision made effective: decision, champion, evidence and, in a cycle, the pointer, at once.

Release and publish are each one transaction with a fence check; `cycle` does both in one. MLflow's
aliases follow afterwards, and the next command rolls them forward if this one dies in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from automl import publish
from automl.evidence import BlockLoss
from automl.faults import fault
from automl.problem import Problem
from automl.registry import Registry
from automl.spaces import Blend
from automl.store import Cycle, Hold, Release, Store, naive
from automl.store import tables as t
from automl.workspace import now

__all__ = ["Ruling", "commit_publish", "commit_release", "reconcile"]

MOST_SHADOWS = 2  # each is evaluated on every block of the next cycle


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision ready to be made effective."""

    outcome: str  # first | promote | keep
    reason: str
    content: Mapping[str, Any]  # what `automl why` shows
    evidence: Sequence[BlockLoss]
    shadows: Sequence[tuple[Blend, datetime]]  # (blend, end of the labels that chose it)


def commit_release(
    store: Store,
    hold: Hold,
    problem: Problem,
    cycle: Cycle,
    *,
    verdict: Ruling,
    release: Release,
    generation: int | None = None,
) -> Release:
    """Make a decision effective; with a generation, publish it in the same transaction."""
    status = "released" if generation is None else "published"
    with store.commit(hold) as connection:
        decided = t.inserted(
            connection,
            t.decision.insert().values(
                problem=problem.name,
                as_of=naive(cycle.as_of),
                attempt=cycle.attempt,
                outcome=verdict.outcome,
                reason=verdict.reason,
                content=dict(verdict.content),
                decided_at=naive(now()),
            ),
        )
        made = t.inserted(
            connection,
            t.release.insert().values(
                problem=problem.name,
                as_of=naive(release.as_of),
                decision_id=decided,
                model_version=release.model_version,
                run_id=release.run_id,
                digests=dict(release.digests),
                fingerprint=release.fingerprint,
                blend=release.blend.to_json(),
                labels_until=naive(release.labels_until),
                released_at=naive(now()),
            ),
        )
        store.add_evidence(connection, problem.name, verdict.evidence)
        _keep_shadows(connection, problem, verdict.shadows)
        if generation is not None:
            publish.point(connection, store, hold, problem, generation)
            _score_ended(connection, problem, cycle)
        store.end_cycle(cycle, status, verdict.reason, connection)
        fault("release.in_commit")
    fault("release.committed")
    return replace(release, id=int(made))


def commit_publish(
    store: Store, hold: Hold, problem: Problem, cycle: Cycle, *, generation: int, reason: str
) -> None:
    """Point readers at a staged and audited generation."""
    with store.commit(hold) as connection:
        publish.point(connection, store, hold, problem, generation)
        store.end_cycle(cycle, "published", reason, connection)
        fault("publish.in_commit")
    fault("publish.committed")


def reconcile(store: Store, registry: Registry, problem: Problem) -> bool:
    """Let MLflow follow the newest release; returns whether anything had to change."""
    releases = store.releases(problem.name, limit=2)
    if not releases or releases[0].projected:
        return False
    newest = releases[0]
    decision = next(
        (d for d in store.decisions(problem.name) if d["as_of"] == naive(newest.as_of)),
        {"outcome": "", "reason": ""},
    )
    tags = {
        "cycle": f"{newest.as_of:%Y-%m-%d %H:%M}",
        "decision": decision["outcome"],
        "family": ", ".join(newest.blend.families),
        "fingerprint": newest.fingerprint[:16],
    }
    description = f"{newest.as_of:%Y-%m-%d}: {decision['reason']}. Run: {newest.run_id}"
    registry.project(releases, {newest.model_version: (description, tags)})
    registry.finish(newest.run_id, decision["outcome"], decision["reason"])
    store.projected(newest)
    return True


def _keep_shadows(
    connection: sa.Connection, problem: Problem, shadows: Sequence[tuple[Blend, datetime]]
) -> None:
    connection.execute(t.shadow.delete().where(t.shadow.c.problem == problem.name))
    for blend, labels_until in list(shadows)[:MOST_SHADOWS]:
        connection.execute(
            t.shadow.insert().values(
                problem=problem.name,
                blend_id=blend.id,
                blend=blend.to_json(),
                labels_until=naive(labels_until),
            )
        )


def _score_ended(connection: sa.Connection, problem: Problem, cycle: Cycle) -> None:
    """The scoring half of a cycle ends with it, so that `score` at the same as_of is a no-op."""
    key = {
        "problem": problem.name,
        "verb": "score",
        "as_of": naive(cycle.as_of),
        "attempt": cycle.attempt,
    }
    values = {"status": "published", "reason": "with the cycle", "finished_at": naive(now())}
    changed = connection.execute(t.cycle.update().filter_by(**key).values(**values))
    if not changed.rowcount:
        connection.execute(
            t.cycle.insert().values(
                **key,
                **values,
                problem_digest=cycle.problem_digest,
                receipts={},
                started_at=naive(cycle.started_at),
            )
        )
