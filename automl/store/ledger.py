"""The ledger: which version became champion, when, why, by whom and on what evidence; append-only.

    promote   a challenger replaced the champion, or the first model of a problem was released
    refit     the champion's recipes, fitted on newer rows
    wait      a challenger waits for approval; approve, reject: what a person decided about it
    expire    a later cycle did not find the waiting challenger better again
    rollback  a person made a former version champion again
    revert    a probation ended badly: the previous champion is champion again

The champion of a moment is named by the row with the newest as_of up to that moment, and of those by the
latest: a backfill adds a row and changes nothing for readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from automl.modeling.recipes import Blend
from automl.store import tables as t
from automl.store.rows import aware, naive
from automl.workspace import now

__all__ = [
    "EFFECTIVE",
    "KINDS",
    "Entry",
    "Waiting",
    "champion_entry",
    "drop_waiting",
    "entries",
    "expire_waiting",
    "let_wait",
    "waiting",
    "write",
    "write_waiting",
]

EFFECTIVE = ("promote", "refit", "approve", "rollback", "revert")  # change the champion
KINDS = (*EFFECTIVE, "wait", "expire", "reject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the ledger."""

    at: datetime
    as_of: datetime
    kind: str
    actor: str
    reason: str
    from_version: int | None = None
    to_version: int | None = None
    decision_id: int | None = None
    generation: int | None = None  # published in the same transaction
    blend_id: str = ""  # reverted, rejected, or waiting
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A challenger that the evidence would promote, and that awaits approval.

    It is a registered model version, fitted on the rows of the cycle that chose it.
    """

    as_of: datetime
    blend: Blend
    labels_until: datetime
    reason: str
    losses: Mapping[str, float]  # "model" and "baseline", on the newest block
    waits_since: datetime
    expires_at: datetime
    decision_id: int = 0
    model_version: int = 0
    run_id: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""


def write(connection: sa.Connection, problem: str, entry: Entry) -> int:
    """Append a row, in the caller's transaction; returns its id."""
    if entry.kind not in KINDS:
        raise AssertionError(f"{entry.kind!r} is no kind of the ledger")
    return t.inserted(
        connection,
        t.ledger.insert().values(
            problem=problem,
            at=naive(entry.at),
            as_of=naive(entry.as_of),
            kind=entry.kind,
            actor=entry.actor,
            reason=entry.reason[:4000],
            from_version=entry.from_version,
            to_version=entry.to_version,
            decision_id=entry.decision_id,
            generation=entry.generation,
            blend_id=entry.blend_id,
        ),
    )


def entries(connection: sa.Connection, problem: str) -> list[Entry]:
    """All rows of a problem, oldest first."""
    query = sa.select(t.ledger).where(t.ledger.c.problem == problem).order_by(t.ledger.c.id)
    return [
        Entry(
            at=aware(row.at),
            as_of=aware(row.as_of),
            kind=row.kind,
            actor=row.actor,
            reason=row.reason,
            from_version=row.from_version,
            to_version=row.to_version,
            decision_id=row.decision_id,
            generation=row.generation,
            blend_id=row.blend_id,
            id=row.id,
        )
        for row in connection.execute(query)
    ]


def champion_entry(rows: Sequence[Entry], at: datetime | None = None) -> Entry | None:
    """The row that names the champion of a moment; None if nothing was released by then."""
    effective = [e for e in rows if e.kind in EFFECTIVE and (at is None or e.at <= at)]
    return max(effective, key=lambda e: (e.as_of, e.id), default=None)


def waiting(connection: sa.Connection, problem: str) -> Waiting | None:
    """The challenger that awaits approval, expired or not."""
    row = connection.execute(sa.select(t.waiting).where(t.waiting.c.problem == problem)).first()
    if row is None:
        return None
    return Waiting(
        as_of=aware(row.as_of),
        blend=Blend.from_json(row.blend),
        labels_until=aware(row.labels_until),
        reason=row.reason,
        losses=row.losses,
        waits_since=aware(row.waits_since),
        expires_at=aware(row.expires_at),
        decision_id=row.decision_id,
        model_version=row.model_version,
        run_id=row.run_id,
        digests=row.digests,
        fingerprint=row.fingerprint,
    )


def let_wait(connection: sa.Connection, problem: str, challenger: Waiting, actor: str) -> None:
    """Let a challenger await approval; it replaces the one that did so before."""
    former = waiting(connection, problem)
    reason = challenger.reason
    if former is not None:
        reason += (
            f"; replaces version {former.model_version} of {former.as_of:%Y-%m-%d}, "
            "which was neither approved nor rejected"
        )
    write_waiting(connection, problem, challenger)
    entry = Entry(
        at=challenger.waits_since,
        as_of=challenger.as_of,
        kind="wait",
        actor=actor,
        reason=reason,
        to_version=challenger.model_version,
        decision_id=challenger.decision_id,
        blend_id=challenger.blend.id,
    )
    write(connection, problem, entry)


def expire_waiting(connection: sa.Connection, problem: str, as_of: datetime, actor: str) -> None:
    """Drop a challenger that the cycle of `as_of` did not find better again, if one waits."""
    challenger = waiting(connection, problem)
    if challenger is None or challenger.as_of > as_of:
        return
    drop_waiting(connection, problem)
    entry = Entry(
        at=now(),
        as_of=challenger.as_of,
        kind="expire",
        actor=actor,
        reason=f"the cycle of {as_of:%Y-%m-%d %H:%M} did not find it better again",
        to_version=challenger.model_version,
        blend_id=challenger.blend.id,
    )
    write(connection, problem, entry)


def write_waiting(connection: sa.Connection, problem: str, challenger: Waiting) -> None:
    """Write the waiting challenger, without a row in the ledger; there is one per problem."""
    drop_waiting(connection, problem)
    connection.execute(
        t.waiting.insert().values(
            problem=problem,
            as_of=naive(challenger.as_of),
            decision_id=challenger.decision_id,
            blend_id=challenger.blend.id,
            blend=challenger.blend.to_json(),
            labels_until=naive(challenger.labels_until),
            reason=challenger.reason,
            losses=dict(challenger.losses),
            waits_since=naive(challenger.waits_since),
            expires_at=naive(challenger.expires_at),
            model_version=challenger.model_version,
            run_id=challenger.run_id,
            digests=dict(challenger.digests),
            fingerprint=challenger.fingerprint,
        )
    )


def drop_waiting(connection: sa.Connection, problem: str) -> None:
    """No challenger awaits approval any more."""
    connection.execute(t.waiting.delete().where(t.waiting.c.problem == problem))
