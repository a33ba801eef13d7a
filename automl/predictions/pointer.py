"""The pointer, the views over it, and what they show.

`<table>` shows the generation that the pointer names. `<table>_history` shows every generation that was
ever published, as it was made: rows in `<table>_generations`, and in `<table>_past` those that retention
moved there. `publish.keep` does not limit the history, only the generations that a rollback can choose
from: published predictions stay readable, so that they can be compared with outcomes.
"""

from __future__ import annotations

import pandas as pd
import sqlalchemy as sa

from automl.predictions.tables import (
    SUFFIXES,
    make_shared_tables,
    publication,
    quote,
    reflected,
)
from automl.problem import Problem
from automl.store import Hold, Store, naive
from automl.store import tables as t
from automl.workspace import now

__all__ = ["make_views", "newest_publication", "point", "read_classes", "read_generation"]


def point(
    connection: sa.Connection, store: Store, hold: Hold, problem: Problem, generation: int
) -> None:
    """Point readers at a generation, in the caller's transaction; never at one of an earlier as_of."""
    name = problem.table
    live = connection.execute(
        sa.select(t.generation.c.id, t.generation.c.as_of)
        .join(t.pointer, t.pointer.c.generation == t.generation.c.id)
        .where(t.pointer.c.table_name == name)
    ).first()
    as_of = connection.scalar(
        sa.select(t.generation.c.as_of).where(t.generation.c.id == generation)
    )
    if live is None:
        connection.execute(
            t.pointer.insert().values(
                table_name=name, problem=problem.name, generation=generation, fence=hold.fence
            )
        )
    elif as_of >= live.as_of:
        connection.execute(
            t.pointer.update()
            .where(t.pointer.c.table_name == name)
            .values(generation=generation, fence=hold.fence)
        )
    if live is None or (as_of >= live.as_of and live.id != generation):
        _count_publication(connection, name, generation, live.id if live else 0)
    make_views(connection, store, name)
    connection.execute(
        t.generation.update()
        .where(t.generation.c.id == generation)
        .values(
            state="published",
            # a generation that comes back keeps the time of its first publication; the ledger has both
            published_at=sa.func.coalesce(t.generation.c.published_at, naive(now())),
            exported_at=None,
        )
    )


def newest_publication(store: Store, table: str) -> tuple[int, int] | None:
    """Number and generation of the pointer's last move; in an older store both are the generation's id."""
    query = sa.select(publication.c.number, publication.c.generation)
    query = query.where(publication.c.table_name == table).order_by(publication.c.number.desc())
    with store.engine.connect() as connection:
        if sa.inspect(connection).has_table(publication.name):
            row = connection.execute(query.limit(1)).first()
            if row is not None:
                return row.number, row.generation
    live = store.live(table)
    return (live.id, live.id) if live else None


def read_generation(store: Store, problem: Problem, generation: int) -> pd.DataFrame:
    """All rows of a generation, whether live or not."""
    return _read(store, f"{problem.table}_generations", generation)


def read_classes(store: Store, problem: Problem, generation: int) -> pd.DataFrame:
    """Probabilities of a generation, one row per key and class."""
    return _read(store, f"{problem.table}_classes_generations", generation)


def _read(store: Store, name: str, generation: int) -> pd.DataFrame:
    with store.engine.connect() as connection:
        table = reflected(connection, name)
        query = sa.select(table).where(table.c.generation == generation)
        frame = pd.read_sql(query, connection)
    numbers = {c.name: "float64" for c in table.columns if isinstance(c.type, sa.Double)}
    return frame.astype(numbers)  # a column of nulls would have dtype object


def _count_publication(connection: sa.Connection, table: str, generation: int, before: int) -> None:
    """Count this move of the pointer.

    The number rises with every move and is never below the generation's id, which numbers commit files
    of an older format: they must sort before.
    """
    make_shared_tables(connection)
    newest = sa.select(sa.func.max(publication.c.number)).where(publication.c.table_name == table)
    last = connection.scalar(newest) or before
    connection.execute(
        publication.insert().values(
            table_name=table,
            number=max(last + 1, generation),
            generation=generation,
            published_at=naive(now()),
        )
    )


def make_views(connection: sa.Connection, store: Store, name: str) -> None:
    """Create the views of a published table that are missing."""
    inspector = sa.inspect(connection)
    views, tables = inspector.get_view_names(), inspector.get_table_names()
    for suffix in SUFFIXES:
        source = f"{name}{suffix}_generations"
        if source not in tables:
            continue
        if f"{name}{suffix}" not in views:
            connection.execute(sa.text(_live_view(store, name, suffix)))
        if f"{name}{suffix}_history" not in views:
            _make_past(connection, f"{name}{suffix}_past", reflected(connection, source))
            connection.execute(sa.text(_history_view(connection, store, name, suffix)))


def _live_view(store: Store, name: str, suffix: str) -> str:
    view, source = quote(store, f"{name}{suffix}"), quote(store, f"{name}{suffix}_generations")
    return (
        f"create view {view} as select * from {source} where generation = "  # noqa: S608
        f"(select p.generation from automl_pointer p where p.table_name = '{name}')"
    )


def _make_past(connection: sa.Connection, name: str, like: sa.Table) -> None:
    """Create a table of the same columns."""
    columns = [
        sa.Column(
            c.name, c.type, primary_key=c.primary_key, autoincrement=False, nullable=c.nullable
        )
        for c in like.columns
    ]
    sa.Table(name, sa.MetaData(), *columns).create(connection, checkfirst=True)


def _history_view(connection: sa.Connection, store: Store, name: str, suffix: str) -> str:
    source, past = (quote(store, f"{name}{suffix}{kind}") for kind in ("_generations", "_past"))
    columns = [c.name for c in reflected(connection, f"{name}{suffix}_generations").columns]
    selected = ", ".join(quote(store, c) for c in columns)
    prefixed = ", ".join(f"g.{quote(store, c)}" for c in columns)
    return (
        f"create view {quote(store, f'{name}{suffix}_history')} as select {prefixed} from {source} g "  # noqa: S608
        "where exists (select 1 from automl_generation a where a.id = g.generation and a.state = 'published') "
        f"union all select {selected} from {past}"
    )
