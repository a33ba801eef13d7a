"""The ledger: who made which version champion, when, why, and on what evidence; rows are only ever added.

    promote   a challenger took the place, or the first model of a problem
    refit     the champion's recipes on newer rows
    wait      a challenger waits for a person; approve, reject: what the person said
    expire    who waited does so no longer: the next cycle did not find it better again
    rollback  a former version again, by a person; revert: by a probation that went badly
    adopt     a version that somebody named in MLflow

Of the rows up to a moment, the one with the newest as_of, and of those the latest, names the champion of
that moment: a backfill leaves a row and changes nothing for readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa

from automl.modeling.recipes import Blend
from automl.store import tables as t

__all__ = [
    "EFFECTIVE",
    "KINDS",
    "Entry",
    "Waiting",
    "adopt_releases",
    "champion_entry",
    "drop_waiting",
    "entries",
    "waiting",
    "write",
    "write_waiting",
]

EFFECTIVE = ("promote", "refit", "approve", "rollback", "revert", "adopt")  # change the champion
KINDS = (*EFFECTIVE, "wait", "expire", "reject")


@dataclass(frozen=True, slots=True)
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
    blend_id: str = ""  # put out, turned down, or waiting
    id: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A challenger that the evidence would promote, and a person has not yet approved.

    It is a registered model version, fitted on the rows of the cycle that judged it.
    """

    as_of: datetime
    blend: Blend
    labels_until: datetime
    reason: str
    losses: dict[str, float]  # "model" and "baseline", on the newest block
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
            at=_naive(entry.at),
            as_of=_naive(entry.as_of),
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
            row.at.replace(tzinfo=UTC),
            row.as_of.replace(tzinfo=UTC),
            row.kind,
            row.actor,
            row.reason,
            row.from_version,
            row.to_version,
            row.decision_id,
            row.generation,
            row.blend_id,
            row.id,
        )
        for row in connection.execute(query)
    ]


def champion_entry(rows: Sequence[Entry], at: datetime | None = None) -> Entry | None:
    """The row that made the champion of a moment; None if nothing was released by then."""
    told = [e for e in rows if e.kind in EFFECTIVE and (at is None or e.at <= at)]
    return max(told, key=lambda e: (e.as_of, e.id), default=None)


def waiting(connection: sa.Connection, problem: str) -> Waiting | None:
    """The challenger that waits, expired or not."""
    row = connection.execute(sa.select(t.waiting).where(t.waiting.c.problem == problem)).first()
    if row is None:
        return None
    return Waiting(
        row.as_of.replace(tzinfo=UTC),
        Blend.from_json(row.blend),
        row.labels_until.replace(tzinfo=UTC),
        row.reason,
        dict(row.losses),
        row.waits_since.replace(tzinfo=UTC),
        row.expires_at.replace(tzinfo=UTC),
        row.decision_id,
        row.model_version,
        row.run_id,
        row.digests,
        row.fingerprint,
    )


def write_waiting(connection: sa.Connection, problem: str, one: Waiting) -> None:
    """Let a challenger wait; whoever waited before no longer does."""
    drop_waiting(connection, problem)
    connection.execute(
        t.waiting.insert().values(
            problem=problem,
            as_of=_naive(one.as_of),
            decision_id=one.decision_id,
            blend_id=one.blend.id,
            blend=one.blend.to_json(),
            labels_until=_naive(one.labels_until),
            reason=one.reason,
            losses=one.losses,
            waits_since=_naive(one.waits_since),
            expires_at=_naive(one.expires_at),
            model_version=one.model_version,
            run_id=one.run_id,
            digests=dict(one.digests),
            fingerprint=one.fingerprint,
        )
    )


def drop_waiting(connection: sa.Connection, problem: str) -> None:
    """Nobody waits any more."""
    connection.execute(t.waiting.delete().where(t.waiting.c.problem == problem))


def adopt_releases(connection: sa.Connection) -> None:
    """Rows for the releases of a store that had no ledger, in the order in which they were made."""
    kinds = {"first": "promote", "promote": "promote"}
    query = sa.select(t.release, t.decision.c.outcome, t.decision.c.reason)
    query = query.outerjoin(t.decision, t.decision.c.id == t.release.c.decision_id)
    before: dict[str, list[tuple[datetime, int]]] = {}
    for row in connection.execute(query.order_by(t.release.c.id)).all():
        held = before.setdefault(row.problem, [])
        earlier = [v for as_of, v in sorted(held, key=lambda x: x[0]) if as_of <= row.as_of]
        told = Entry(
            row.released_at.replace(tzinfo=UTC),
            row.as_of.replace(tzinfo=UTC),
            kinds.get(row.outcome, "refit"),
            "unknown",
            row.reason or "",
            earlier[-1] if earlier else None,
            row.model_version,
            row.decision_id,
        )
        write(connection, row.problem, told)
        held.append((row.as_of, row.model_version))


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
