"""Staging: writing a generation that no reader sees yet, in one piece or in many.

Each piece is one transaction with a fence check, so a long batch neither fills memory nor blocks other
writers. Until the last piece is written the state of the generation is "staging"; then it is "staged".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa

from automl import progress
from automl.predictions.bulk_load import write_rows
from automl.predictions.key_checksum import KeySum, sum_keys
from automl.predictions.parquet_copy import Draft
from automl.predictions.predict import Predictions
from automl.predictions.tables import (
    SUFFIXES,
    audit_record,
    check_columns,
    key_of,
    make_shared_tables,
    table_of,
)
from automl.predictions.widening import become_text, refuse_dependent_views
from automl.problem import Problem
from automl.store import Hold, Release, Store, naive
from automl.store import tables as t
from automl.testing import fault
from automl.workspace import now

__all__ = ["Provenance", "check_table", "stage", "stage_pieces"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Release, batch and attempt that a generation comes from."""

    release: Release
    window: tuple[datetime, datetime]  # (as_of, until)
    batch: str  # digest of its rows
    attempt: int
    keys: KeySum | None = None  # of the batch; None: those of the predictions


def check_table(store: Store, problem: Problem, predictions: Predictions) -> None:
    """Refuse predictions of these columns and types that the problem's table cannot hold; changes nothing.

    Raises
    ------
    ProblemError
        As `stage_pieces`, of the table: other columns, text instead of numbers, or views of other programs on
        a column that becomes text.
    """
    tables = _tables(problem, predictions)
    for table in tables:
        check_columns(store, table)
    refuse_dependent_views(store, tables)


def stage(
    store: Store,
    hold: Hold,
    problem: Problem,
    release: Release,
    predictions: Predictions,
    *,
    window: tuple[datetime, datetime],
    batch: str,
    attempt: int,
) -> int:
    """Write a generation in one piece; returns its id.

    `window` is (as_of, until).
    """
    provenance = Provenance(release=release, window=window, batch=batch, attempt=attempt)
    return stage_pieces(store, hold, problem, provenance, [predictions])


def stage_pieces(
    store: Store,
    hold: Hold,
    problem: Problem,
    provenance: Provenance,
    pieces: Iterable[Predictions],
) -> int:
    """Write a generation piece by piece; returns its id.

    Raises
    ------
    BusyError
        Another process has taken the hold; it removes what was written so far, which no reader sees.
    """
    writer: _Writer | None = None
    seen = KeySum()
    draft = None
    for predictions, classes in pieces:
        with store.commit(hold) as connection:
            if writer is None:
                writer = _Writer(store, problem, provenance, predictions, classes)
                writer.begin(connection)
                draft = Draft.of(store, problem, writer.generation)
            writer.write(connection, predictions, classes)
        fault("stage.piece")
        if draft is not None:
            draft = draft.add(writer.stamped(predictions))
        seen += sum_keys(predictions, key_of(problem))
        _show(seen.rows, provenance.keys)
    if writer is None:
        raise AssertionError("a batch has rows")
    with store.commit(hold) as connection:
        writer.finish(connection, seen)
    if draft is not None:
        draft.finish()
    return writer.generation


def _show(rows: int, keys: KeySum | None) -> None:
    of = keys.rows if keys else None
    progress.show(f"{rows:,}{f' of {of:,}' if of else ''} rows", done=rows, of=of)


class _Writer:
    """Writes the rows of one generation, each with the generation's stamps."""

    def __init__(
        self,
        store: Store,
        problem: Problem,
        provenance: Provenance,
        predictions: pd.DataFrame,
        classes: pd.DataFrame | None,
    ) -> None:
        self.store, self.problem, self.provenance = store, problem, provenance
        self.tables = _tables(problem, (predictions, classes))
        for table in self.tables:
            check_columns(store, table)
        self.generation = 0
        self.scored_at = naive(now())

    def begin(self, connection: sa.Connection) -> None:
        """Create missing tables and the row of the generation."""
        for table in self.tables:
            table.create(connection, checkfirst=True)
        make_shared_tables(connection)
        become_text(connection, self.store, self.problem.table, self.tables)
        (as_of, until), release = self.provenance.window, self.provenance.release
        self.generation = t.inserted(
            connection,
            t.generation.insert().values(
                problem=self.problem.name,
                as_of=naive(as_of),
                until=naive(until),
                attempt=self.provenance.attempt,
                model_version=release.model_version,
                run_id=release.run_id,
                batch=self.provenance.batch,
                rows=0,
                state="staging",
                scored_at=self.scored_at,
                labelled_rows=0,
            ),
        )

    @property
    def stamps(self) -> dict[str, Any]:
        """Values that all rows of the generation have in common."""
        return {
            "generation": self.generation,
            "model_version": self.provenance.release.model_version,
            "run_id": self.provenance.release.run_id,
            "as_of": naive(self.provenance.window[0]),
            "scored_at": self.scored_at,
        }

    def stamped(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Rows with their stamps, in the column order of the table."""
        columns = [c.name for c in self.tables[0].columns]
        return predictions.assign(**self.stamps)[columns]

    def write(
        self, connection: sa.Connection, predictions: pd.DataFrame, classes: pd.DataFrame | None
    ) -> None:
        """Write one piece."""
        frames = [predictions] if classes is None else [predictions, classes]
        for table, frame in zip(self.tables, frames, strict=True):
            write_rows(connection, table, frame, self.stamps)

    def finish(self, connection: sa.Connection, seen: KeySum) -> None:
        """Mark the generation as staged and record what the audit must find."""
        wanted = self.provenance.keys or seen
        this = t.generation.c.id == self.generation
        connection.execute(
            t.generation.update().where(this).values(state="staged", rows=wanted.rows)
        )
        connection.execute(
            audit_record.insert().values(
                generation=self.generation,
                problem=self.problem.name,
                rows=wanted.rows,
                key_sum=str(wanted),
            )
        )


def _tables(problem: Problem, predictions: Predictions) -> list[sa.Table]:
    """The tables of the rows and, if there are classes, of their probabilities."""
    named = zip(SUFFIXES, predictions, strict=True)
    return [
        table_of(f"{problem.table}{suffix}_generations", frame, problem)
        for suffix, frame in named
        if frame is not None
    ]
