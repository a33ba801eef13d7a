"""Pull history and freeze it: a snapshot has only what could be known at `as_of`, under its own digest.

No row with time >= as_of, no row updated after as_of, no label unknown at as_of and no ignored column is
read, and nothing about a row that stays depends on a row that goes. After the first pull only what is
new or changed is fetched; parts that did not change are shared by all snapshots.

    pull           one pull of labelled history, and `batch`, one of the rows to predict
    continuation   whether a pull can continue from the last one
    increments     fetching only what is new; `audit` compares the rest with the source
    limits         what is refused, and what is reported of a pull
    maturity       which labels are known, and when
    sources/       databases, files, Python functions
    rows/          what a row must look like: kinds, time zones, versions, quarantine
    storage/       immutable parts, snapshots and records of pulls
    contract/      the columns and kinds that a problem agreed on
"""

from __future__ import annotations

from automl.history.batch import plain_keys, probe, pull_batch, sample
from automl.history.pull import pull
from automl.history.rows.kinds import ColumnKind, ColumnKinds
from automl.history.rows.local_time import utc_naive
from automl.history.rows.names import UPDATED
from automl.history.rows.personal import (
    KEY_SECRET,
    error_text,
    hashed,
    hide_error_text,
    personal_keys,
)
from automl.history.rows.roles import ROW_ID, learning_only
from automl.history.sources.sampling import (
    Sampled,
    quoted,
    reads_as_times,
    sample_files,
    sample_query,
    table_names,
)
from automl.history.storage.cleaning import clean
from automl.history.storage.snapshots import (
    Folders,
    Pull,
    Snapshot,
    frozen_batch,
    frozen_history,
    newest_pull,
    pulls,
    read,
    row_ids,
    scan,
    verified,
)

__all__ = [
    "KEY_SECRET",
    "ROW_ID",
    "UPDATED",
    "ColumnKind",
    "ColumnKinds",
    "Folders",
    "Pull",
    "Sampled",
    "Snapshot",
    "clean",
    "error_text",
    "frozen_batch",
    "frozen_history",
    "hashed",
    "hide_error_text",
    "learning_only",
    "newest_pull",
    "personal_keys",
    "plain_keys",
    "probe",
    "pull",
    "pull_batch",
    "pulls",
    "quoted",
    "read",
    "reads_as_times",
    "row_ids",
    "sample",
    "sample_files",
    "sample_query",
    "scan",
    "table_names",
    "utc_naive",
    "verified",
]
