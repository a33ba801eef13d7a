"""Columns of a predictions table that become text, because a key or a class is no longer a number.

Earlier generations keep their values, as text. Everything happens in the caller's transaction: readers see
the table before or after it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import sqlalchemy as sa

from automl.errors import ProblemError
from automl.predictions.pointer import make_views
from automl.predictions.tables import quote, reflected
from automl.store import Store

__all__ = ["become_text", "refuse_dependent_views"]

_GRANTS = """
    select privilege_type, grantee, is_grantable from information_schema.role_table_grants
    where table_schema = current_schema() and table_name = :name and grantee <> grantor
"""
_log = logging.getLogger(__name__)


def become_text(
    connection: sa.Connection, store: Store, published: str, tables: Sequence[sa.Table]
) -> None:
    """Make columns text that are text in `tables` and something else in the database.

    Raises
    ------
    ProblemError
        Views of other programs depend on the published ones.
    """
    for name, retyped in _retyped(connection, tables):
        granted = _without_views(connection, store, name)
        for table, names in retyped.items():
            _log.info("%s: column %s becomes text", table, ", ".join(names))
            _retype(connection, store, table, names)
        if granted is not None:
            make_views(connection, store, published)
            for grant in granted:
                connection.exec_driver_sql(grant)


def refuse_dependent_views(store: Store, tables: Sequence[sa.Table]) -> None:
    """Refuse what `become_text` would refuse, and change nothing.

    Raises
    ------
    ProblemError
        As `become_text`.
    """
    if store.sqlite:  # views do not stop a view from being dropped
        return
    with store.engine.connect() as connection:  # rolled back at the end
        for name, _ in _retyped(connection, tables):
            _without_views(connection, store, name)


def _retyped(
    connection: sa.Connection, tables: Sequence[sa.Table]
) -> list[tuple[str, dict[str, list[str]]]]:
    """Published names, each with its tables and their columns that become text."""
    existing, found = set(sa.inspect(connection).get_table_names()), []
    for wanted in tables:
        name = wanted.name.removesuffix("_generations")
        stored = [t for t in (wanted.name, f"{name}_past") if t in existing]
        retyped = {t: names for t in stored if (names := _other_types(connection, t, wanted))}
        if retyped:
            found.append((name, retyped))
    return found


def _other_types(connection: sa.Connection, name: str, wanted: sa.Table) -> list[str]:
    found = reflected(connection, name).columns
    texts = [c.name for c in wanted.columns if isinstance(c.type, sa.Text)]
    return [n for n in texts if n in found and not isinstance(found[n].type, sa.String)]


def _without_views(connection: sa.Connection, store: Store, name: str) -> list[str] | None:
    """Drop the views over a table; returns the grants to repeat, or None if there was no view."""
    views = [v for v in (name, f"{name}_history") if v in sa.inspect(connection).get_view_names()]
    granted: list[str] = []
    for view in views:
        if connection.dialect.name == "postgresql":
            granted += _grants(connection, store, view)
        try:
            connection.exec_driver_sql(f"drop view {quote(store, view)}")
        except sa.exc.DBAPIError as error:
            raise ProblemError(
                f"view {view!r} must be created again, because a column of it becomes text: "
                f"{' '.join(str(error.orig).partition('HINT')[0].split())}",
                code="dependent_view",
                next_step="Drop the views that depend on it, run the same command again, and create them again.",
            ) from error
    return granted if views else None


def _grants(connection: sa.Connection, store: Store, view: str) -> list[str]:
    rows = connection.execute(sa.text(_GRANTS), {"name": view}).all()
    return [
        f"grant {r.privilege_type} on {quote(store, view)} to "
        + ("public" if r.grantee == "PUBLIC" else quote(store, r.grantee))
        + (" with grant option" if r.is_grantable == "YES" else "")
        for r in rows
    ]


def _retype(connection: sa.Connection, store: Store, name: str, columns: Sequence[str]) -> None:
    if connection.dialect.name == "postgresql":
        changes = ", ".join(
            f"alter column {c} type text using {c}::text"
            for c in (quote(store, n) for n in columns)
        )
        connection.exec_driver_sql(f"alter table {quote(store, name)} {changes}")
        return
    # SQLite changes no type: the rows are copied, in their order, which reading relies on
    before, copy = reflected(connection, name), f"{name}_as_text"
    after = sa.Table(
        copy,
        sa.MetaData(),
        *(
            sa.Column(
                c.name,
                sa.Text() if c.name in columns else c.type,
                primary_key=c.primary_key,
                autoincrement=False,
                nullable=c.nullable,
            )
            for c in before.columns
        ),
    )
    after.create(connection)
    names = ", ".join(quote(store, c.name) for c in before.columns)
    source, target = quote(store, name), quote(store, copy)
    connection.exec_driver_sql(
        f"insert into {target} ({names}) select {names} from {source} order by rowid"  # noqa: S608
    )
    connection.exec_driver_sql(f"drop table {source}")
    connection.exec_driver_sql(f"alter table {target} rename to {source}")
