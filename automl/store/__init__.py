"""The one truth of a workspace: cycles, releases, generations, ledger; SQLite or PostgreSQL."""

from automl.store.ledger import Entry, Waiting
from automl.store.probing import is_there, may_write
from automl.store.rows import (
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
    "is_there",
    "may_write",
    "naive",
]
