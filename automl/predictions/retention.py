"""Retention: generations beyond `publish.keep` move to the past; unpublished ones are deleted.

Except the live generation, those whose realised performance is not yet known, and the standby: the
previous version's predictions of the live batch, which make a rollback instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from automl.predictions.tables import SUFFIXES, quote, reflected
from automl.problem import Problem
from automl.store import Generation, Hold, Store, aware
from automl.store import tables as t
from automl.testing import fault

__all__ = ["clean", "discard"]


def clean(store: Store, hold: Hold, problem: Problem) -> int:
    """Remove generations beyond `publish.keep` and staged ones that were never published; returns how many.

    Published rows stay in `<table>_history`.
    """
    live = store.live(problem.table)
    newest = {g.id for g in store.generations(problem.name, limit=problem.publish.keep)}
    with store.commit(hold) as connection:
        rows = connection.execute(
            sa.select(t.generation).where(
                t.generation.c.problem == problem.name, t.generation.c.state != "removed"
            )
        ).all()
        removed = [
            r
            for r in rows
            if r.id not in newest
            and (live is None or r.id != live.id)
            and (r.labelled_rows > 0 if r.state == "published" else not _is_standby(r, live))
        ]
        _remove(connection, store, problem, removed)
        fault("clean.in_commit")
    fault("clean.committed")
    return len(removed)


def discard(store: Store, hold: Hold, problem: Problem, generation: int) -> None:
    """Remove a generation that was never published.

    Raises
    ------
    AssertionError
        It was published.
    """
    with store.commit(hold) as connection:
        rows = connection.execute(
            sa.select(t.generation).where(t.generation.c.id == generation)
        ).all()
        if any(r.state == "published" for r in rows):
            raise AssertionError("a published generation is never discarded")
        _remove(connection, store, problem, rows)


def _is_standby(row: sa.Row[Any], live: Generation | None) -> bool:
    return (
        live is not None
        and row.state == "staged"
        and row.batch == live.batch
        and (aware(row.as_of), aware(row.until)) == live.window
        and row.model_version != live.model_version
    )


def _remove(
    connection: sa.Connection, store: Store, problem: Problem, removed: Sequence[sa.Row[Any]]
) -> None:
    if not removed:
        return
    inspector = sa.inspect(connection)
    past = [r.id for r in removed if r.state == "published"]
    for suffix in SUFFIXES:
        table = f"{problem.table}{suffix}_generations"
        if not inspector.has_table(table):
            continue
        if past and inspector.has_table(f"{problem.table}{suffix}_past"):
            _move(connection, store, f"{problem.table}{suffix}", past)
        delete = sa.text(f"delete from {quote(store, table)} where generation in :removed")  # noqa: S608
        ids = [r.id for r in removed]
        connection.execute(delete.bindparams(sa.bindparam("removed", ids, expanding=True)))
    connection.execute(
        t.generation.update()
        .where(t.generation.c.id.in_([r.id for r in removed]))
        .values(state="removed")
    )


def _move(connection: sa.Connection, store: Store, name: str, past: Sequence[int]) -> None:
    """Copy rows to `<table>_past`; the caller deletes them in the same transaction."""
    source = reflected(connection, f"{name}_generations")
    columns = ", ".join(quote(store, c.name) for c in source.columns)
    move = sa.text(
        f"insert into {quote(store, f'{name}_past')} ({columns}) "  # noqa: S608
        f"select {columns} from {quote(store, source.name)} where generation in :past"
    )
    connection.execute(move.bindparams(sa.bindparam("past", list(past), expanding=True)))
