"""The one truth of a workspace: cycles, releases, generations, ledger; SQLite or PostgreSQL."""

from automl.store.ledger import Entry, Waiting
from automl.store.losses import recent_since
from automl.store.monitoring import (
    WATCHED_TABLES,
    Alert,
    Profile,
    alert_sent,
    check_watched_tables,
    close_alert,
    newest_watch,
    open_alert,
    open_alerts,
    profiles,
    rows_of,
    write_profiles,
    write_watch,
)
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
    plain,
)
from automl.store.store import Store

__all__ = [
    "RECORD",
    "UNSCORED",
    "WATCHED_TABLES",
    "Alert",
    "Cycle",
    "DecisionRecord",
    "Entry",
    "Generation",
    "Hold",
    "Profile",
    "Release",
    "Store",
    "Waiting",
    "alert_sent",
    "aware",
    "check_watched_tables",
    "close_alert",
    "has_tables",
    "may_write",
    "naive",
    "newest_watch",
    "open_alert",
    "open_alerts",
    "plain",
    "profiles",
    "recent_since",
    "rows_of",
    "store_as_it_is",
    "write_profiles",
    "write_watch",
]
