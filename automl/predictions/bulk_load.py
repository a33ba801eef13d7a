"""Fast writing of rows to a database, and fast reading of columns.

PostgreSQL gets CSV from Arrow through COPY, SQLite gets tuples, any other database SQLAlchemy's inserts;
always inside the caller's transaction.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import sqlalchemy as sa

__all__ = ["read_rows", "read_slices", "write_rows"]

ROWS_AT_ONCE = 20_000  # tuples, or rows of a CSV text, in memory at a time
_ROWID: sa.ColumnElement[int] = sa.literal_column("rowid", sa.Integer)
_CSV = pa.csv.WriteOptions(include_header=False, batch_size=ROWS_AT_ONCE)


def write_rows(
    connection: sa.Connection, table: sa.Table, frame: pd.DataFrame, stamps: Mapping[str, Any]
) -> None:
    """Insert rows; every row gets the same stamps.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        The database refuses a row.
    """
    if not len(frame):
        return
    rows = _arrow(table, frame, stamps)
    # in key order: an index grows three times as fast at its end as in its middle
    order = [(c.name, "ascending") for c in table.primary_key if c.name not in stamps]
    rows = rows.sort_by(order) if order else rows
    if connection.dialect.driver == "psycopg":
        _copy(connection, table, rows)
    elif connection.dialect.name == "sqlite":
        _insert_tuples(connection, table, _with_written_times(rows))
    else:
        for part in rows.to_batches(ROWS_AT_ONCE):
            connection.execute(table.insert(), part.to_pylist())


def read_rows(
    connection: sa.Connection,
    table: sa.Table,
    columns: Sequence[sa.ColumnElement[Any]],
    generation: int,
) -> Iterator[pd.DataFrame]:
    """Columns of a committed generation, in pieces, in any order."""
    query = sa.select(*columns).where(*_rows_of(connection, table, generation))
    if connection.dialect.name == "postgresql":
        fetched = _fetch_arrow(connection, query)
        if fetched is not None:
            yield fetched.to_pandas()
            return
    for part in _tuples(connection, query):
        yield _frame(query, part)


def read_slices(
    engine: sa.Engine,
    table: sa.Table,
    columns: Sequence[sa.ColumnElement[Any]],
    generation: int,
    rows: int,
) -> Iterator[pd.DataFrame]:
    """Columns of a committed generation, `rows` at a time.

    In key order; in SQLite in the order of writing, which is the same for all tables of a generation.
    In SQLite every slice is a separate read, because the write-ahead log grows during a long one.
    """
    query = sa.select(*columns)
    if engine.dialect.name != "sqlite":
        order = [c for c in table.primary_key if c.name != "generation"]
        query = query.where(table.c.generation == generation).order_by(*order)
        with engine.connect().execution_options(stream_results=True) as connection:
            for part in connection.execute(query).partitions(rows):
                yield _frame(query, part)
        return
    with engine.connect() as connection:
        first, last = _rowid_range(connection, table, generation)
    of_generation = table.c.generation + 0 == generation
    for start in range(first, last + 1, rows):
        in_slice = _ROWID.between(start, min(start + rows - 1, last))
        with engine.connect() as connection:
            found = list(
                chain(*_tuples(connection, query.where(in_slice, of_generation).order_by(_ROWID)))
            )
        if found:
            yield _frame(query, found)


def _frame(query: sa.Select[Any], rows: Sequence[Any]) -> pd.DataFrame:
    """Rows as a frame with the types of their columns."""
    types = {c.name: _pandas(c.type) for c in query.selected_columns}
    cells = zip(types.items(), zip(*rows, strict=True), strict=True)
    return pd.DataFrame({name: pd.Series(values, dtype=kind) for (name, kind), values in cells})


def _rows_of(
    connection: sa.Connection, table: sa.Table, generation: int
) -> list[sa.ColumnElement[bool]]:
    """Condition for the rows of a generation; in SQLite their range of rowids, for they are contiguous.

    The index of the primary key would look up every row in key order, which is four times slower.
    """
    if connection.dialect.name != "sqlite":
        return [table.c.generation == generation]
    first, last = _rowid_range(connection, table, generation)
    return [_ROWID.between(first, last), table.c.generation + 0 == generation]


def _rowid_range(connection: sa.Connection, table: sa.Table, generation: int) -> tuple[int, int]:
    """First and last rowid of a generation in SQLite."""
    first, last = connection.execute(
        sa.select(sa.func.min(_ROWID), sa.func.max(_ROWID))
        .select_from(table)
        .where(table.c.generation == generation)
    ).one()
    return first or 0, last or 0


def _tuples(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Sequence[Any]]:
    if connection.dialect.name != "sqlite":
        yield from (
            connection.execution_options(stream_results=True)
            .execute(query)
            .partitions(ROWS_AT_ONCE * 5)
        )
        return
    text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
    cursor = connection.connection.cursor()
    cursor.execute(text)
    while part := cursor.fetchmany(ROWS_AT_ONCE):
        yield part


def _arrow(table: sa.Table, frame: pd.DataFrame, stamps: Mapping[str, Any]) -> pa.Table:
    """The rows in the types of the table; NaN becomes null."""
    cells = {}
    for column in table.columns:
        kind = _arrow_type(column.type)
        if column.name in stamps:
            cells[column.name] = pa.repeat(pa.scalar(stamps[column.name], kind), len(frame))
            continue
        values = frame[column.name]
        if kind == pa.string() and not pd.api.types.is_string_dtype(values):
            values = values.astype("object").map(str, na_action="ignore")
        cells[column.name] = pa.Array.from_pandas(values, type=kind, safe=False)
    return pa.table(cells)


def _copy(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    names = ", ".join(map(connection.dialect.identifier_preparer.quote, rows.column_names))
    target = connection.dialect.identifier_preparer.format_table(table)
    command = f"copy {target} ({names}) from stdin with (format csv, encoding 'UTF8')"
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(command) as copy:
            for start in range(0, len(rows), ROWS_AT_ONCE):
                text = io.BytesIO()
                pa.csv.write_csv(rows.slice(start, ROWS_AT_ONCE), text, _CSV)
                copy.write(text.getbuffer())
    except connection.dialect.loaded_dbapi.Error as error:
        raise _sqlalchemy_error(connection, command, error) from error


def _insert_tuples(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    quote = connection.dialect.identifier_preparer.quote
    names = ", ".join(map(quote, rows.column_names))
    literals = {name: _constant(rows[name]) for name in rows.column_names}
    marks = ", ".join("?" if text is None else text for text in literals.values())
    target = connection.dialect.identifier_preparer.format_table(table)
    insert = f"insert into {target} ({names}) values ({marks})"  # noqa: S608  quoted
    varying = rows.select([name for name, text in literals.items() if text is None])
    for start in range(0, len(rows), ROWS_AT_ONCE):
        cells = map(_cells, varying.slice(start, ROWS_AT_ONCE).columns)
        connection.exec_driver_sql(insert, list(zip(*cells, strict=True)))


def _with_written_times(rows: pa.Table) -> pa.Table:
    """Times as text, as SQLite stores them."""
    for number, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            written = rows[field.name].cast(pa.string())
            rows = rows.set_column(number, field.name, written)
    return rows


def _constant(column: pa.ChunkedArray) -> str | None:
    """SQL literal of a column's only value, so that it is not bound for every row; None if values differ."""
    if column.null_count == len(column):
        return "null"
    if column.null_count or len(pc.unique(column)) > 1 or not pa.types.is_string(column.type):
        return None
    text: str = column[0].as_py()
    return None if "\0" in text else "'" + text.replace("'", "''") + "'"


def _cells(column: pa.ChunkedArray) -> Any:
    """Python values as SQLite stores them."""
    if column.null_count or pa.types.is_string(column.type):
        return column.to_pylist()
    return np.asarray(column.to_numpy()).tolist()


def _fetch_arrow(connection: sa.Connection, query: sa.Select[Any]) -> pa.Table | None:
    """Fetch a query's result over ADBC, ten times as fast as row by row; None without ADBC."""
    try:
        import adbc_driver_postgresql.dbapi as fast  # noqa: PLC0415  optional
    except ImportError:
        return None
    url = connection.engine.url.set(drivername="postgresql")
    text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
    try:
        with (
            fast.connect(url.render_as_string(hide_password=False)) as own,
            own.cursor() as cursor,
        ):
            cursor.execute(text)
            return cursor.fetch_arrow_table()
    except fast.Error:  # ADBC supports fewer ways to connect than psycopg
        return None


def _sqlalchemy_error(connection: sa.Connection, command: str, error: Exception) -> BaseException:
    """A driver's error as SQLAlchemy would raise it, without rows."""
    base = connection.dialect.loaded_dbapi.Error
    return sa.exc.DBAPIError.instance(
        command, (), error, base, hide_parameters=True, dialect=connection.dialect
    )


def _arrow_type(kind: sa.types.TypeEngine[Any]) -> pa.DataType:
    if isinstance(kind, sa.Integer):
        return pa.int64()
    if isinstance(kind, sa.DateTime):
        return pa.timestamp("us")
    return pa.float64() if isinstance(kind, sa.Numeric) else pa.string()


def _pandas(kind: sa.types.TypeEngine[Any]) -> str:
    names = {pa.int64(): "int64", pa.float64(): "float64", pa.string(): "str"}
    return names.get(_arrow_type(kind), "datetime64[us]")
