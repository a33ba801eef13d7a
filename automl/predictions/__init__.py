"""Predictions as immutable generations behind a pointer, in SQL and as a parquet copy.

Readers of `<table>` see exactly one generation: the one the pointer row names. A generation is written
first, piece by piece if it is long, then audited, and only then pointed at, in one transaction. Readers
of `<table>_history` see everything that was ever published, as it was made. The parquet copy follows
and may lag. Nothing here predicts.

    tables     names, columns, owners, and the two tables of this room
    keys       sets of keys as one number
    rows       the quickest way of rows into a database, and back
    reuse      rows of an earlier generation instead of predicting them again
    staging    a generation that nobody sees yet
    audits     what must hold before anybody sees it
    pointing   the pointer, the views, and what they show
    cleaning   retention, and where old rows go
    copies     the parquet copy
"""

from __future__ import annotations

from automl.predictions.audit import audit, was_audited
from automl.predictions.key_checksum import KeySum, sum_keys
from automl.predictions.parquet_copy import export, read_predictions
from automl.predictions.pointer import point, read_classes, read_generation
from automl.predictions.retention import clean, discard
from automl.predictions.reuse import Kept, find_reusable
from automl.predictions.staging import Origin, Piece, stage, stage_pieces
from automl.predictions.tables import check_owner

__all__ = [
    "Kept",
    "KeySum",
    "Origin",
    "Piece",
    "audit",
    "check_owner",
    "clean",
    "discard",
    "export",
    "find_reusable",
    "point",
    "read_classes",
    "read_generation",
    "read_predictions",
    "stage",
    "stage_pieces",
    "sum_keys",
    "was_audited",
]
