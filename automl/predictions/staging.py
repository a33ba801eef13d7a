"""A generation that nobody sees yet, written in one piece or in many.

Each piece is one transaction with a fence check, so a long batch neither fills memory nor keeps other
writers waiting. Until the last piece is there the generation is "staging"; then it is "staged".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pandas as pd
import sqlalchemy as sa

from automl.predictions.bulk_load import write_rows
from automl.predictions.key_checksum import KeySum, sum_keys
from automl.predictions.parquet_copy import Draft
from automl.predictions.tables import audited, check_columns, key_of, own, table_of
from automl.problem import Problem
from automl.store import Hold, Release, Store, naive
from automl.store import tables as t
from automl.testing import fault
from automl.workspace import now

__all__ = ["Origin", "Piece", "stage", "stage_pieces"]

Piece = Sequence[pd.DataFrame | None]  # predictions, and probabilities per class or None


class Origin(NamedTuple):
    """What a generation is made of."""

    release: Release
    window: tuple[datetime, datetime]  # (as_of, until)
    batch: str  # digest of the rows
    attempt: int
    keys: KeySum | None = None  # of the batch; None: those of the predictions


def stage(
    store: Store,
    hold: Hold,
    problem: Problem,
    release: Release,
    predictions: Piece,
    *,
    window: tuple[datetime, datetime],
    batch: str,
    attempt: int,
) -> int:
    """Write a generation that nobody sees yet; returns its id.

    `predictions` are the frames of `automl.predictions.predict.predict`; `window` is (as_of, until).
    """
    origin = Origin(release, window, batch, attempt)
    return stage_pieces(store, hold, problem, origin, [predictions])


def stage_pieces(
    store: Store, hold: Hold, problem: Problem, origin: Origin, pieces: Iterable[Piece]
) -> int:
    """Write a generation piece by piece as the pieces come; returns its id.

    Raises
    ------
    BusyError
        Somebody has taken over; what was written so far is never seen, and cleaned up by them.
    """
    writer: _Writer | None = None
    seen = KeySum()
    draft = None
    for predictions, classes in pieces:
        if predictions is None:
            raise AssertionError("a generation has predictions")
        with store.commit(hold) as connection:
            if writer is None:
                writer = _Writer(store, problem, origin, predictions, classes)
                writer.begin(connection)
                draft = Draft.of(store, problem, writer.generation)
            writer.write(connection, predictions, classes)
        fault("stage.piece")
        if draft is not None:
            draft = draft.add(writer.stamped(predictions))
        seen += sum_keys(predictions, key_of(problem))
    if writer is None:
        raise AssertionError("a batch has rows")
    with store.commit(hold) as connection:
        writer.finish(connection, seen)
    if draft is not None:
        draft.finish()
    return writer.generation


class _Writer:
    """The tables of a problem, and the stamps that all rows of one generation carry."""

    def __init__(
        self,
        store: Store,
        problem: Problem,
        origin: Origin,
        predictions: pd.DataFrame,
        classes: pd.DataFrame | None,
    ) -> None:
        self.problem, self.origin = problem, origin
        self.main = table_of(f"{problem.table}_generations", predictions, problem)
        check_columns(store, self.main)
        self.per_class = None
        if classes is not None:
            self.per_class = table_of(f"{problem.table}_classes_generations", classes, problem)
        self.generation = 0
        self.scored_at = naive(now())

    def begin(self, connection: sa.Connection) -> None:
        """Make what is missing, and the generation's own row."""
        for table in (self.main, self.per_class):
            if table is not None:
                table.create(connection, checkfirst=True)
        own.create_all(connection)
        (as_of, until), release = self.origin.window, self.origin.release
        self.generation = t.inserted(
            connection,
            t.generation.insert().values(
                problem=self.problem.name,
                as_of=naive(as_of),
                until=naive(until),
                attempt=self.origin.attempt,
                model_version=release.model_version,
                run_id=release.run_id,
                batch=self.origin.batch,
                rows=0,
                state="staging",
                scored_at=self.scored_at,
                labelled_rows=0,
            ),
        )

    @property
    def stamps(self) -> dict[str, Any]:
        """What every row of the generation says of itself."""
        return {
            "generation": self.generation,
            "model_version": self.origin.release.model_version,
            "run_id": self.origin.release.run_id,
            "as_of": naive(self.origin.window[0]),
            "scored_at": self.scored_at,
        }

    def stamped(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Rows as the table shows them."""
        columns = [c.name for c in self.main.columns]
        return predictions.assign(**self.stamps)[columns]

    def write(
        self, connection: sa.Connection, predictions: pd.DataFrame, classes: pd.DataFrame | None
    ) -> None:
        """Write one piece."""
        write_rows(connection, self.main, predictions, self.stamps)
        if self.per_class is not None and classes is not None:
            write_rows(connection, self.per_class, classes, self.stamps)

    def finish(self, connection: sa.Connection, seen: KeySum) -> None:
        """All pieces are there: the audit may look at them."""
        wanted = self.origin.keys or seen
        mine = t.generation.c.id == self.generation
        connection.execute(
            t.generation.update().where(mine).values(state="staged", rows=wanted.rows)
        )
        connection.execute(
            audited.insert().values(
                generation=self.generation,
                problem=self.problem.name,
                rows=wanted.rows,
                key_sum=str(wanted),
            )
        )
