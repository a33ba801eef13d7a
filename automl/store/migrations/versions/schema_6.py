"""Alerts, what monitoring found last, and profiles of batches: three tables, created where they are missing."""

from alembic import op

from automl.store import tables as t

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Create the tables of monitoring."""
    connection = op.get_bind()
    for table in (t.alert, t.watch, t.profile):
        table.create(connection, checkfirst=True)
