"""Predictions: made by a model, kept as immutable generations behind a pointer, copied to parquet.

Readers of `<table>` see exactly one generation: the one that the pointer names. A generation is staged
piece by piece, then audited, and only then published, in one transaction. Readers of `<table>_history`
see everything that was ever published, as it was made. The parquet copy follows and may lag.

    predict       model and batch in, predictions out, in one piece or in many
    reuse         rows of an earlier generation instead of predicting them again
    staging       writes a generation that no reader sees yet
    audit         checks a staged generation before it may be published
    pointer       the pointer, the views, and what they show
    retention     which generations are kept, and where older rows go
    parquet_copy  the parquet copy
    parquet_owner  the problem that owns its folder
    tables        names, columns, owners, and two tables of this package
    bulk_load     fast writing and reading of rows
    key_checksum  a set of keys as one number
"""

from __future__ import annotations

from automl.predictions.audit import audit, was_audited
from automl.predictions.key_checksum import KeySum, sum_keys
from automl.predictions.parquet_copy import export, read_predictions
from automl.predictions.parquet_owner import check_folder
from automl.predictions.pointer import point, read_classes, read_generation
from automl.predictions.predict import (
    Predictions,
    fingerprint,
    model_output,
    predict_pieces,
    read_pieces,
    specimen,
)
from automl.predictions.retention import clean, discard
from automl.predictions.reuse import ReusedRows, find_reusable
from automl.predictions.staging import Provenance, check_table, stage, stage_pieces
from automl.predictions.tables import check_owner

__all__ = [
    "KeySum",
    "Predictions",
    "Provenance",
    "ReusedRows",
    "audit",
    "check_folder",
    "check_owner",
    "check_table",
    "clean",
    "discard",
    "export",
    "find_reusable",
    "fingerprint",
    "model_output",
    "point",
    "predict_pieces",
    "read_classes",
    "read_generation",
    "read_pieces",
    "read_predictions",
    "specimen",
    "stage",
    "stage_pieces",
    "sum_keys",
    "was_audited",
]
