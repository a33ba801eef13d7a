"""Alembic's environment: run revisions on the connection of the caller."""

from __future__ import annotations

from alembic import context

options = context.config.attributes
context.configure(connection=options["connection"], version_table=options["table"])
context.run_migrations()
