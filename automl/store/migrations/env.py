"""How Alembic reaches the store: on the connection, and in the transaction, of whoever asks."""

from __future__ import annotations

from alembic import context

options = context.config.attributes
context.configure(connection=options["connection"], version_table=options["table"])
context.run_migrations()
