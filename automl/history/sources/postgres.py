"""What PostgreSQL needs of its own: bound values as settings, its open transactions, Arrow columns.

COPY, the fast way to read rows, takes no parameters. So a bound value is a setting of the transaction,
which the query reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from automl.history.rows.kinds import Column
from automl.history.rows.local_time import FIRST, LAST, utc_naive

__all__ = [
    "FLOAT4",
    "PARAMETER",
    "READ_ONLY",
    "TEXT_TYPES",
    "as_settings",
    "connect_adbc",
    "plain_column",
    "reading_settings",
    "readings",
    "watermark",
]

FLOAT4 = "700"  # the number of PostgreSQL's type `real`
TEXT_TYPES = ("25", "1043", "1042", "VARCHAR")  # text, varchar, char(n); DuckDB's
# bool, bytea, "char", name, whole numbers, oid, uuid: read as they are
_AS_THEY_ARE = {"16", "17", "18", "19", "20", "21", "23", "26", FLOAT4, "701", "1700", "2950"}
_TIMES = {"1082": "date", "1114": "timestamp", "1184": "timestamptz"}
_EXPRESSIONS = {
    "790": "{}::numeric",  # money, whose text depends on the server's language
    "869": "abbrev({})",  # inet, whose cast to text adds a mask that the address does not have
}
# time, interval, time with zone, record: no number, text or moment
_NOT_CELLS = {"1083", "1186", "1266", "2249"}
_DESCRIBED = """
    select oid::text, format_type(oid, null) as name, typcategory = 'A' or typtype = 'c' as nested
    from pg_type where oid = any(cast(:oids as oid[]))
"""
PARAMETER = re.compile(r"(?<![:\w\\]):(\w+)(?!\w)")
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


def readings(
    connection: sa.Connection, types: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """How to select columns that drivers cannot return as numbers, texts or times.

    `types` are the numbers of their types. Returns column -> expression, with `{}` for the column, and
    column -> type for those that cannot be read at all: arrays, intervals, times of day, rows.
    Every other type becomes the text that PostgreSQL shows; times that no calendar has, such as
    `infinity` or the year 12000, become the calendar's ends, which are read as missing.
    """
    known = {*_AS_THEY_ARE, *TEXT_TYPES, *_TIMES, *_EXPRESSIONS}
    expressions = {n: _within_calendar(_TIMES[t]) for n, t in types.items() if t in _TIMES}
    expressions |= {n: _EXPRESSIONS[t] for n, t in types.items() if t in _EXPRESSIONS}
    others = {n: t for n, t in types.items() if t not in known}
    if not others:
        return expressions, {}
    oids = [int(t) for t in others.values()]
    found = {row.oid: row for row in connection.execute(sa.text(_DESCRIBED), {"oids": oids})}
    refused = {n: found[t].name for n, t in others.items() if t in _NOT_CELLS or found[t].nested}
    return expressions | {n: "{}::text" for n in others if n not in refused}, refused


def _within_calendar(kind: str) -> str:
    low, high = (f"{kind} '{t.date()}{'Z' * kind.endswith('tz')}'" for t in (FIRST, LAST))
    return f"case when {{}} < {low} then {low} when {{}} > {high} then {high} else {{}} end"


def connect_adbc(
    url: sa.URL, zone: str, *, connect_seconds: int, statement_seconds: int
) -> Any | None:
    """A read-only transaction over ADBC; None if the driver is not installed."""
    try:
        # optional: without it psycopg reads the same rows, only more slowly
        import adbc_driver_postgresql.dbapi as adbc  # noqa: PLC0415
    except ImportError:
        return None
    with_timeout = url.update_query_dict({"connect_timeout": str(connect_seconds)})
    connection = adbc.connect(_libpq_address(with_timeout))
    try:
        with connection.cursor() as cursor:
            cursor.execute(READ_ONLY)
            cursor.execute(f"set local statement_timeout = '{statement_seconds}s'")
            cursor.execute("select set_config('TimeZone', $1, true)", (zone,))
    except BaseException:
        connection.close()
        raise
    return connection


def _libpq_address(url: sa.URL) -> str:
    """The URL as libpq reads it; SQLAlchemy leaves a space in a password as it is, which libpq refuses."""
    host = sa.URL.create(
        "postgresql", host=url.host, port=url.port, database=url.database, query=url.query
    )
    user, password = (quote(part or "", safe="") for part in (url.username, url.password))
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    return host.render_as_string(hide_password=False).replace("://", f"://{login}", 1)


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


def plain_column(column: pa.Array, *, exact: bool) -> Column | Sequence[Decimal | None]:
    """The column without ADBC's extension types, which stand for types that Arrow does not name.

    Decimal numbers become floats; as `Decimal` they stay if `exact`, or if a whole number would lose digits.
    """
    if not isinstance(column, pa.ExtensionArray):
        return column
    cells = column.storage
    if column.type.extension_name == "arrow.uuid":
        return pa.array([None if v is None else str(UUID(bytes=v)) for v in cells.to_pylist()])
    if getattr(column.type, "type_name", "") == "numeric":
        long = pc.any(pc.match_substring_regex(cells, r"^-?\d{16,}$")).as_py()
        if exact or long:
            return [None if v is None else Decimal(v) for v in cells.to_pylist()]
        return cells.cast(pa.float64())
    return cells if pa.types.is_string(cells.type) else column
