"""SQLite: whatever a column holds as a time, a query finds the rows of its window, or is refused."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from automl.errors import HistoryError
from automl.history import ColumnKinds, pull, pull_batch, read
from automl.history.sources.parameters import uses
from automl.problem import Problem, load_problem
from automl.workspace import open_workspace

HOUR = timedelta(hours=1)
START = datetime(2026, 2, 25, tzinfo=UTC)
KINDS: ColumnKinds = {"id": "whole", "ts": "time", "late": "whole", "size": "number"}
ZONES = ("UTC", "Europe/Berlin", "America/New_York")
# as_of at and off the local midnight of UTC and Berlin, and within a second
MOMENTS = [
    datetime(2026, 3, 2, tzinfo=UTC),
    datetime(2026, 3, 1, 23, tzinfo=UTC),
    datetime(2026, 3, 2, 5, 30, tzinfo=UTC),
]


def julian(moment: datetime) -> float:
    return (moment.timestamp() * 1000 + 210_866_760_000_000) / 86_400_000


def local(form: str) -> Callable[[datetime, ZoneInfo], str]:
    return lambda moment, zone: moment.astimezone(zone).strftime(form)


SPELLINGS: dict[str, Callable[[datetime, ZoneInfo], object]] = {
    "space": local("%Y-%m-%d %H:%M:%S"),
    "T": local("%Y-%m-%dT%H:%M:%S"),
    "minutes": local("%Y-%m-%d %H:%M"),
    "T minutes": local("%Y-%m-%dT%H:%M"),
    "millis": lambda m, z: m.astimezone(z).replace(tzinfo=None).isoformat(" ", "milliseconds"),
    "T micros": lambda m, z: m.astimezone(z).replace(tzinfo=None).isoformat("T", "microseconds"),
    "Z": lambda m, _: m.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "millis Z": lambda m, _: m.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    "offset": lambda m, z: m.astimezone(z).isoformat(),
    "other offset": lambda m, _: m.astimezone(ZoneInfo("Asia/Kolkata")).isoformat(" "),
    "spaced offset": lambda m, z: (
        m.astimezone(z).strftime("%Y-%m-%d %H:%M:%S ") + "+01:00"
        if z.key == "Europe/Berlin"
        else m.strftime("%Y-%m-%d %H:%M:%S +00:00")
    ),
    "seconds": lambda m, _: int(m.timestamp()),
    "real seconds": lambda m, _: m.timestamp(),
    "milliseconds": lambda m, _: int(m.timestamp() * 1000),
    "microseconds": lambda m, _: int(m.timestamp() * 10**6),
    "nanoseconds": lambda m, _: int(m.timestamp()) * 10**9,
    "julian day": lambda m, _: julian(m),
    "digits": lambda m, _: str(int(m.timestamp())),
    "slashes": local("%Y/%m/%d %H:%M:%S"),
    "compact": local("%Y%m%dT%H%M%S"),
    "a space in front": local(" %Y-%m-%d %H:%M"),
}
MIXED = ("space", "T", "Z", "other offset", "seconds", "milliseconds", "julian day")
SPELLINGS["mixed"] = lambda m, z: SPELLINGS[MIXED[int(m.timestamp() // 3600) % len(MIXED)]](m, z)
SPELLINGS["mixed texts"] = lambda m, z: SPELLINGS[MIXED[int(m.timestamp() // 3600) % 4]](m, z)

BOUNDED = {  # of a history, and of a batch
    "none": ("select * from visits", "select * from visits"),
    "plain": (
        "select * from visits where ts < :as_of",
        "select * from visits where ts >= :as_of and ts < :until",
    ),
    "between, reversed, quoted": (
        'select v.* from visits as v where :as_of > v."ts" -- before :as_of',
        'select v.* from visits as v where v."ts" between :as_of and :until',
    ),
}
FUNCTIONS = {
    "datetime": (
        "select * from visits where ts < datetime(:as_of)",
        "select * from visits where ts >= datetime(:as_of) and ts < datetime(:until)",
    ),
    "lookback": (
        "select * from visits where ts >= date(:as_of, '-30 days') and ts <= :as_of",
        "select * from visits where ts >= :as_of and ts < datetime(:until, '+1 day')",
    ),
    "cte": (
        "with p as (select :as_of as a) select visits.* from visits, p where ts < p.a",
        """with p as (select :as_of as a, :until as u)
        select visits.* from visits, p where ts >= p.a and ts < p.u""",
    ),
}

OF_COLUMN = {  # functions of the column, which SQLite converts to UTC, rounds, or makes null
    "datetime": (
        "select * from visits where datetime(ts) < datetime(:as_of)",
        "select * from visits where datetime(ts) >= :as_of and datetime(ts) < datetime(:until)",
    ),
    "days": (
        "select * from visits v where date(v.ts) < date(:as_of)",
        "select * from visits where ts >= date(:as_of) and ts < date(:until)",
    ),
    "numbers": (
        "select * from visits where datetime(ts, 'unixepoch') < :as_of",
        "select * from visits where ts >= unixepoch(:as_of) and ts < unixepoch(:until)",
    ),
    "renamed": (
        "select id, at as ts, late, size from (select *, ts as at from visits) where datetime(at) < :as_of",
        "select * from visits where date(ts) >= date(:as_of) and strftime('%s', ts) < strftime('%s', :until)",
    ),
}


def source(
    folder: Path, spelling: str, queries: tuple[str, str], zone: str, column: str = ""
) -> Problem:
    with sqlite3.connect(folder / "rows.db") as connection:
        connection.execute("drop table if exists visits")
        connection.execute(f"create table visits (id integer, ts {column}, late, size)")
        write = SPELLINGS[spelling]
        rows = [
            (i, write(START + i * HOUR, ZoneInfo(zone)), i % 3 % 2, i % 7) for i in range(24 * 9)
        ]
        connection.executemany("insert into visits values (?, ?, ?, ?)", rows)
    connection.close()
    (folder / "problem.toml").write_text(
        f"""
        name = "visits"
        task = "binary"
        [history]
        source = "sqlite:///rows.db"
        query = \"\"\"{queries[0]}\n\"\"\"
        time = "ts"
        timezone = "{zone}"
        key = ["id"]
        target = "late"
        [batch]
        query = \"\"\"{queries[1]}\n\"\"\"
        horizon = "1d"
        [metric]
        name = "roc_auc"
        [sweep]
        trials = 1
        [validation]
        block = "1d"
        """,
        encoding="utf-8",
    )
    return load_problem(folder / "problem.toml")


def found(problem: Problem, as_of: datetime) -> tuple[list[int], list[int]]:
    """Ids of the history and of the batch."""
    workspace = open_workspace(problem.file)
    history = pull(problem, workspace, as_of, kinds=KINDS)
    batch = pull_batch(problem, workspace, as_of, kinds=KINDS)
    return read(history)["id"].tolist(), read(batch)["id"].tolist()


def outcome(problem: Problem, as_of: datetime) -> tuple[list[int], list[int]] | str:
    """What `found` returns, or the code of the error that refuses the query."""
    try:
        return found(problem, as_of)
    except HistoryError as error:
        return error.code


def wanted(problem: Problem, as_of: datetime) -> tuple[list[int], list[int]]:
    """The same by hand."""
    times = {i: START + i * HOUR for i in range(24 * 9)}
    until = problem.until(as_of)
    return (
        [i for i, t in times.items() if t < as_of],
        [i for i, t in times.items() if as_of <= t < until],
    )


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_query_finds_the_rows_that_a_reader_of_all_rows_picks(
    tmp_path: Path, spelling: str
) -> None:
    turn = list(SPELLINGS).index(spelling)  # each form meets some zone, moment and query
    for number, name in enumerate(BOUNDED):
        zone, as_of = ZONES[(number + turn) % 3], MOMENTS[(number + turn // 3) % 3]
        problem = source(tmp_path, spelling, BOUNDED[name], zone)
        assert found(problem, as_of) == wanted(problem, as_of), (name, zone, as_of)


@pytest.mark.parametrize("column", ["text", "timestamp", "integer", "real"])
@pytest.mark.parametrize("spelling", ["T", "Z", "seconds", "julian day"])
def test_the_type_of_a_column_changes_nothing(tmp_path: Path, spelling: str, column: str) -> None:
    as_of = MOMENTS[2]
    problem = source(tmp_path, spelling, BOUNDED["plain"], "Europe/Berlin", column)
    assert found(problem, as_of) == wanted(problem, as_of)


@pytest.mark.parametrize("day", [1, 2])
@pytest.mark.parametrize("hour", [0, 6])
def test_days_are_times_at_midnight(tmp_path: Path, day: int, hour: int) -> None:
    problem = source(tmp_path, "space", BOUNDED["plain"], "Europe/Berlin")
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("delete from visits where ts not like '% 00:00:00'")
        connection.execute("update visits set ts = substr(ts, 1, 10)")
    connection.close()
    as_of = datetime(2026, 3, day, hour, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    days = {i: START + i * HOUR for i in range(23, 24 * 9, 24)}
    history, batch = found(problem, as_of)
    assert history == [i for i, t in days.items() if t < as_of]
    assert batch == [i for i, t in days.items() if as_of <= t < as_of + 24 * HOUR]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("spelling", ["space", "T", "Z", "other offset", "seconds", "mixed texts"])
def test_a_bound_in_a_function_finds_all_rows_or_is_refused(
    tmp_path: Path, spelling: str, name: str
) -> None:
    for zone, as_of in (("Europe/Berlin", MOMENTS[2]), ("America/New_York", MOMENTS[0])):
        problem = source(tmp_path, spelling, FUNCTIONS[name], zone)
        assert outcome(problem, as_of) in (
            wanted(problem, as_of),
            *(() if spelling == "space" else ("query_bounds", "empty_batch", "no_history")),
        )


@pytest.mark.parametrize("name", OF_COLUMN)
@pytest.mark.parametrize("spelling", ["space", "Z", "seconds", "mixed"])
def test_a_function_of_the_column_finds_all_rows_or_is_refused(
    tmp_path: Path, spelling: str, name: str
) -> None:
    for zone, as_of in (("Europe/Berlin", MOMENTS[2]), ("America/New_York", MOMENTS[0])):
        problem = source(tmp_path, spelling, OF_COLUMN[name], zone)
        assert outcome(problem, as_of) in (wanted(problem, as_of), "query_bounds")
    if spelling == "space" and name != "numbers":  # at the local midnight days are whole
        problem = source(tmp_path, spelling, OF_COLUMN[name], "Europe/Berlin")
        assert found(problem, MOMENTS[1]) == wanted(problem, MOMENTS[1])


def test_another_column_in_a_function_may_leave_rows_out(tmp_path: Path) -> None:
    query = "select * from visits where ts < :as_of and datetime(known) < datetime(:as_of)"
    problem = source(tmp_path, "space", (query, BOUNDED["plain"][1]), "Europe/Berlin")
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("alter table visits add column known text")
        connection.execute("update visits set known = datetime(ts, '+2 hours')")
    connection.close()
    assert found(problem, MOMENTS[2])[0] == wanted(problem, MOMENTS[2] - 2 * HOUR)[0]


def test_a_query_that_leaves_rows_out_says_which(tmp_path: Path) -> None:
    problem = source(tmp_path, "T", FUNCTIONS["cte"], "Europe/Berlin")
    message = (
        "history.query: leaves out 7 rows of the window, with ts from 2026-03-01 23:00 to 2026-03-02 05:00 UTC; "
        "ts holds values such as '2026-02-27T00:00:00', which the query compares with a bound in another form or rounds"
    )
    with pytest.raises(HistoryError, match=re.escape(message)):
        pull(problem, open_workspace(problem.file), MOMENTS[2], kinds=KINDS)


def test_another_column_may_be_written_in_another_way(tmp_path: Path) -> None:
    """Rows that became known after as_of stay out, however either column is written."""
    query = "select * from visits where ts < :as_of and known < :as_of"
    problem = source(tmp_path, "T", (query, BOUNDED["plain"][1]), "Europe/Berlin")
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("alter table visits add column known integer")
        connection.execute("update visits set known = strftime('%s', ts, '-1 hour') + 7200")
    connection.close()
    history, batch = found(problem, MOMENTS[2])
    assert history == wanted(problem, MOMENTS[2] - 2 * HOUR)[0]
    assert batch == wanted(problem, MOMENTS[2])[1]


def test_rows_that_came_since_are_found_in_every_spelling(tmp_path: Path) -> None:
    for spelling in (
        "T",
        "other offset",
        "seconds",
        "julian day",
        "mixed",
        "digits",
        "slashes",
        "compact",
    ):
        problem = source(tmp_path, spelling, BOUNDED["plain"], "Europe/Berlin")
        workspace = open_workspace(problem.file)
        pull(problem, workspace, MOMENTS[1], kinds=KINDS)
        with sqlite3.connect(tmp_path / "rows.db") as connection:
            connection.execute("delete from visits where id < 50")  # far back: not looked at again
        connection.close()
        snapshot = pull(problem, workspace, MOMENTS[2], kinds=KINDS)
        assert read(snapshot)["id"].tolist()[-24:] == wanted(problem, MOMENTS[2])[0][-24:]
        assert not [w for w in snapshot.warnings if "later than the overlap" in w]


@pytest.mark.parametrize(
    ("query", "operand", "bare"),
    [
        ("select * from t where a.ts >= :as_of", "a.ts", True),
        ('select * from t where :as_of > "odd name"', '"odd name"', True),
        ("select * from t where ts between '2020' and :as_of", "ts", True),
        ("select * from t where ts not between :as_of and 3", "ts", True),
        ("select * from t where lower(ts) < :as_of", "lower(ts)", True),
        ("select * from t where ts < date(:as_of, 'utc')", "ts", False),
        ("select * from t where ts + 5 < :as_of", "", False),
        ("select * from t where x = 'a < :b' and ts < :as_of", "ts", True),
        ("select * from t where ts in (:as_of)", "", False),
        ("select :as_of as a", "", False),
        ("select x::int from t where ts < :as_of::date", "ts", True),
    ],
)
def test_what_a_bound_is_compared_with(query: str, operand: str, bare: bool) -> None:
    (use,) = uses(query)
    assert (use.operand, use.bare) == (operand, bare)
