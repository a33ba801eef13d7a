"""Local times that a clock change repeats or skips are read as PostgreSQL reads them, and no row is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa

from automl.errors import HistoryError
from automl.history import Snapshot, continuation, read
from automl.history.rows.casting import Cast, as_kind, as_times
from automl.history.rows.kinds import Column
from automl.history.rows.local_time import AMBIGUOUS, SKIPPED, local_bound
from automl.history.storage.snapshots import Folders, pulls
from automl.problem import Problem, Span
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF
from tests.support.postgres import PostgresServer
from tests.support.postgres import postgres as postgres
from tests.support.table_sources import DAY, KINDS, SOURCES, Rows, Source, parcel, parcels
from tests.support.table_sources import table as table

HOUR = timedelta(hours=1)
CHANGES = [  # a zone, and a moment (UTC) at which its clocks change
    ("Europe/Berlin", "2026-03-29 01:00"),
    ("Europe/Berlin", "2026-10-25 01:00"),
    ("Europe/Berlin", "2054-10-25 01:00"),  # Arrow knows no clock change after 2037
    ("Europe/Dublin", "2026-10-25 01:00"),  # winter time is its daylight saving time
    ("America/New_York", "2026-11-01 06:00"),
    ("America/St_Johns", "1988-04-03 03:31"),  # two hours, from one minute past midnight
    ("America/Havana", "2026-11-01 05:00"),  # midnight comes twice
    ("America/Santiago", "2026-09-06 04:00"),  # midnight is skipped
    ("Australia/Lord_Howe", "2026-04-04 15:00"),  # half an hour
    ("Australia/Lord_Howe", "2026-10-03 15:30"),
    ("Australia/Sydney", "2026-04-04 16:00"),
    ("Asia/Kolkata", "1941-09-30 18:30"),  # half an hour away from UTC
    ("Antarctica/Troll", "2026-03-29 01:00"),  # two hours
    ("Europe/Moscow", "2014-10-25 22:00"),  # standard time on both sides
    ("Pacific/Apia", "2011-12-30 10:00"),  # a whole day
]
BERLIN = "Europe/Berlin"
at = datetime.fromisoformat
BACK = datetime(2026, 10, 25, 1, tzinfo=UTC)  # when Berlin's clocks go back


def walls(change: str, zone: str) -> list[datetime]:
    """Local times of some hours around a change, and seconds at its edges."""
    moment = at(change)
    offsets = [moment_offset(moment + way * timedelta(seconds=1), zone) for way in (-1, 1)]
    edges = [moment + offset for offset in offsets]
    low, high = min(edges), max(edges)
    steps = range(0, int((high - low).total_seconds() // 60) + 240, 15)
    around = [low - 2 * HOUR + timedelta(minutes=step) for step in steps]
    close = [edge + way for edge in edges for way in (-timedelta(seconds=1), timedelta(0))]
    return sorted({*around, *close})


def moment_offset(moment: datetime, zone: str) -> timedelta:
    offset = moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).utcoffset()
    assert offset is not None
    return offset


def expected(wall: datetime, zone: str) -> tuple[datetime, str]:
    """UTC of a local time by the standard library alone, and what a clock change does to it."""
    readings = [
        wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC).replace(tzinfo=None)
        for fold in (0, 1)
    ]
    if readings[0] == readings[1]:
        return readings[0], ""
    if readings[0] < readings[1]:
        return readings[1], AMBIGUOUS  # twice: the second
    return readings[0], SKIPPED  # never: as if the clock had not changed


FORMS: dict[str, Callable[[list[datetime]], Column]] = {
    "arrow": lambda local: pa.array(local, pa.timestamp("us")),
    "arrow of nanoseconds": lambda local: pa.array(local, pa.timestamp("ns")),
    "arrow texts": lambda local: pa.array([str(wall) for wall in local]),
    "texts": lambda local: pd.Series([wall.isoformat() for wall in local], dtype="object"),
    "datetimes": lambda local: pd.Series(local, dtype="object"),
    "datetime64": lambda local: pd.Series(local).astype("datetime64[us]"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_local_times_follow_the_rule_in_every_form(zone: str, change: str, form: str) -> None:
    local = walls(change, zone)
    cast = as_times(FORMS[form](local), zone)
    wanted = [expected(wall, zone) for wall in local]
    assert cast.cells.to_pylist() == [utc for utc, _ in wanted]
    assert not cast.bad.any()
    assert dict(cast.corrections) == Counter(what for _, what in wanted if what)
    assert cast.corrections  # each of these changes repeats or skips some


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_an_offset_decides_where_there_is_one(zone: str, change: str) -> None:
    local = walls(change, zone)
    moments = [expected(wall, zone)[0].replace(tzinfo=UTC) for wall in local]
    texts = [
        moment.astimezone(ZoneInfo(zone)).isoformat() if i % 2 else wall.isoformat()
        for i, (wall, moment) in enumerate(zip(local, moments, strict=True))
    ]
    cast = as_times(pa.array(texts), zone)
    assert cast.cells.to_pylist() == [moment.replace(tzinfo=None) for moment in moments]
    naive = Counter(expected(wall, zone)[1] for wall in local[::2])
    assert dict(cast.corrections) == {what: count for what, count in naive.items() if what}
    typed = as_times(pa.array(moments, pa.timestamp("us", zone)), zone)
    assert (typed.cells, typed.corrections) == (cast.cells, ())


def test_a_first_pass_that_names_its_offset_is_the_first() -> None:
    local = as_times(pa.array(["2026-10-25 02:30+02:00", "2026-10-25 02:30"]), BERLIN)
    assert local.cells.to_pylist() == [at("2026-10-25 00:30"), at("2026-10-25 01:30")]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("form", ["arrow", "arrow texts", "datetimes"])
def test_a_time_is_converted_independently_of_other_rows(form: str, size: int) -> None:
    local = walls("2026-10-25 01:00", BERLIN)
    whole = as_times(FORMS[form](local), BERLIN)
    casts = [as_times(FORMS[form](local[i : i + size]), BERLIN) for i in range(0, len(local), size)]
    assert pa.concat_arrays([cast.cells for cast in casts]) == whole.cells
    counts: Counter[str] = Counter()
    for cast in casts:
        counts.update(dict(cast.corrections))
    assert counts == Counter(dict(whole.corrections))


def test_an_unreadable_time_stays_bad_in_a_column_with_a_repeated_time() -> None:
    cast = as_times(pa.array(["2026-10-25 02:30", "soon", None]), BERLIN)
    assert cast.cells.to_pylist() == [at("2026-10-25 01:30"), None, None]
    assert cast.bad.tolist() == [False, True, False]
    assert cast.corrections == ((AMBIGUOUS, 1),)


@pytest.mark.parametrize("zone", ["UTC", BERLIN, "America/New_York", "Pacific/Apia"])
@pytest.mark.parametrize("form", ["arrow", "arrow texts", "datetimes"])
def test_placeholder_dates_are_missing_in_every_zone(form: str, zone: str) -> None:
    local = [at("0001-01-01"), at("9999-12-31"), at("9999-12-31 23:59:59")]
    cast: Cast = as_kind(FORMS[form](local), "time", zone)
    assert cast.cells.null_count == 3
    assert cast.corrections == (("no_date", 3),)


def test_postgresql_reads_local_times_the_same_way(postgres: PostgresServer) -> None:
    engine = sa.create_engine(postgres.new_database(), poolclass=sa.NullPool)
    query = sa.text(
        "select x::timestamptz at time zone 'UTC' from unnest(cast(:local as timestamp[])) "
        "with ordinality as rows(x, n) order by n"
    )
    with engine.connect() as connection:
        for zone, change in CHANGES:
            local = walls(change, zone)
            connection.execute(sa.text(f"set time zone '{zone}'"))
            found = [row[0] for row in connection.execute(query, {"local": local})]
            assert as_times(pa.array(local, pa.timestamp("us")), zone).cells.to_pylist() == found


# ---------------------------------------------------------------- bounds of queries


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_bounds_leave_out_no_row_of_a_window(zone: str, change: str) -> None:
    moment = at(change)
    written = [(expected(wall, zone)[0], wall) for wall in walls(change, zone)]
    moments = [moment + timedelta(minutes=m) for m in range(-26 * 60, 26 * 60, 15)]
    written += [(utc, utc + moment_offset(utc, zone)) for utc in moments]
    for edge in moments[4:-4]:
        given = edge.replace(tzinfo=UTC)
        low, high = (local_bound(given, zone, upper=upper) for upper in (False, True))
        assert low <= min(wall for utc, wall in written if utc >= edge)
        assert high > max(wall for utc, wall in written if utc < edge)


@pytest.mark.parametrize(("zone", "change"), CHANGES)
@pytest.mark.parametrize("days", [-30, -2, 2, 30])
def test_far_from_a_clock_change_a_bound_is_the_local_time(
    zone: str, change: str, days: int
) -> None:
    edge = at(change) + days * DAY
    local = pd.Timestamp(edge + moment_offset(edge, zone))
    for upper in (False, True):
        assert local_bound(edge.replace(tzinfo=UTC), zone, upper=upper) == local


@pytest.mark.parametrize(
    ("utc", "lower", "upper"),
    [
        ("2026-10-24 23:45", "2026-10-25 01:45", "2026-10-25 01:45"),
        ("2026-10-25 00:00", "2026-10-25 02:00", "2026-10-25 02:00"),
        ("2026-10-25 00:30", "2026-10-25 02:00", "2026-10-25 02:30"),
        ("2026-10-25 01:00", "2026-10-25 02:00", "2026-10-25 03:00"),
        ("2026-10-25 01:30", "2026-10-25 02:30", "2026-10-25 03:00"),
        ("2026-10-25 02:00", "2026-10-25 03:00", "2026-10-25 03:00"),
        ("2026-03-29 01:00", "2026-03-29 02:00", "2026-03-29 03:00"),
        ("2026-03-29 01:30", "2026-03-29 02:30", "2026-03-29 03:30"),
        ("2026-03-29 02:00", "2026-03-29 04:00", "2026-03-29 04:00"),
    ],
)
def test_bounds_are_no_wider_than_a_clock_change_makes_them(
    utc: str, lower: str, upper: str
) -> None:
    edge = at(utc).replace(tzinfo=UTC)
    found = [str(local_bound(edge, BERLIN, upper=which))[:16] for which in (False, True)]
    assert found == [lower, upper]


# ---------------------------------------------------------------- batches and histories


def sunday() -> Rows:
    """The 25 hours of the Sunday on which Berlin's clocks go back, in its local time."""
    rows = [parcel(i, BACK - 3 * HOUR + i * HOUR) for i in range(25)]
    zone = ZoneInfo(BERLIN)
    for i, row in enumerate(rows):
        moment = BACK - 3 * HOUR + i * HOUR
        row["sent_at"] = f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}"
    return rows


def with_batch_query(problem: Problem, horizon: str) -> Problem:
    """The problem with a batch query, for a database, and that horizon."""
    query = "select * from rows where sent_at >= :as_of and sent_at < :until"
    batch = {"horizon": Span.parse(horizon)}
    if problem.history.source:
        batch["query"] = query  # type: ignore[assignment]
    return problem.model_copy(update={"batch": problem.batch.model_copy(update=batch)})


def in_berlin(table: Source) -> Problem:
    return table.problem(timezone=f'"{BERLIN}"', label_delay="", ignore="")


def twice(count: int, snapshot: Snapshot) -> bool:
    """Whether the only warning of a snapshot is that `count` local times occur twice."""
    local = f"column 'sent_at': {count} local times occur twice in {BERLIN}"
    return len(snapshot.warnings) == 1 and snapshot.warnings[0].startswith(local)


@pytest.mark.parametrize("kind", SOURCES)
def test_the_day_of_25_hours_is_a_batch_of_25_rows(tmp_path: Path, kind: str) -> None:
    source = Source(tmp_path, kind)
    source.holds([*sunday(), parcel(90, BACK - 30 * HOUR), parcel(91, BACK + 30 * HOUR)])
    batch = source.batch(with_batch_query(in_berlin(source), "25h"), BACK - 3 * HOUR)
    assert sorted(read(batch)["parcel"]) == list(range(25))
    assert batch.quarantined == {}
    assert twice(2, batch)


@pytest.mark.parametrize("minutes", [15, 30, 60])
def test_each_row_falls_into_one_of_neighbouring_batches(tmp_path: Path, minutes: int) -> None:
    source = Source(tmp_path, "sqlite")
    rows = [
        {**row, "parcel": 4 * row["parcel"] + i, "sent_at": f"{row['sent_at']:.14}{15 * i:02}:00"}
        for row in sunday()
        for i in range(4)
    ]
    skipped = [parcel(200 + i, at(f"2026-03-29 02:{15 * i:02}")) for i in range(4)]
    source.holds([*rows, *skipped])
    problem = with_batch_query(in_berlin(source), f"{minutes}m")
    found: list[int] = []
    codes: set[str] = set()
    for start in (BACK - 3 * HOUR, datetime(2026, 3, 28, 23, tzinfo=UTC)):
        for i in range(6 * 60 // minutes):
            try:
                batch = source.batch(problem, start + i * timedelta(minutes=minutes))
            except HistoryError as error:
                codes.add(error.code)
            else:
                found += read(batch)["parcel"].tolist()
    assert sorted(found) == [*range(4 * 6), *range(200, 204)]
    assert codes == {"empty_batch"}  # no row is read as the first pass, nor before the skipped hour


@pytest.mark.parametrize("kind", SOURCES)
def test_a_history_keeps_and_reports_its_repeated_hours(tmp_path: Path, kind: str) -> None:
    source = Source(tmp_path, kind)
    source.holds(
        [*parcels(last=BACK - 30 * HOUR), *[{**r, "parcel": 50 + r["parcel"]} for r in sunday()]]
    )
    snapshot = source.pull(in_berlin(source), BACK + 2 * DAY)
    assert (snapshot.rows, snapshot.quarantined) == (65, {})
    assert twice(2, snapshot)
    assert read(snapshot)["sent_at"].dt.strftime("%H:%M").tolist()[-24:-20] == [
        "23:00", "01:00", "01:00", "02:00",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", SOURCES)
def test_repeated_hours_that_are_not_read_are_not_reported(tmp_path: Path, kind: str) -> None:
    source = Source(tmp_path, kind)
    problem = in_berlin(source)
    source.holds(parcels(last=BACK - 30 * HOUR))
    before = source.pull(problem, BACK - 20 * HOUR)
    source.holds(
        [*parcels(last=BACK - 30 * HOUR), *[{**r, "parcel": 50 + r["parcel"]} for r in sunday()]]
    )
    after = source.pull(problem, BACK - 20 * HOUR)
    assert (after.digest, after.warnings) == (before.digest, ())


def test_times_of_every_column_are_local_to_the_history(table: Source) -> None:
    noon = {"due": "2026-02-10 12:00:00", "paid": "2026-02-10T12:00:00Z"}
    table.holds([{**row, **noon} for row in parcels()])
    problem = table.problem(timezone=f'"{BERLIN}"')
    frame = read(table.pull(problem))
    assert frame["due"].unique().tolist() == [pd.Timestamp("2026-02-10 11:00")]
    assert frame["paid"].unique().tolist() == [pd.Timestamp("2026-02-10 12:00")]
    batch = table.batch(problem, AS_OF - 10 * DAY, {**KINDS, "due": "time", "paid": "time"})
    assert read(batch)["due"].unique().tolist() == [pd.Timestamp("2026-02-10 11:00")]


@pytest.mark.parametrize(("zone", "again"), [("UTC", False), (BERLIN, True)])
def test_a_history_pulled_by_another_rule_for_local_times_is_pulled_from_the_beginning(
    table: Source, monkeypatch: pytest.MonkeyPatch, zone: str, again: bool
) -> None:
    problem = table.problem(timezone=f'"{zone}"')
    table.holds(parcels())
    with monkeypatch.context() as patch:
        patch.setattr(continuation, "LOCAL_TIMES", "")
        table.pull(problem, kinds=KINDS)
    table.pull(problem, AS_OF + DAY, KINDS)
    folders = Folders(open_workspace(problem.file).history(problem.name))
    assert bool(pulls(folders)[-1].full) is again


# ---------------------------------------------------------------- keys with a time


def per_meter(kind: str, folder: Path) -> tuple[Source, Problem]:
    """A source of the Sunday's rows whose key is a meter and the local time, and its problem."""
    source = Source(folder, kind)
    rows = [
        {**row, "parcel": meter, "weight": i + meter / 8}
        for i, row in enumerate(sunday())
        for meter in (1, 2)
    ]
    source.holds(rows)
    return source, source.problem(
        timezone=f'"{BERLIN}"', label_delay="", ignore="", key='["parcel", "sent_at"]'
    )


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_that_share_a_local_time_in_their_key_are_its_two_passes(
    tmp_path: Path, kind: str
) -> None:
    source, problem = per_meter(kind, tmp_path)
    for pulled in (
        source.batch(with_batch_query(problem, "25h"), BACK - 3 * HOUR),
        source.pull(problem, BACK + 2 * DAY),
    ):
        frame = read(pulled)
        hours = [at("2026-10-24 22:00") + i * HOUR for i in range(25)]
        for meter in (1, 2):
            rows = frame[frame["parcel"] == meter]
            assert rows["sent_at"].tolist() == hours
            assert rows["weight"].tolist() == [i + meter / 8 for i in range(25)]
        assert pulled.quarantined == {}
        assert [warning.partition("[")[2] for warning in pulled.warnings] == [
            "ambiguous_time]",
            "two_passes]",
        ]


def test_a_source_that_ignores_clock_changes_is_refused_with_a_hint_at_its_zone(
    tmp_path: Path,
) -> None:
    source = Source(tmp_path, "sqlite")
    start = at("2026-03-29 00:00")
    source.holds([parcel(i, start + i * HOUR / 2) for i in range(48)])
    problem = source.problem(timezone=f'"{BERLIN}"', label_delay="", ignore="", key='["sent_at"]')
    with pytest.raises(
        HistoryError, match=r"2 local times do not exist in Europe/Berlin.*set history.timezone"
    ):
        source.batch(with_batch_query(problem, "1d"), datetime(2026, 3, 28, 23, tzinfo=UTC))
    as_shown = source.problem(timezone='"Etc/GMT-1"', label_delay="", ignore="", key='["sent_at"]')
    batch = source.batch(with_batch_query(as_shown, "1d"), datetime(2026, 3, 28, 23, tzinfo=UTC))
    assert batch.rows == 48


@pytest.mark.parametrize("kind", ["sqlite", "csv"])
def test_two_passes_stay_two_rows_from_pull_to_pull(tmp_path: Path, kind: str) -> None:
    source, problem = per_meter(kind, tmp_path)
    kinds = {**KINDS, "arrived_after": "number"}
    ends = [
        source.pull(problem, BACK + hours * HOUR, kinds).rows for hours in (-1, 0, 1, 2, 30, 60)
    ]  # type: ignore[arg-type]
    assert ends == [4, 4, 8, 10, 50, 50]


def test_equal_rows_in_a_repeated_hour_are_one_row(tmp_path: Path) -> None:
    source, problem = per_meter("csv", tmp_path)
    rows = [parcel(1, at("2026-10-25 02:30")), parcel(1, at("2026-10-25 02:30"))]
    source.holds([*parcels(last=BACK - 30 * HOUR), *rows])
    snapshot = source.pull(problem, BACK + 2 * DAY)
    assert snapshot.rows == 41
    assert "1 rows repeat another row exactly and were dropped" in snapshot.warnings


def test_two_passes_conflict_with_a_third_row_whose_time_has_an_offset(tmp_path: Path) -> None:
    source, problem = per_meter("csv", tmp_path)
    rows = [{**parcel(1, at("2026-10-25 02:30")), "weight": float(i)} for i in range(3)]
    rows[2]["sent_at"] += "+02:00"
    source.holds([*parcels(200, last=BACK - 30 * HOUR), *rows])
    snapshot = source.pull(problem, BACK + 2 * DAY)
    assert (snapshot.rows, snapshot.quarantined) == (201, {"duplicate_key": 2})
