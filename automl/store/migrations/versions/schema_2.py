"""A release leaves a row in the ledger: releases that were made before get theirs."""

import sqlalchemy as sa
from alembic import op

from automl.store import ledger, tables

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Make the ledger, and a row for every release."""
    connection = op.get_bind()
    if not sa.inspect(connection).has_table("automl_ledger"):
        op.create_table(
            "automl_ledger",
            sa.Column("id", tables.Id, primary_key=True, autoincrement=True),
            sa.Column("problem", sa.Text, nullable=False),
            sa.Column("at", sa.DateTime, nullable=False),
            sa.Column("as_of", sa.DateTime, nullable=False),
            sa.Column("kind", sa.Text, nullable=False),
            sa.Column("actor", sa.Text, nullable=False),
            sa.Column("reason", sa.Text, nullable=False),
            sa.Column("from_version", sa.Integer),
            sa.Column("to_version", sa.Integer),
            sa.Column("decision_id", tables.Id),
            sa.Column("generation", tables.Id),
            sa.Column("blend_id", sa.Text, nullable=False),
        )
    ledger.adopt_releases(connection)
