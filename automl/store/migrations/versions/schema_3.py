"""A challenger that waits for approval is a registered model version; the next cycle judges it again."""

import sqlalchemy as sa
from alembic import op

from automl.store import tables

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Make the table of waiting challengers anew, empty."""
    if sa.inspect(op.get_bind()).has_table("automl_waiting"):
        op.drop_table("automl_waiting")
    op.create_table(
        "automl_waiting",
        sa.Column("problem", sa.Text, primary_key=True),
        sa.Column("as_of", sa.DateTime, nullable=False),
        sa.Column("decision_id", tables.Id, nullable=False),
        sa.Column("blend_id", sa.Text, nullable=False),
        sa.Column("blend", sa.JSON, nullable=False),
        sa.Column("labels_until", sa.DateTime, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("losses", sa.JSON, nullable=False),
        sa.Column("waits_since", sa.DateTime, nullable=False),
        sa.Column("expires_at", sa.DateTime, nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("digests", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
    )
