"""A release leaves a row in the ledger: releases that were made before get theirs."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

from automl.store import ledger
from automl.store import tables as t
from automl.store.ledger import Entry
from automl.store.rows import aware

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Make the ledger, and a row for every release."""
    connection = op.get_bind()
    if not sa.inspect(connection).has_table("automl_ledger"):
        op.create_table(
            "automl_ledger",
            sa.Column("id", t.Id, primary_key=True, autoincrement=True),
            sa.Column("problem", sa.Text, nullable=False),
            sa.Column("at", sa.DateTime, nullable=False),
            sa.Column("as_of", sa.DateTime, nullable=False),
            sa.Column("kind", sa.Text, nullable=False),
            sa.Column("actor", sa.Text, nullable=False),
            sa.Column("reason", sa.Text, nullable=False),
            sa.Column("from_version", sa.Integer),
            sa.Column("to_version", sa.Integer),
            sa.Column("decision_id", t.Id),
            sa.Column("generation", t.Id),
            sa.Column("blend_id", sa.Text, nullable=False),
        )
    _add_releases(connection)


def _add_releases(connection: sa.Connection) -> None:
    """Write a row for each release, in the order in which they were made."""
    kinds = {"first": "promote", "promote": "promote"}
    query = sa.select(t.release, t.decision.c.outcome, t.decision.c.reason)
    query = query.outerjoin(t.decision, t.decision.c.id == t.release.c.decision_id)
    versions: dict[str, list[tuple[datetime, int]]] = {}
    for row in connection.execute(query.order_by(t.release.c.id)).all():
        released = versions.setdefault(row.problem, [])
        earlier = [v for as_of, v in sorted(released, key=lambda x: x[0]) if as_of <= row.as_of]
        entry = Entry(
            at=aware(row.released_at),
            as_of=aware(row.as_of),
            kind=kinds.get(row.outcome, "refit"),
            actor="unknown",
            reason=row.reason or "",
            from_version=earlier[-1] if earlier else None,
            to_version=row.model_version,
            decision_id=row.decision_id,
        )
        ledger.write(connection, row.problem, entry)
        released.append((row.as_of, row.model_version))
