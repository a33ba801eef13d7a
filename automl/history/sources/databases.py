"""Rows of databases: one read-only transaction, streamed; PostgreSQL over ADBC where it is installed.

The user's query is wrapped, so that only allowed columns leave the database and only new rows are
selected. Values are bound; identifiers are quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from automl.addresses import fill_references
from automl.errors import AutomlError, ProblemError, UnreachableError
from automl.history.rows.kinds import Column
from automl.history.rows.layout import Chunk
from automl.history.rows.local_time import local_bound
from automl.history.rows.names import bad_type
from automl.history.sources import base
from automl.history.sources.base import Since, once
from automl.history.sources.cells import typed_cells
from automl.history.sources.database_errors import Failure, from_driver
from automl.history.sources.edges import WIDE, doubtful, refuse_lost_rows
from automl.history.sources.postgres import (
    FLOAT4,
    PARAMETER,
    READ_ONLY,
    TEXT_TYPES,
    as_settings,
    connect_adbc,
    plain_column,
    reading_settings,
    readings,
    watermark,
)
from automl.history.sources.sqlite import comparable, is_newer, prepare, variants
from automl.problem import Problem
from automl.redaction import redact
from automl.workspace import Workspace, driver_package, with_driver

__all__ = ["CONNECT_SECONDS", "STATEMENT_SECONDS", "Database", "database_url"]

CONNECT_SECONDS = 5  # a source that has not responded by then is called unreachable
STATEMENT_SECONDS = 900  # a query that has not ended by then is stopped
Bounds: TypeAlias = Mapping[str, Any]  # names of parameters -> moments, texts, numbers


@dataclass(slots=True, kw_only=True)
class Database:
    """One query of a database as a source of chunks."""

    problem: Problem
    url: sa.URL
    query: str
    bound: Mapping[str, datetime]
    incremental: bool = True
    loose: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _engine: sa.Engine | None = None
    _connection: sa.Connection | None = None
    _adbc: Any = None  # a connection, if the driver is installed
    _types: dict[str, str] = field(default_factory=dict)
    _checked: bool = False  # whether the query was found to miss no row of its window
    _expressions: dict[str, str] = field(default_factory=dict)  # column -> how it is selected
    _refused: dict[str, str] = field(default_factory=dict)  # column -> type that cannot be read

    @property
    def backend(self) -> str:
        """`postgresql`, `sqlite`, `duckdb`, ..."""
        return self.url.get_backend_name()

    @property
    def connected(self) -> bool:
        """Whether the database has responded."""
        return self._connection is not None

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
                next_step=f"Install its driver: {driver_package(error, self.backend)}",
            ) from error
        try:
            self._connection = self._engine.connect()
        except sa.exc.DBAPIError as error:
            raise self._failure(error) from error
        if self.backend == "postgresql":
            self._open_postgres(self._connection)
        elif self.backend == "sqlite":
            self._open_sqlite(self._connection)
            self._connection.exec_driver_sql("begin")  # every query of a pull sees the same rows

    def names(self) -> list[str]:
        """Columns of the query."""
        query = comparable(self.query) if self.backend == "sqlite" else self.query
        probe = f"select * from (\n{query}\n) as q where 1 = 0"  # noqa: S608
        with self._reported():
            result = self._run(probe)
            types = [(d[0], str(d[1])) for d in result.cursor.description]
            result.close()
            if self.backend == "postgresql":
                assert self._connection is not None
                self._expressions, self._refused = readings(self._connection, dict(types))
            if self._adbc is not None and self._connection is not None:
                self._connection.close()  # from here on ADBC reads
        names = [name for name, _ in types]
        if self.backend == "sqlite":  # in a subquery SQLite calls a second `a` `a:1`
            plain = {n: n.rpartition(":")[0] for n in names if re.fullmatch(r".+:\d+", n)}
            names = [plain[n] if plain.get(n) in names else n for n in names]
        once(names)
        self._types = dict(types)
        return names

    def chunks(self, names: Sequence[str], since: Since | None = None) -> Iterator[Chunk]:
        """Rows of the query, streamed."""
        if self.backend in ("postgresql", "duckdb") and not self._types:
            self.names()
        self._check_edges()
        where, edges = self._newer(since)
        yield from self._rows(self.query, names, where, edges)

    def _rows(self, query: str, names: Sequence[str], where: str, edges: Bounds) -> Iterator[Chunk]:
        columns = ", ".join(map(self._selected, names))
        query = comparable(query) if self.backend == "sqlite" else query
        sql = f"select {columns} from (\n{query}\n) as q{where}"  # noqa: S608
        with self._reported():
            yield from self._read(sql, edges, names)

    def _check_edges(self) -> None:
        """Refuse a query that leaves out rows of its window; once for all chunks."""
        h = self.problem.history
        found = [] if self._checked else doubtful(self.query, h.time, backend=self.backend)
        self._checked = True
        typed = (
            self.backend in ("postgresql", "duckdb") and self._types.get(h.time) not in TEXT_TYPES
        )
        if found and not typed:
            refuse_lost_rows(
                self.problem, self.bound, self.query, found, self._times, backend=self.backend
            )

    def _times(self, query: str, window: Since, bounds: Bounds) -> list[Column]:
        where, edges = self._newer(window)
        name = self.problem.history.time
        return [chunk[name] for chunk in self._rows(query, [name], where, {**bounds, **edges})]

    def close(self) -> None:
        """End the transaction and disconnect."""
        with suppress(Exception):
            if self._adbc is not None:
                self._adbc.close()
        with suppress(Exception):
            if self._connection is not None:
                self._connection.close()
        if self._engine is not None:
            self._engine.dispose()
        self._adbc = self._connection = None

    # ------------------------------------------------------------ what is new

    def _newer(self, since: Since | None) -> tuple[str, dict[str, Any]]:
        if since is None:
            return "", {}
        h = self.problem.history
        edges: dict[str, Any] = {}

        def bound(name: str, column: str, edge: datetime, sign: str) -> str:
            edges[name] = self._edge(column, edge, upper=sign == "<")
            quoted = f"q.{self.quoted(column)}"
            if self.backend == "sqlite":
                edges.update(variants({name: edge}, h.timezone))
                return is_newer(quoted, name, upper=sign == "<")
            condition = f"{quoted} {sign} :{name}"
            if self._types.get(column) in TEXT_TYPES:  # of which some may not sort by time
                condition = f"({condition} or {quoted} not like '____-__-__%')"
            return condition

        if since.until is not None:
            low = bound("since", h.time, since.time, ">=")
            return f"\nwhere {low} and {bound('until_', h.time, since.until, '<')}", edges
        fresh = [bound("since", h.time, since.time, ">=")]
        for column in (h.updated_at, h.label_time):
            if column and since.changed is not None:
                fresh.append(bound(f"changed_{len(fresh)}", column, since.changed, ">="))
        return f"\nwhere {' or '.join(fresh)}", edges

    def _selected(self, name: str) -> str:
        """A column as the query returns it, as a number, a text or a time."""
        if name in self._refused:
            raise bad_type(name, self._refused[name])
        quoted = self.quoted(name)
        expression = self._expressions.get(name)
        column = f"q.{quoted}"
        return f"{expression.replace('{}', column)} as {quoted}" if expression else column

    def quoted(self, name: str) -> str:
        """A column's name as an identifier, whatever characters it holds."""
        assert self._engine is not None
        preparer = self._engine.dialect.identifier_preparer
        quoted = str(preparer.quote_identifier(name))
        if preparer._double_percents:  # SQLAlchemy doubles them where the driver needs it
            quoted = quoted.replace("%%", "%")
        # SQLAlchemy would read the colon of a name as a parameter; PostgreSQL's statements skip it
        return quoted if self.backend == "postgresql" else quoted.replace(":", r"\:")

    def _edge(self, column: str, edge: datetime, *, upper: bool) -> datetime | str:
        """A bound of a time column. Times that are text are compared by day only, with a day to spare on each side."""
        if self.backend == "sqlite" or self._types.get(column) in TEXT_TYPES:
            local = local_bound(edge, self.problem.history.timezone, upper=upper)
            day = local + timedelta(days=2 if upper else -1)
            return f"{day.isoformat():.10}"  # strftime writes the year 2 as `2`
        return edge

    # ------------------------------------------------------------ any database

    def _read(self, sql: str, edges: Bounds, names: Sequence[str]) -> Iterator[Chunk]:
        if self._adbc is not None:
            return self._stream_arrow(sql, edges)
        return self._stream(sql, edges, names)

    def _stream(self, sql: str, edges: Bounds, names: Sequence[str]) -> Iterator[Chunk]:
        result = self._run(sql, edges)
        # SQLAlchemy has already taken the first row of a server-side cursor; SQLite's own cursor is faster
        fetch = result.cursor.fetchmany if self.backend == "sqlite" else result.fetchmany
        try:
            while rows := fetch(base.CHUNK_ROWS):
                columns = zip(names, map(typed_cells, zip(*rows, strict=True)), strict=True)
                yield {n: self._single(n, column) for n, column in columns}
        finally:
            result.close()

    def _single(self, name: str, column: Column) -> Column:
        """Numbers of single precision as the database stores them; psycopg parses their shortest text."""
        if self._types.get(name) == FLOAT4 and isinstance(column, pa.Array):
            return column.cast(pa.float32()).cast(pa.float64())
        return column

    def _run(self, sql: str, edges: Bounds | None = None) -> sa.CursorResult[Any]:
        assert self._connection is not None
        connection = self._connection.execution_options(
            stream_results=True, yield_per=base.CHUNK_ROWS
        )
        if self.backend == "postgresql":
            bound = {**self.bound, **(edges or {})}
            for name, value in as_settings(bound).items():
                connection.execute(
                    sa.text("select set_config(:name, :value, true)"),
                    {"name": name, "value": value},
                )
            return connection.execute(sa.text(reading_settings(sql, bound).replace(":", r"\:")))
        values = self._values(edges or {})
        if self.backend == "sqlite":
            values = {**variants(values, self.problem.history.timezone), **values}
        used = {n: self._value(n, v) for n, v in values.items() if n in PARAMETER.findall(sql)}
        return connection.execute(sa.text(sql), used)

    def _values(self, edges: Bounds) -> dict[str, Any]:
        since = self.bound.get("since", datetime(1, 1, 2, tzinfo=UTC))
        return {**self.bound, "since": since, **edges}

    def _value(self, name: str, value: Any) -> Any:
        if not isinstance(value, datetime):
            return value
        name = name.removesuffix(WIDE)
        # a batch query's `as_of` is the lower edge of its window
        upper = name in ("until", "until_") or (
            name == "as_of" and value >= self.bound.get("until", value)
        )
        # how naive times are stored
        local = local_bound(value, self.problem.history.timezone, upper=upper)
        if self.backend != "sqlite":
            return local.to_pydatetime()
        return f"{local.ceil('s') if upper else local.floor('s'):%Y-%m-%d %H:%M:%S}"

    # ------------------------------------------------------------ SQLite

    def _open_sqlite(self, connection: sa.Connection) -> None:
        moments = {str(self._value(n, moment)): moment for n, moment in self.bound.items()}
        zone = self.problem.history.timezone
        prepare(connection, zone, moments, seconds=STATEMENT_SECONDS)

    # ------------------------------------------------------------ PostgreSQL

    def _open_postgres(self, connection: sa.Connection) -> None:
        with self._reported():
            self.state = watermark(connection)
            self._adbc = connect_adbc(
                self.url,
                self.problem.history.timezone,
                connect_seconds=CONNECT_SECONDS,
                statement_seconds=STATEMENT_SECONDS,
            )
            if self._adbc is None:
                connection.exec_driver_sql(READ_ONLY)

    def _stream_arrow(self, sql: str, edges: Bounds) -> Iterator[Chunk]:
        with self._adbc.cursor() as cursor:
            cursor.execute(self._with_settings(sql, edges))
            for batch in cursor.fetch_record_batch():
                for start in range(0, len(batch), base.CHUNK_ROWS):
                    part = batch.slice(start, base.CHUNK_ROWS)
                    yield {n: self._plain(n, part.column(n)) for n in part.schema.names}

    def _plain(self, name: str, column: pa.Array) -> Column:
        plain = plain_column(column, exact=name in self.problem.history.key)
        return plain if isinstance(plain, (pa.Array, pd.Series)) else typed_cells(plain)

    def _with_settings(self, sql: str, edges: Bounds | None = None) -> str:
        """Make the bound values settings of the transaction; returns the query that reads them."""
        bound = {**self.bound, **(edges or {})}
        with self._adbc.cursor() as cursor:
            for name, value in as_settings(bound).items():
                cursor.execute("select set_config($1, $2, true)", (name, value))
        return reading_settings(sql, bound)

    # ------------------------------------------------------------ connection and errors

    def _connect_args(self) -> dict[str, Any]:
        if self.backend == "postgresql":
            zone = self.problem.history.timezone
            return {
                "connect_timeout": CONNECT_SECONDS,
                "options": "-c default_transaction_read_only=on "
                f"-c statement_timeout={STATEMENT_SECONDS}s -c timezone={zone}",
            }
        return {"timeout": CONNECT_SECONDS} if self.backend == "sqlite" else {}

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Raise what drivers raise as our errors, with a next step."""
        try:
            yield
        except (AutomlError, GeneratorExit):
            raise
        except BaseException as error:
            if not from_driver(error):
                raise
            cause = None if self.problem.history.personal else error  # it may quote a cell
            raise self._failure(error) from cause

    def _failure(self, error: BaseException) -> AutomlError:
        original = error.orig if isinstance(error, sa.exc.DBAPIError) else None
        return Failure(
            problem=self.problem,
            error=original or error,
            user=self.url.username or "",
            seconds=STATEMENT_SECONDS,
            connected=self.connected,
        ).as_error()


def database_url(source: str, workspace: Workspace) -> sa.URL:
    """The URL of a source with its `${NAME}` references filled in; a file is absolute.

    Raises
    ------
    ProblemError, UnreachableError
        It is no URL; a variable is not set; there is no such file.
    """
    try:
        url = sa.make_url(with_driver(fill_references(source, "history.source")))
    except (sa.exc.ArgumentError, ValueError) as error:
        raise ProblemError(
            f"history.source: {redact(source)!r} is not a database URL",
            code="url",
            next_step="Write it as postgresql://user:${PASSWORD}@host/database or sqlite:///file.db.",
        ) from error
    backend = url.get_backend_name()
    if backend in ("sqlite", "duckdb") and url.database and url.database != ":memory:":
        path = (workspace.root / url.database).resolve()
        if not path.is_file():
            raise UnreachableError(
                f"history.source {source}: no file at {path}",
                code="source_unreachable",
                next_step="Build or copy the database there, then run the same command again.",
            )
        if backend == "duckdb":
            return url.set(database=str(path))
        url = url.set(database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    return url
