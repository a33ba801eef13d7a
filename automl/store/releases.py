"""The rows of a release, written in the caller's transaction: decision, release, shadows, scoring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from automl.modeling.recipes import Blend
from automl.store import ledger
from automl.store import tables as t
from automl.store.ledger import Entry
from automl.store.rows import Cycle, Release, naive
from automl.workspace import now

__all__ = ["close_scoring", "replace_shadows", "write_decision", "write_release"]


def write_decision(
    connection: sa.Connection,
    cycle: Cycle,
    *,
    outcome: str,
    reason: str,
    content: Mapping[str, Any],
) -> int:
    """Record the decision of a cycle; returns its id."""
    return t.inserted(
        connection,
        t.decision.insert().values(
            problem=cycle.problem,
            as_of=naive(cycle.as_of),
            attempt=cycle.attempt,
            outcome=outcome,
            reason=reason,
            content=dict(content),
            decided_at=naive(now()),
        ),
    )


def write_release(
    connection: sa.Connection, problem: str, release: Release, entry: Entry
) -> Release:
    """Write a release and its row in the ledger; returns the release with its id.

    The versions of `entry` are filled in: the champion before, and the released one.
    """
    query = sa.select(t.release.c.model_version).where(
        t.release.c.problem == problem, t.release.c.as_of <= naive(release.as_of)
    )
    newest = (t.release.c.as_of.desc(), t.release.c.id.desc())
    before = connection.scalar(query.order_by(*newest).limit(1))
    release_id = t.inserted(
        connection,
        t.release.insert().values(
            problem=problem,
            as_of=naive(release.as_of),
            decision_id=release.decision_id,
            model_version=release.model_version,
            run_id=release.run_id,
            digests=dict(release.digests),
            fingerprint=release.fingerprint,
            blend=release.blend.to_json(),
            labels_until=naive(release.labels_until),
            released_at=naive(entry.at),
        ),
    )
    entry = replace(entry, from_version=before, to_version=release.model_version)
    ledger.write(connection, problem, entry)
    return replace(release, id=release_id, released_at=entry.at, projected=False)


def replace_shadows(
    connection: sa.Connection, problem: str, shadows: Iterable[tuple[Blend, datetime]]
) -> None:
    """Keep these blends, each with the end of the labels that chose it, and no others."""
    connection.execute(t.shadow.delete().where(t.shadow.c.problem == problem))
    for blend, labels_until in shadows:
        connection.execute(
            t.shadow.insert().values(
                problem=problem,
                blend_id=blend.id,
                blend=blend.to_json(),
                labels_until=naive(labels_until),
            )
        )


def close_scoring(connection: sa.Connection, cycle: Cycle) -> None:
    """End the scoring half of a cycle with it, so that `score` at the same as_of is a no-op."""
    key = {
        "problem": cycle.problem,
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
