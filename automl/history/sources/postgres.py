"""What PostgreSQL needs of its own: bound values as settings, its open transactions, Arrow columns.

COPY, the fast way to read rows, takes no parameters. So a bound value is a setting of the transaction,
which the query reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa

from automl.history.rows.local_time import utc_naive

__all__ = [
    "FLOAT4",
    "PARAMETER",
    "READ_ONLY",
    "TEXT_TYPES",
    "as_settings",
    "connect_adbc",
    "plain_column",
    "reading_settings",
    "watermark",
]

FLOAT4 = "700"  # what psycopg calls PostgreSQL's type `real`
TEXT_TYPES = ("string", "25", "1043", "1042")  # what ADBC and psycopg call columns of text
PARAMETER = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")
_OLDEST_TRANSACTION = """
    select least(now(), min(xact_start))
    from pg_stat_activity
    where pid <> pg_backend_pid() and datname = current_database()
"""
# a standby does not see its primary's transactions; when a prepared transaction began is not recorded
_SEES_ALL = """
    select pg_has_role(current_user, 'pg_read_all_stats', 'member') and not pg_is_in_recovery()
        and not exists (select from pg_prepared_xacts where database = current_database())
"""
READ_ONLY = "set transaction isolation level repeatable read, read only"


def watermark(connection: sa.Connection) -> dict[str, Any]:
    """The start of the oldest open transaction; empty if this user cannot see all of them.

    Rows of a transaction that is open now appear later, with times from its start on.
    """
    sees_all = bool(connection.scalar(sa.text(_SEES_ALL)))
    oldest = connection.scalar(sa.text(_OLDEST_TRANSACTION))
    connection.rollback()
    return {"watermark": oldest.isoformat()} if sees_all else {}


def connect_adbc(
    url: sa.URL, zone: str, *, connect_seconds: int, statement_seconds: int
) -> Any | None:
    """A read-only transaction over ADBC; None if the driver is not installed."""
    try:
        # optional: without it psycopg reads the same rows, only more slowly
        import adbc_driver_postgresql.dbapi as adbc  # noqa: PLC0415
    except ImportError:
        return None
    plain = url.set(drivername="postgresql")
    with_timeout = plain.update_query_dict({"connect_timeout": str(connect_seconds)})
    connection = adbc.connect(with_timeout.render_as_string(hide_password=False))
    try:
        with connection.cursor() as cursor:
            cursor.execute(READ_ONLY)
            cursor.execute(f"set local statement_timeout = '{statement_seconds}s'")
            cursor.execute("select set_config('TimeZone', $1, true)", (zone,))
    except BaseException:
        connection.close()
        raise
    return connection


def as_settings(values: Mapping[str, datetime | str]) -> dict[str, str]:
    """Bound values as settings of a transaction."""
    settings = {
        f"automl.{n}": v if isinstance(v, str) else f"{utc_naive(v).isoformat()}Z"
        for n, v in values.items()
    }
    return {"automl.since": "0001-01-02T00:00:00Z", **settings}


def reading_settings(sql: str, values: Mapping[str, datetime | str]) -> str:
    """`sql` with every parameter replaced by the setting of its name."""
    names = {"since", *values}

    def read(match: re.Match[str]) -> str:
        name = match[1]
        if name not in names:
            return match[0]
        kind = "text" if isinstance(values.get(name), str) else "timestamptz"
        return f"current_setting('automl.{name}')::{kind}"

    return PARAMETER.sub(read, sql)


def plain_column(column: pa.Array) -> pa.Array:
    """The column without ADBC's extension types, which stand for types that Arrow does not name."""
    if not isinstance(column, pa.ExtensionArray):
        return column
    cells = column.storage
    if column.type.extension_name == "arrow.uuid":
        return pa.array([None if v is None else str(UUID(bytes=v)) for v in cells.to_pylist()])
    if getattr(column.type, "type_name", "") == "numeric":
        return cells.cast(pa.float64())
    return cells if pa.types.is_string(cells.type) else column
