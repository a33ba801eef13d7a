"""Tables and views of predictions: names, columns, and the problem that owns them.

`automl_publication` counts every move of the pointer, `automl_audit` records the audit of each
generation. Both are created with the first generation, so that an older store needs no migration.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import sqlalchemy as sa

from automl.errors import ProblemError
from automl.history import ROW_ID
from automl.modeling.tasks import task_of
from automl.predictions.parquet_owner import check_folder
from automl.problem import Problem
from automl.store import WATCHED_TABLES, Store
from automl.store import tables as t

__all__ = [
    "STAMPS",
    "SUFFIXES",
    "audit_record",
    "check_columns",
    "check_owner",
    "key_of",
    "make_shared_tables",
    "metadata",
    "publication",
    "quote",
    "reflected",
    "table_of",
]

SUFFIXES = ("", "_classes")
# Columns with the same value in all rows of a generation
STAMPS = ("generation", "model_version", "run_id", "as_of", "scored_at")
KINDS = ("", "_generations", "_past", "_history")

metadata = sa.MetaData()

publication = sa.Table(
    "automl_publication",
    metadata,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("number", t.Id, primary_key=True, autoincrement=False),  # also of the commit file
    sa.Column("generation", t.Id, nullable=False),
    sa.Column("published_at", sa.DateTime, nullable=False),
)

audit_record = sa.Table(
    "automl_audit",
    metadata,
    sa.Column("generation", t.Id, primary_key=True, autoincrement=False),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("rows", t.Id, nullable=False),  # of the batch
    sa.Column("key_sum", sa.Text, nullable=False),  # of the batch, as `KeySum`
    sa.Column("mean", sa.Double),  # of probability, or of prediction
    sa.Column("found", sa.JSON),  # every number that the audit counted; null until it passed
)


def make_shared_tables(connection: sa.Connection) -> None:
    """Create the tables that all problems share, in the caller's transaction.

    PostgreSQL lets two transactions create one table and fails the second: they take turns. A problem's own
    tables are under its lock.
    """
    inspector = sa.inspect(connection)
    if all(inspector.has_table(name) for name in metadata.tables):
        return
    if connection.dialect.name == "postgresql":
        number = sa.func.hashtext("automl predictions")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))
    metadata.create_all(connection)


def check_owner(store: Store, problem: Problem) -> None:
    """Refuse to publish into a table or folder that another problem or another program owns.

    Raises
    ------
    ProblemError
        The name belongs to another problem, or to a table or view that was not created here; or the folder
        of the parquet copy is refused by `check_folder`.
    """
    check_folder(problem, store.workspace, store)
    name = problem.table
    names = _names(name, classes=task_of((), problem.task).publishes_classes)
    with store.engine.connect() as connection:
        inspector = sa.inspect(connection)
        existing = {
            *inspector.get_table_names(),
            *inspector.get_view_names(),
            *metadata.tables,
        } & names
        owners = {row.table_name: row.problem for row in connection.execute(sa.select(t.pointer))}
        staged = connection.scalar(
            sa.select(t.generation.c.id).where(t.generation.c.problem == problem.name).limit(1)
        )
    for table, owner in owners.items():
        if owner != problem.name and existing & _names(table, classes=True):
            raise ProblemError(
                f"publish.table {name!r} belongs to problem {owner!r}",
                code="table_owner",
                next_step="Choose another publish.table.",
            )
    # before the first publication an interrupted run may have staged rows, but created no view
    owned = names if name in owners else _staged_names(name) if staged else set()
    foreign = existing - owned
    if foreign:
        raise ProblemError(
            f"publish.table {name!r}: {min(foreign)!r} exists and was not created by automl",
            code="table_owner",
            next_step="Choose another publish.table; automl never drops a table.",
        )


def table_of(name: str, frame: pd.DataFrame, problem: Problem) -> sa.Table:
    """The table that stores generations of such a frame."""
    keys = key_of(problem) + (["class"] if "class" in frame.columns else [])
    columns = [
        sa.Column("generation", t.Id, primary_key=True, autoincrement=False),
        *(sa.Column(k, _type(frame[k]), primary_key=True) for k in keys),
        *(sa.Column(c, _type(frame[c]), nullable=True) for c in frame.columns if c not in keys),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("as_of", sa.DateTime, nullable=False),
        sa.Column("scored_at", sa.DateTime, nullable=False),
    ]
    return sa.Table(name, sa.MetaData(), *columns)


def reflected(connection: sa.Connection, name: str) -> sa.Table:
    """A table as it exists in the database."""
    return sa.Table(name, sa.MetaData(), autoload_with=connection)


def check_columns(store: Store, table: sa.Table) -> None:
    """Refuse to stage into a table of other columns; one that becomes text is no obstacle.

    Raises
    ------
    ProblemError
        The problem publishes other columns than when the table was created, or no longer text in one.
    """
    inspector = sa.inspect(store.engine)
    if not inspector.has_table(table.name):
        return
    found = {c["name"]: c["type"] for c in inspector.get_columns(table.name)}
    wanted = {c.name: c.type for c in table.columns}
    if {*found} != {*wanted}:
        raise ProblemError(
            f"table {table.name!r} has columns {', '.join(sorted(found))}; this problem publishes "
            f"{', '.join(sorted(wanted))}",
            code="table_columns",
            next_step="Choose another publish.table for the changed problem.",
        )
    texts = [n for n, kind in found.items() if isinstance(kind, sa.String)]
    others = sorted(n for n in texts if not isinstance(wanted[n], sa.String))
    if others:
        raise ProblemError(
            f"table {table.name!r}: column {others[0]!r} is text; this problem publishes "
            f"{'times' if isinstance(wanted[others[0]], sa.DateTime) else 'numbers'}",
            code="table_columns",
            next_step=f'In the contract file, set "{others[0]}": "text" under roles; or choose another '
            "publish.table.",
        )


def key_of(problem: Problem) -> list[str]:
    """The columns that identify a published row."""
    return list(problem.history.key or (ROW_ID,))


def quote(store: Store, name: str) -> str:
    """A name quoted for this database, even where SQLAlchemy does not know that it is a word of SQL."""
    return store.engine.dialect.identifier_preparer.quote_identifier(name)


def _names(table: str, *, classes: bool) -> set[str]:
    """Names of all tables and views that publishing and monitoring create."""
    watched = {f"{table}_{kind}" for kind in WATCHED_TABLES}
    return watched | {
        f"{table}{suffix}{kind}" for suffix in SUFFIXES[: 1 + classes] for kind in KINDS
    }


def _staged_names(table: str) -> set[str]:
    return {f"{table}{suffix}_generations" for suffix in SUFFIXES}


def _type(column: pd.Series) -> sa.types.TypeEngine[Any]:
    if pd.api.types.is_datetime64_any_dtype(column):
        return sa.DateTime()
    if pd.api.types.is_integer_dtype(column):
        return sa.BigInteger()
    return sa.Double() if pd.api.types.is_float_dtype(column) else sa.Text()
