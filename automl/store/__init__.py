"""The one truth of a workspace: cycles, releases, generations, ledger; SQLite or PostgreSQL."""

from automl.store.ledger import Entry, Waiting
from automl.store.probing import has_tables, may_write, store_as_it_is
from automl.store.rows import (
    RECORD,
    UNSCORED,
    Cycle,
    DecisionRecord,
    Generation,
    Hold,
    Release,
    aware,
    naive,
)
from automl.store.store import Store

__all__ = [
    "RECORD",
    "UNSCORED",
    "Cycle",
    "DecisionRecord",
    "Entry",
    "Generation",
    "Hold",
    "Release",
    "Store",
    "Waiting",
    "aware",
    "has_tables",
    "may_write",
    "naive",
    "store_as_it_is",
]
