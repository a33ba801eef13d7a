"""Rows of databases: one read-only transaction, streamed; PostgreSQL over ADBC where it is installed.

The user's query is wrapped, so that only allowed columns leave the database and only new rows are
asked for. Values are bound; identifiers are quoted. On PostgreSQL a bound value is a setting of the
transaction that the query reads, because COPY, the fast way out, takes no parameters.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from automl.errors import AutomlError, HistoryError, ProblemError, UnreachableError
from automl.history.rows.casting import Column, utc_naive
from automl.history.rows.local_time import local_bound
from automl.history.rows.personal import words
from automl.history.rows.shaping import Chunk
from automl.history.sources.base import CHUNK_ROWS, Since, once
from automl.problem import Problem
from automl.workspace import Workspace, redact

__all__ = ["CONNECT_SECONDS", "STATEMENT_SECONDS", "open_database"]

CONNECT_SECONDS = 5  # a source that does not answer by then is called unreachable
STATEMENT_SECONDS = 900  # a query that does not end by then is stopped
_FLOAT4 = "700"  # what psycopg calls PostgreSQL's type `real`
_END = re.compile(r"[\s;]*((?:\n?--[^\n]*\s*)*)\Z")  # of a query: semicolons, then comments
_PARAMETER = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")
_OLDEST_TRANSACTION = """
    select least(now(), min(xact_start))
    from pg_stat_activity
    where pid <> pg_backend_pid() and datname = current_database()
"""
# a standby does not see its primary's transactions, and nobody sees when a prepared one began
_SEES_ALL = """
    select pg_has_role(current_user, 'pg_read_all_stats', 'member') and not pg_is_in_recovery()
        and not exists (select from pg_prepared_xacts where database = current_database())
"""
_DENIED = re.compile(  # a connection that was refused carries no code
    r'authentication failed|no pg_hba.conf entry|role "[^"]*" (does not exist|is not permitted)'
)
_LOST = ("server closed the connection", "terminating connection", "connection to server was lost")


def open_database(
    problem: Problem, workspace: Workspace, query: str, bound: Mapping[str, datetime]
) -> Database:
    """The database of `history.source`, connected, in a read-only transaction.

    Raises
    ------
    ProblemError, UnreachableError, HistoryError
        The URL is wrong; nobody answers; the password or a right is missing.
    """
    url = _database_url(problem.history.source, workspace)
    source = Database(problem, url, _END.sub(r"\1", query), bound)
    try:
        source.open()
    except BaseException:
        source.close()
        raise
    return source


@dataclass(slots=True)
class Database:
    """One query of a database as a source of chunks."""

    problem: Problem
    url: sa.URL
    query: str
    bound: Mapping[str, datetime]
    incremental: bool = True
    loose: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    _engine: sa.Engine | None = None
    _connection: sa.Connection | None = None
    _fast: Any = None  # an ADBC connection
    _types: dict[str, str] = field(default_factory=dict)

    @property
    def backend(self) -> str:
        """`postgresql`, `sqlite`, ..."""
        return self.url.get_backend_name()

    def open(self) -> None:
        """Connect; on PostgreSQL note the oldest open transaction before the snapshot is taken."""
        source = redact(self.problem.history.source)
        try:
            self._engine = sa.create_engine(
                self.url, connect_args=self._connect_args(), poolclass=sa.pool.NullPool
            )
        except (ImportError, sa.exc.ArgumentError) as error:
            raise ProblemError(
                f"history.source {source}: {error}; wanted a database whose driver is installed",
                code="url",
            ) from error
        try:
            self._connection = self._engine.connect()
        except sa.exc.DBAPIError as error:
            raise self._refused(error.orig or error) from error
        if self.backend == "postgresql":
            self._open_postgres()
        elif self.backend == "sqlite":
            _tame_sqlite(self._connection)
            self._connection.exec_driver_sql("begin")  # every query of a pull sees the same rows

    def names(self) -> list[str]:
        """Columns of the query."""
        probe = f"select * from (\n{self.query}\n) as q where 1 = 0"  # noqa: S608
        if self._fast is not None:
            with self._told(), self._fast.cursor() as cursor:
                cursor.execute(self._set_in(probe))
                told = [(d[0], str(d[1])) for d in cursor.description]
        else:
            with self._told():
                result = self._run(probe)
                told = [(d[0], str(d[1])) for d in result.cursor.description]
                result.close()
        names = [name for name, _ in told]
        if self.backend == "sqlite":  # in a subquery SQLite calls a second `a` `a:1`
            twins = {n: n.rpartition(":")[0] for n in names if re.fullmatch(r".+:\d+", n)}
            names = [twins[n] if twins.get(n) in names else n for n in names]
        once(names)
        self._types = dict(told)
        return names

    def chunks(self, names: Sequence[str], since: Since | None = None) -> Iterator[Chunk]:
        """Rows of the query, streamed."""
        columns = ", ".join(f"q.{self._quoted(name)}" for name in names)
        where, edges = self._newer(since)
        sql = f"select {columns} from (\n{self.query}\n) as q{where}"  # noqa: S608
        with self._told():
            if self._fast is not None:
                yield from self._stream_arrow(sql, edges)
            else:
                yield from self._stream(sql, edges, names)

    def close(self) -> None:
        """End the transaction and hang up."""
        with suppress(Exception):
            if self._fast is not None:
                self._fast.close()
        with suppress(Exception):
            if self._connection is not None:
                self._connection.close()
        if self._engine is not None:
            self._engine.dispose()
        self._fast = self._connection = None

    # ------------------------------------------------------------ what is new

    def _newer(self, since: Since | None) -> tuple[str, dict[str, datetime | str]]:
        if since is None:
            return "", {}
        h = self.problem.history
        edges: dict[str, datetime | str] = {}

        def bound(name: str, column: str, edge: datetime, sign: str) -> str:
            edges[name] = self._edge(column, edge, upper=sign == "<")
            return f"q.{self._quoted(column)} {sign} :{name}"

        if since.until is not None:
            low = bound("since", h.time, since.time, ">=")
            return f"\nwhere {low} and {bound('until_', h.time, since.until, '<')}", edges
        fresh = [bound("since", h.time, since.time, ">=")]
        for column in (h.updated_at, h.label_time):
            if column and since.changed is not None:
                fresh.append(bound(f"changed_{len(fresh)}", column, since.changed, ">="))
        return f"\nwhere {' or '.join(fresh)}", edges

    def _quoted(self, name: str) -> str:
        """A column's name as an identifier, whatever characters it holds."""
        assert self._engine is not None
        preparer = self._engine.dialect.identifier_preparer
        quoted = str(preparer.quote_identifier(name))
        if preparer._double_percents:  # SQLAlchemy does so again where the driver wants it
            quoted = quoted.replace("%%", "%")
        # SQLAlchemy would read the colon of a name as a parameter; PostgreSQL's statements skip it
        return quoted if self.backend == "postgresql" else quoted.replace(":", r"\:")

    def _edge(self, column: str, edge: datetime, *, upper: bool) -> datetime | str:
        """A bound of a time column. Times that are text are only compared by day, a day too many each side."""
        if self.backend == "sqlite" or self._types.get(column) in ("string", "25", "1043", "1042"):
            local = local_bound(edge, self.problem.history.timezone, upper=upper)
            day = local + timedelta(days=2 if upper else -1)
            return f"{day.isoformat():.10}"  # strftime writes the year 2 as `2`
        return edge

    # ------------------------------------------------------------ any database

    def _stream(
        self, sql: str, edges: Mapping[str, datetime | str], names: Sequence[str]
    ) -> Iterator[Chunk]:
        result = self._run(sql, edges)
        # SQLAlchemy has taken the first row from a cursor of the server; SQLite's own is faster
        fetch = result.cursor.fetchmany if self.backend == "sqlite" else result.fetchmany
        try:
            while rows := fetch(CHUNK_ROWS):
                columns = zip(names, map(_typed, zip(*rows, strict=True)), strict=True)
                yield {n: self._single(n, column) for n, column in columns}
        finally:
            result.close()

    def _single(self, name: str, column: Column) -> Column:
        """Numbers of single precision as they are stored; psycopg reads them from their shortest text."""
        if self._types.get(name) == _FLOAT4 and isinstance(column, pa.Array):
            return column.cast(pa.float32()).cast(pa.float64())
        return column

    def _run(
        self, sql: str, edges: Mapping[str, datetime | str] | None = None
    ) -> sa.CursorResult[Any]:
        assert self._connection is not None
        connection = self._connection.execution_options(stream_results=True, yield_per=CHUNK_ROWS)
        if self.backend == "postgresql":
            for name, value in self._settings({**self.bound, **(edges or {})}).items():
                connection.execute(
                    sa.text("select set_config(:name, :value, true)"),
                    {"name": name, "value": value},
                )
            return connection.execute(sa.text(self._read_settings(sql, edges).replace(":", r"\:")))
        values = {
            **self.bound,
            "since": self.bound.get("since", datetime(1, 1, 2, tzinfo=UTC)),
            **(edges or {}),
        }
        used = {n: self._value(n, v) for n, v in values.items() if n in _PARAMETER.findall(sql)}
        return connection.execute(sa.text(sql), used)

    def _value(self, name: str, value: datetime | str) -> Any:
        if isinstance(value, str):
            return value
        # a batch query's `as_of` is the lower edge of its window
        upper = name in ("until", "until_") or (
            name == "as_of" and value >= self.bound.get("until", value)
        )
        # how naive times are stored
        local = local_bound(value, self.problem.history.timezone, upper=upper)
        if self.backend != "sqlite":
            return local.to_pydatetime()
        return f"{local.ceil('s') if upper else local.floor('s'):%Y-%m-%d %H:%M:%S}"

    # ------------------------------------------------------------ PostgreSQL

    def _open_postgres(self) -> None:
        assert self._connection is not None
        with self._told():
            sees_all = bool(self._connection.scalar(sa.text(_SEES_ALL)))
            oldest = self._connection.scalar(sa.text(_OLDEST_TRANSACTION))
            self._connection.rollback()
            # rows of a transaction that is open now appear later, with times from its start on
            self.state = {"watermark": oldest.isoformat()} if sees_all else {}
            try:
                import adbc_driver_postgresql.dbapi as fast  # noqa: PLC0415
            except ImportError:
                self._connection.exec_driver_sql(
                    "set transaction isolation level repeatable read, read only"
                )
                return
            plain = self.url.set(drivername="postgresql")
            with_timeout = plain.update_query_dict({"connect_timeout": str(CONNECT_SECONDS)})
            self._fast = fast.connect(with_timeout.render_as_string(hide_password=False))
            with self._fast.cursor() as cursor:
                cursor.execute("set transaction isolation level repeatable read, read only")
                cursor.execute(f"set local statement_timeout = '{STATEMENT_SECONDS}s'")
                cursor.execute(
                    "select set_config('TimeZone', $1, true)", (self.problem.history.timezone,)
                )
            self._connection.close()

    def _stream_arrow(self, sql: str, edges: Mapping[str, datetime | str]) -> Iterator[Chunk]:
        with self._fast.cursor() as cursor:
            cursor.execute(self._set_in(sql, edges))
            for batch in cursor.fetch_record_batch():
                for start in range(0, len(batch), CHUNK_ROWS):
                    part = batch.slice(start, CHUNK_ROWS)
                    yield {n: _stored(part.column(i)) for i, n in enumerate(part.schema.names)}

    def _set_in(self, sql: str, edges: Mapping[str, datetime | str] | None = None) -> str:
        with self._fast.cursor() as cursor:
            for name, value in self._settings({**self.bound, **(edges or {})}).items():
                cursor.execute("select set_config($1, $2, true)", (name, value))
        return self._read_settings(sql, edges)

    def _settings(self, values: Mapping[str, datetime | str]) -> dict[str, str]:
        told = {
            f"automl.{n}": v if isinstance(v, str) else f"{utc_naive(v).isoformat()}Z"
            for n, v in values.items()
        }
        return {"automl.since": "0001-01-02T00:00:00Z", **told}

    def _read_settings(self, sql: str, edges: Mapping[str, datetime | str] | None) -> str:
        known = {**self.bound, "since": "", **(edges or {})}

        def read(match: re.Match[str]) -> str:
            name = match[1]
            if name not in known:
                return match[0]
            kind = "text" if isinstance((edges or {}).get(name), str) else "timestamptz"
            return f"current_setting('automl.{name}')::{kind}"

        return _PARAMETER.sub(read, sql)

    # ------------------------------------------------------------ how it says no

    def _connect_args(self) -> dict[str, Any]:
        if self.backend == "postgresql":
            zone = self.problem.history.timezone
            return {
                "connect_timeout": CONNECT_SECONDS,
                "options": "-c default_transaction_read_only=on "
                f"-c statement_timeout={STATEMENT_SECONDS}s -c timezone={zone}",
            }
        return {"timeout": CONNECT_SECONDS} if self.backend == "sqlite" else {}

    def _told(self) -> _Told:
        return _Told(self)

    def _refused(self, error: BaseException) -> AutomlError:
        """What a failed connection or query means for the user."""
        source = redact(self.problem.history.source)
        said = redact(str(error)).strip()
        asked = self._connection is not None  # before that there was no cell to quote
        shown = words(error, self.problem) if asked and self.problem.history.personal else said
        state = str(getattr(error, "sqlstate", "") or "")
        if state.startswith("28") or _DENIED.search(said):
            return HistoryError(
                f"history.source {source}: the database refuses this user: {shown.splitlines()[-1]}",
                code="source_denied",
                next_step="Mend user or password; it was not tried again, so that nothing is locked out.",
            )
        if state == "42501" or "permission denied" in said:
            found = re.search(r"permission denied for \w+ (\S+)", said)
            what = found[1] if found else "the table"
            return HistoryError(
                f"history.source {source}: no right to read {what}",
                code="no_right",
                next_step=f"grant select on {what} to {self.url.username or 'this user'};",
            )
        if state == "57014" or "statement timeout" in said or said == "interrupted":
            return HistoryError(
                f"history.source {source}: the query took longer than {STATEMENT_SECONDS} s and was stopped",
                code="source_slow",
                next_step="Put an index on the time column, or ask for less in history.query.",
            )
        if self._connection is None or state.startswith("08") or any(t in said for t in _LOST):
            return UnreachableError(
                f"history.source {source} does not answer: {shown.splitlines()[0] if said else type(error).__name__}",
                code="source_unreachable",
                next_step="Check that the database is up and the URL is right, then run the same command again.",
            )
        return HistoryError(
            f"history.source {source}: the query failed: {shown}",
            code="query_failed",
            next_step="Run the query by hand; a table or column may have been renamed.",
        )


class _Told:
    """Turns what drivers raise into what users are told."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, (AutomlError, GeneratorExit)):
            return
        cause = None if self.database.problem.history.personal else error  # it may quote a cell
        if isinstance(error, sa.exc.DBAPIError):
            raise self.database._refused(error.orig or error) from cause
        drivers = ("adbc_driver_manager", "psycopg", "sqlite3")
        if isinstance(
            error, (sa.exc.SQLAlchemyError, sqlite3.Error, pa.ArrowException, OSError)
        ) or (type(error).__module__.startswith(drivers)):
            raise self.database._refused(error) from cause


def _database_url(source: str, workspace: Workspace) -> sa.URL:
    missing = [name for name in re.findall(r"\$\{(\w+)\}", source) if name not in os.environ]
    if missing:
        raise ProblemError(
            f"history.source: environment variable {missing[0]} is not set", code="no_environment"
        )
    try:
        url = sa.make_url(re.sub(r"\$\{(\w+)\}", lambda m: os.environ[m[1]], source))
    except sa.exc.ArgumentError as error:
        raise ProblemError(
            f"history.source: {redact(source)!r} is not a database URL", code="url"
        ) from error
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        path = (workspace.root / url.database).resolve()
        if not path.is_file():
            raise UnreachableError(
                f"history.source {source}: no file at {path}",
                code="source_unreachable",
                next_step="Build or copy the database there, then run the same command again.",
            )
        url = url.set(database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    # SQLAlchemy takes plain postgresql:// for psycopg2; what we depend on is its successor
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _tame_sqlite(connection: sa.Connection) -> None:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    deadline = time.monotonic() + STATEMENT_SECONDS
    raw.set_progress_handler(lambda: int(time.monotonic() > deadline), 1_000_000)


def _typed(values: Sequence[Any]) -> Column:
    """An Arrow array where all cells are of one type, else the objects as they came."""
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError):
        return pd.Series(list(values), dtype="object")
    if pa.types.is_timestamp(array.type) and array.type.tz:
        # pandera sets PYARROW_IGNORE_TIMEZONE, under which Arrow takes every local time for UTC
        array = pa.array([v and v.astimezone(UTC) for v in values], pa.timestamp("us", "UTC"))
    plain = not (pa.types.is_nested(array.type) or pa.types.is_binary(array.type))
    return array if plain else pd.Series(list(values), dtype="object")


def _stored(column: pa.Array) -> pa.Array:
    """Types that Arrow has no name for come under a label of their own; what is no text keeps it."""
    if not isinstance(column, pa.ExtensionArray):
        return column
    cells = column.storage
    if column.type.extension_name == "arrow.uuid":
        return pa.array([None if v is None else str(UUID(bytes=v)) for v in cells.to_pylist()])
    if getattr(column.type, "type_name", "") == "numeric":
        return cells.cast(pa.float64())
    return cells if pa.types.is_string(cells.type) else column
