"""A store has an id, which the folders that it publishes into name; evidence has the metric of its losses."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Give the store its id, and evidence a column; the metric of older evidence is unknown."""
    connection = op.get_bind()
    if "store" not in {c["name"] for c in sa.inspect(connection).get_columns("automl_meta")}:
        op.add_column("automl_meta", sa.Column("store", sa.Text))
    if "metric" not in {c["name"] for c in sa.inspect(connection).get_columns("automl_evidence")}:
        op.add_column("automl_evidence", sa.Column("metric", sa.Text))
    meta = sa.table("automl_meta", sa.column("store"))
    connection.execute(meta.update().values(store=uuid4().hex))
