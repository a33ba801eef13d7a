"""Fresh history, frozen: a snapshot holds only what could be known at `as_of`, under its own digest.

No row with time >= as_of, no row updated after as_of, no label unknown at as_of and no ignored column
passes this door, and nothing about a row that stays depends on a row that goes. Sources are SQLAlchemy
URLs, parquet and CSV files, and Python callables; all are only read. After the first pull only what is
new or changed is fetched; parts that did not change are shared by all snapshots.

    sources, databases      where rows come from
    columns, shape          what a row must look like
    oddities, quarantine    what no table can hold, and who is set aside
    personal                what may be said of personal columns
    parts, snapshots, disk  how rows are kept
    versions, upserts       one row per key, and rows replaced by key
    increments, audit       what is new, and whether the source agrees with the rest
    limits                  what is refused, and what is told of a pull
    pulling, batches        the story of one pull, and that of rows to predict
"""

from __future__ import annotations

from automl.history.batch import plain_keys, pull_batch, sample
from automl.history.pull import pull
from automl.history.rows.casting import ROW_ID, Kind, Kinds, utc_naive
from automl.history.rows.personal import KEY_SECRET, discreet, hashed, personal_keys, words
from automl.history.storage.snapshots import (
    Folders,
    Pull,
    Snapshot,
    clean,
    frozen_batch,
    pulls,
    read,
    scan,
)

__all__ = [
    "KEY_SECRET",
    "ROW_ID",
    "Folders",
    "Kind",
    "Kinds",
    "Pull",
    "Snapshot",
    "clean",
    "discreet",
    "frozen_batch",
    "hashed",
    "personal_keys",
    "plain_keys",
    "pull",
    "pull_batch",
    "pulls",
    "read",
    "sample",
    "scan",
    "utc_naive",
    "words",
]
