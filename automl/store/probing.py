"""Whether a cycle could write into the store, found out without leaving anything behind."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from automl.redaction import redact
from automl.store import tables as t
from automl.store.database import Database, open_engine
from automl.workspace import Workspace

__all__ = ["is_there", "may_write"]

PROBE = f"automl_probe_{os.getpid()}"


def is_there(workspace: Workspace) -> bool:
    """Whether the store was created already.

    Raises
    ------
    ProblemError, UnreachableError
        As for `may_write`.
    """
    engine = open_engine(workspace)
    if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").is_file():
        return False
    try:
        with engine.connect() as connection:
            return sa.inspect(connection).has_table(t.meta.name)
    except sa.exc.DBAPIError as error:
        raise Database.unreachable(workspace, error.orig or error) from error
    finally:
        engine.dispose()


def may_write(workspace: Workspace) -> str:
    """Create a table in the store and take it back; returns what was found.

    Raises
    ------
    ProblemError
        The address is no database that a store may be in, or its driver is missing.
    UnreachableError
        The database does not answer, or refuses to create a table.
    """
    engine = open_engine(workspace)
    shown = redact(workspace.database_url)
    file = Path(engine.url.database or "")
    if engine.dialect.name == "sqlite" and not file.is_file():
        folder = file.parent
        while not folder.exists():
            folder = folder.parent
        if not os.access(folder, os.W_OK):
            raise Database.unreachable(workspace, OSError(f"no right to write into {folder}"))
        return f"{shown} is created by the first command"
    try:
        with engine.connect() as connection, connection.begin() as transaction:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("begin immediate")
            probe = sa.Table(PROBE, sa.MetaData(), sa.Column("n", sa.Integer))
            probe.create(connection)
            known = sa.inspect(connection).has_table(t.meta.name)
            transaction.rollback()
    except sa.exc.DBAPIError as error:
        raise Database.unreachable(workspace, error.orig or error) from error
    finally:
        engine.dispose()
    return f"{shown} takes tables" if known else f"{shown} takes tables, and has none of ours yet"
