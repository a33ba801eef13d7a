"""What monitoring keeps: alerts, profiles of batches, the newest findings, and two tables that analysts query.

`<table>_performance` and `<table>_drift` stand next to the predictions; their columns are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from automl.errors import ProblemError
from automl.redaction import redact
from automl.store import tables as t
from automl.store.database import Database
from automl.store.rows import Hold, aware, naive, plain
from automl.workspace import now

__all__ = [
    "WATCHED_TABLES",
    "Alert",
    "Profile",
    "alert_sent",
    "check_watched_tables",
    "close_alert",
    "newest_watch",
    "open_alert",
    "open_alerts",
    "profiles",
    "rows_of",
    "write_profiles",
    "write_watch",
]

KEPT_ALERTS = 200  # recovered ones, of a problem
KEPT_PROFILES = 120  # batches, of a problem
Columns = tuple[tuple[str, sa.types.TypeEngine[Any], bool], ...]  # name, type, part of the key
_PERFORMANCE: Columns = (
    ("generation", t.Id, True),
    ("slice_column", sa.Text(), True),  # "" for all rows
    ("slice_value", sa.Text(), True),
    ("metric", sa.Text(), True),
    ("model_version", sa.Integer(), False),
    ("as_of", sa.DateTime(), False),
    ("until", sa.DateTime(), False),
    ("rows", sa.BigInteger(), False),
    ("labelled_rows", sa.BigInteger(), False),
    ("value", sa.Double(), False),
    ("low", sa.Double(), False),
    ("high", sa.Double(), False),
    ("expected", sa.Double(), False),
    ("promised", sa.Double(), False),
    ("promised_low", sa.Double(), False),
    ("promised_high", sa.Double(), False),
    ("state", sa.Text(), False),
    ("cause", sa.Text(), False),
    ("measured_at", sa.DateTime(), False),
)
_DRIFT: Columns = (
    ("window_start", sa.DateTime(), True),
    ("basis", sa.Text(), True),  # history | batches
    ("source", sa.Text(), True),  # inputs | predictions | labels
    ("column_name", sa.Text(), True),
    ("statistic", sa.Text(), True),  # mean | spread | missing | shares
    ("window_end", sa.DateTime(), False),
    ("as_of", sa.DateTime(), False),
    ("rows", sa.BigInteger(), False),
    ("value", sa.Double(), False),
    ("reference", sa.Double(), False),
    ("effect", sa.Double(), False),
    ("p_value", sa.Double(), False),
    ("past_blocks", sa.Integer(), False),
    ("state", sa.Text(), False),  # of the whole window: alarm | quiet | uncalibrated
    ("window_p_value", sa.Double(), False),
    ("measured_at", sa.DateTime(), False),
)
WATCHED_TABLES = {"performance": _PERFORMANCE, "drift": _DRIFT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that is wrong, from when it was found until it recovered."""

    id: int
    kind: str
    title: str
    text: str
    opened_at: datetime
    sent_at: datetime | None = None
    recovered_at: datetime | None = None

    @property
    def document(self) -> dict[str, str]:
        """As `--json` prints it."""
        since = f"{self.opened_at:%Y-%m-%dT%H:%M:%SZ}"
        return {"kind": self.kind, "title": self.title, "text": self.text, "since": since}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Measures of the rows of one batch, and of their predictions."""

    start: datetime
    end: datetime
    generation: int
    rows: int
    content: Mapping[str, Any]


# ---- alerts


def open_alerts(store: Database, problem: str) -> list[Alert]:
    """Alerts that have not recovered, oldest first."""
    c = t.alert.c
    query = sa.select(t.alert).where(c.problem == problem, c.recovered_at.is_(None))
    return [_alert(row) for row in store._all(query.order_by(c.id))]


def open_alert(
    store: Database, problem: str, kind: str, title: str, text: str
) -> tuple[Alert, bool]:
    """The open alert of that kind, and whether it is new; an older one keeps its first text."""
    title, text = redact(title)[:500], redact(text)[:4000]
    c = t.alert.c
    query = sa.select(t.alert).where(c.problem == problem, c.kind == kind, c.recovered_at.is_(None))
    with store.writer.begin() as connection:
        found = connection.execute(query).first()
        if found is not None:
            return _alert(found), False
        opened = naive(now())
        id_ = t.inserted(
            connection,
            t.alert.insert().values(
                problem=problem, kind=kind, title=title, text=text, opened_at=opened
            ),
        )
        _forget_recovered(connection, problem)
    return Alert(id=id_, kind=kind, title=title, text=text, opened_at=aware(opened)), True


def alert_sent(store: Database, alert: Alert) -> None:
    """At least one address took it."""
    with store.writer.begin() as connection:
        change = t.alert.update().where(t.alert.c.id == alert.id)
        connection.execute(change.values(sent_at=naive(now())))


def close_alert(store: Database, problem: str, kind: str) -> Alert | None:
    """The alert of that kind, which has recovered; None if none was open."""
    c = t.alert.c
    query = sa.select(t.alert).where(c.problem == problem, c.kind == kind, c.recovered_at.is_(None))
    if not store._all(query):  # readers need no write lock
        return None
    with store.writer.begin() as connection:
        found = connection.execute(query).first()
        if found is None:
            return None
        connection.execute(
            t.alert.update().where(c.id == found.id).values(recovered_at=naive(now()))
        )
    return _alert(found)


def _forget_recovered(connection: sa.Connection, problem: str) -> None:
    c = t.alert.c
    old = sa.select(c.id).where(c.problem == problem, c.recovered_at.is_not(None))
    old = old.order_by(c.id.desc()).offset(KEPT_ALERTS).limit(KEPT_ALERTS)
    ids = [row.id for row in connection.execute(old)]
    if ids:
        connection.execute(t.alert.delete().where(c.id.in_(ids)))


def _alert(row: sa.Row[Any]) -> Alert:
    return Alert(
        id=row.id,
        kind=row.kind,
        title=row.title,
        text=row.text,
        opened_at=aware(row.opened_at),
        sent_at=aware(row.sent_at) if row.sent_at else None,
        recovered_at=aware(row.recovered_at) if row.recovered_at else None,
    )


# ---- findings and profiles


def newest_watch(store: Database, problem: str) -> tuple[datetime, Mapping[str, Any]] | None:
    """as_of and document of the newest monitoring; None without any."""
    rows = store._all(sa.select(t.watch).where(t.watch.c.problem == problem))
    return (aware(rows[0].as_of), rows[0].document) if rows else None


def profiles(store: Database, problem: str, *, before: datetime | None = None) -> list[Profile]:
    """The newest profiles, oldest first; of batches that start before a moment, if given."""
    c = t.profile.c
    query = sa.select(t.profile).where(c.problem == problem)
    if before is not None:
        query = query.where(c.start < naive(before))
    rows = store._all(query.order_by(c.start.desc()).limit(KEPT_PROFILES))
    return [
        Profile(
            start=aware(row.start),
            end=aware(row.end),
            generation=row.generation,
            rows=row.rows,
            content=row.content,
        )
        for row in reversed(rows)
    ]


def write_profiles(store: Database, hold: Hold, problem: str, made: Sequence[Profile]) -> None:
    """Keep these profiles, in place of older ones of the same batches; the oldest of all are forgotten."""
    c = t.profile.c
    with store.commit(hold) as connection:
        for profile in made:
            connection.execute(
                t.profile.delete().where(c.problem == problem, c.start == naive(profile.start))
            )
            connection.execute(
                t.profile.insert().values(
                    problem=problem,
                    start=naive(profile.start),
                    end=naive(profile.end),
                    generation=profile.generation,
                    rows=profile.rows,
                    content=plain(profile.content),
                )
            )
        query = sa.select(c.start).where(c.problem == problem).order_by(c.start.desc())
        starts = [row.start for row in connection.execute(query.offset(KEPT_PROFILES))]
        if starts:
            connection.execute(t.profile.delete().where(c.problem == problem, c.start.in_(starts)))


# ---- tables next to the predictions


def check_watched_tables(store: Database, table: str) -> None:
    """Refuse to write into tables that were not made here.

    Raises
    ------
    ProblemError
        `<table>_performance` or `<table>_drift` is a view, or has other columns.
    """
    inspector = sa.inspect(store.engine)
    views = inspector.get_view_names()
    for kind, columns in WATCHED_TABLES.items():
        name = f"{table}_{kind}"
        ours = {n for n, _, _ in columns} | {"measured_at"}
        tables = inspector.has_table(name) and name not in views
        found = {c["name"] for c in inspector.get_columns(name)} if tables else ours
        if name in views or found != ours:
            raise ProblemError(
                f"publish.table {table!r}: {name!r} exists and was not created by automl",
                code="table_owner",
                next_step="Choose another publish.table; automl never drops a table.",
            )


def write_watch(
    store: Database,
    hold: Hold,
    table: str,
    *,
    as_of: datetime,
    document: Mapping[str, Any],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Write findings and the rows of both tables, in one transaction; a later run replaces equal keys.

    `rows` holds those of "performance" and "drift".
    """
    moment, key = naive(now()), t.watch.c.problem == hold.problem
    with store.commit(hold) as connection:
        for kind, columns in WATCHED_TABLES.items():
            written = _table(f"{table}_{kind}", columns)
            written.create(connection, checkfirst=True)
            for row in rows[kind]:
                values = {**_stored(row), "measured_at": moment}
                keys = [written.c[name] == values[name] for name, _, is_key in columns if is_key]
                connection.execute(written.delete().where(*keys))
                connection.execute(written.insert().values(**values))
        connection.execute(t.watch.delete().where(key))
        connection.execute(
            t.watch.insert().values(
                problem=hold.problem,
                as_of=naive(as_of),
                document=plain(document),
                watched_at=moment,
            )
        )


def rows_of(
    store: Database, table: str, kind: str, generations: Sequence[int]
) -> list[dict[str, Any]]:
    """Rows of `<table>_performance` of these generations; none before the table was made."""
    name = f"{table}_{kind}"
    if not generations or not sa.inspect(store.engine).has_table(name):
        return []
    read = _table(name, WATCHED_TABLES[kind])
    found = store._all(sa.select(read).where(read.c.generation.in_(list(generations))))
    return [dict(row._mapping) for row in found]


def _table(name: str, columns: Sequence[tuple[str, Any, bool]]) -> sa.Table:
    made = [
        sa.Column(n, kind, primary_key=key, autoincrement=False, nullable=not key)
        for n, kind, key in columns
    ]
    return sa.Table(name, sa.MetaData(), *made)


def _stored(row: Mapping[str, Any]) -> dict[str, Any]:
    """Times without zone, and no number that is not finite: PostgreSQL and SQLite store NaN differently."""
    return {
        name: naive(value)
        if isinstance(value, datetime)
        else None
        if isinstance(value, float) and not (abs(value) < float("inf"))
        else value
        for name, value in row.items()
    }
