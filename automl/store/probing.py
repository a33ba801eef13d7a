"""The databases that a cycle will use, looked at without creating, upgrading or writing anything."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from automl.errors import UnreachableError
from automl.redaction import redact
from automl.store import tables as t
from automl.store.database import Database, open_engine, schema_of
from automl.store.store import Store
from automl.workspace import Workspace, with_driver

__all__ = ["has_tables", "may_write", "store_as_it_is"]

CONNECT_SECONDS = 5
PROBE = f"automl_probe_{os.getpid()}"


def store_as_it_is(workspace: Workspace) -> Store | None:
    """The store; None if opening it would create it, or upgrade it from an older release.

    Raises
    ------
    ProblemError, UnreachableError
        As for `may_write`; or a newer release wrote the store.
    """
    engine = open_engine(workspace)
    if engine.dialect.name == "sqlite" and not _file(engine.url).is_file():
        return None
    try:
        with engine.connect() as connection:
            found, whole = schema_of(connection)
    except sa.exc.DBAPIError as error:
        raise Database.unreachable(workspace, error.orig or error) from error
    finally:
        engine.dispose()
    newer = found is not None and found > t.SCHEMA_VERSION
    return Store(workspace) if whole or newer else None


def has_tables(url: str, wanted: str) -> bool:
    """Whether the database of another program is there, with a table of this name; a folder is no database.

    Raises
    ------
    UnreachableError
        It does not respond.
    """
    if "://" not in url or url.startswith("file:"):
        return False
    patience = {} if url.startswith("sqlite") else {"connect_timeout": CONNECT_SECONDS}
    try:
        engine = sa.create_engine(with_driver(url), connect_args=patience, poolclass=sa.NullPool)
        if engine.dialect.name == "sqlite" and not _file(engine.url).is_file():
            return False
        with engine.connect() as connection:
            return sa.inspect(connection).has_table(wanted)
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        cause = getattr(error, "orig", None) or error
        raise UnreachableError(
            f"the database {redact(url)} does not respond: {' '.join(str(cause).split())}",
            code="mlflow_unreachable",
            next_step="Start it, or fix its address.",
        ) from error


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
    if engine.dialect.name == "sqlite" and not _file(engine.url).is_file():
        folder = _file(engine.url).parent
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
            found, _ = schema_of(connection)
            transaction.rollback()
    except sa.exc.DBAPIError as error:
        raise Database.unreachable(workspace, error.orig or error) from error
    finally:
        engine.dispose()
    if found is None:
        return f"{shown} takes tables, and has none of ours yet"
    older = found < t.SCHEMA_VERSION
    return f"{shown} takes tables" + "; the next command upgrades it" * older


def _file(url: sa.URL) -> Path:
    return Path(url.database or "")
