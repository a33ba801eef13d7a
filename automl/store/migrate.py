"""Bring a store of an older release up to date; every step is a revision of Alembic.

A revision has the number of the schema that it makes; `automl_meta` holds that of the store. New stores
are created in one step, without revisions.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

__all__ = ["upgrade"]

REVISIONS = "automl_revision"  # where Alembic keeps the number


def upgrade(connection: sa.Connection, found: int, wanted: int) -> None:
    """Run the revisions after `found` up to `wanted`, within the caller's transaction."""
    from alembic import command  # noqa: PLC0415  a store is brought up to date once
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes |= {"connection": connection, "table": REVISIONS}
    if not sa.inspect(connection).has_table(REVISIONS):
        command.stamp(config, str(found))
    command.upgrade(config, str(wanted))
