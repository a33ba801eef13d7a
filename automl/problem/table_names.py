"""Names that no table of predictions may have, SQLite's and our own tables; names that SQL must quote."""

from __future__ import annotations

import re

__all__ = ["in_sql", "table_mistake"]

TABLE = re.compile(r"[a-z][a-z0-9_]{0,39}")  # 40 leave room for suffixes in PostgreSQL's 63 bytes
OURS = """
    automl_alert automl_audit automl_cycle automl_decision automl_evidence automl_fence automl_generation automl_ledger
    automl_meta automl_pointer automl_profile automl_publication automl_release automl_revision automl_shadow automl_trial
    automl_waiting automl_watch
"""
# in SQLite or PostgreSQL `select * from order` is a syntax error
WORDS = """
    add all alter analyse analyze and any array as asc asymmetric authorization autoincrement between binary both
    case cast check collate column commit constraint create cross current_date current_role current_time
    current_timestamp current_user default deferrable delete desc distinct do drop else end escape except exists
    false fetch for foreign freeze from full grant group having if ilike in index initially inner insert intersect
    into is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null offset
    on only or order outer overlaps placing primary references returning right select session_user set similar
    some symmetric table then to trailing transaction true union unique update user using values variadic verbose
    when where window with
"""


def table_mistake(name: str) -> str:
    """What is wrong with the name of a table of predictions; empty if nothing is.

    >>> table_mistake("order"), table_mistake("automl_cycle")
    ('', "found 'automl_cycle', which is a table of the store")
    """
    if not TABLE.fullmatch(name):
        return f"found {name!r}; wanted lower-case letters, digits and _, at most 40"
    if name.startswith("sqlite_"):
        return f"found {name!r}; SQLite keeps names that begin with sqlite_ for its own tables"
    if name in OURS.split():
        return f"found {name!r}, which is a table of the store"
    return ""


def in_sql(name: str) -> str:
    """The name as a query must write it.

    >>> in_sql("orders"), in_sql("order")
    ('orders', '"order"')
    """
    return f'"{name}"' if name in WORDS.split() else name
