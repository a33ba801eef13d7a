"""Retention: what is beyond `publish.keep` moves to the past, what nobody published goes.

Never the live generation, never one whose labels were not yet judged, and not the standby: the former
version's predictions of the live batch, by which a rollback is instant.
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
    """Remove generations beyond `publish.keep`, and staged ones that no commit followed; returns how many.

    What was published stays in `<table>_history`.
    """
    live = store.live(problem.table)
    kept = {g.id for g in store.generations(problem.name, limit=problem.publish.keep)}
    with store.commit(hold) as connection:
        rows = connection.execute(
            sa.select(t.generation).where(
                t.generation.c.problem == problem.name, t.generation.c.state != "removed"
            )
        ).all()
        gone = [
            r
            for r in rows
            if r.id not in kept
            and (live is None or r.id != live.id)
            and (r.labelled_rows > 0 if r.state == "published" else not _stands_by(r, live))
        ]
        _remove(connection, store, problem, gone)
        fault("clean.in_commit")
    fault("clean.committed")
    return len(gone)


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
            raise AssertionError("what was published is never discarded")
        _remove(connection, store, problem, rows)


def _stands_by(row: sa.Row[Any], live: Generation | None) -> bool:
    return (
        live is not None
        and row.state == "staged"
        and row.batch == live.batch
        and (aware(row.as_of), aware(row.until)) == live.window
        and row.model_version != live.model_version
    )


def _remove(
    connection: sa.Connection, store: Store, problem: Problem, gone: Sequence[sa.Row[Any]]
) -> None:
    if not gone:
        return
    inspector = sa.inspect(connection)
    past = [r.id for r in gone if r.state == "published"]
    for suffix in SUFFIXES:
        table = f"{problem.table}{suffix}_generations"
        if not inspector.has_table(table):
            continue
        if past and inspector.has_table(f"{problem.table}{suffix}_past"):
            _move(connection, store, f"{problem.table}{suffix}", past)
        delete = sa.text(f"delete from {quote(store, table)} where generation in :gone")  # noqa: S608
        ids = [r.id for r in gone]
        connection.execute(delete.bindparams(sa.bindparam("gone", ids, expanding=True)))
    connection.execute(
        t.generation.update()
        .where(t.generation.c.id.in_([r.id for r in gone]))
        .values(state="removed")
    )


def _move(connection: sa.Connection, store: Store, name: str, past: Sequence[int]) -> None:
    """Copy rows to where history reads them; the caller deletes them in the same transaction."""
    source = reflected(connection, f"{name}_generations")
    columns = ", ".join(quote(store, c.name) for c in source.columns)
    move = sa.text(
        f"insert into {quote(store, f'{name}_past')} ({columns}) "  # noqa: S608
        f"select {columns} from {quote(store, source.name)} where generation in :past"
    )
    connection.execute(move.bindparams(sa.bindparam("past", list(past), expanding=True)))
