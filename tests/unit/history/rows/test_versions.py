"""Which version of a row, which label and which local time a snapshot contains."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.errors import HistoryError
from automl.history import read
from tests.support.parcels import AS_OF
from tests.support.table_sources import DAY, SOURCES, Rows, Source, parcel, parcels
from tests.support.table_sources import source as source
from tests.support.table_sources import table as table

# ---------------------------------------------------------------- versions and equal rows


def test_identical_rows_are_one_row(source: Source) -> None:
    source.holds(parcels())
    once = source.pull().digest
    source.holds([*parcels(), *parcels()[5:9]])
    assert source.pull().digest == once


def test_rows_that_share_a_key_but_differ_are_refused(source: Source) -> None:
    source.holds([*parcels(), {**parcels()[5], "weight": 99.0}])
    with pytest.raises(
        HistoryError, match=r"found 2 rows that share a key but differ, .*'parcel': 5"
    ) as caught:
        source.pull()
    assert caught.value.code == "duplicate_key"


VERSIONS = [  # changed_at, weight, late; the version of weight 2 is the newest at AS_OF
    (None, 0.0, 1),
    ("2026-02-20 00:00:00", 1.0, 0),
    ("2026-03-01 23:59:59", 2.0, 1),
    ("2026-03-02 00:00:00", 3.0, 0),
    ("2026-03-09 00:00:00", 4.0, 0),
]


def versions() -> Rows:
    """Five versions of one parcel among others that were never changed."""
    first = parcels(1)[0]
    changed = [
        {**first, "changed_at": when, "weight": weight, "late": late}
        for when, weight, late in VERSIONS
    ]
    return [{**row, "changed_at": None} for row in parcels()[1:]] + changed


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_the_newest_version_that_was_known_wins(random: Any) -> None:
    rows = versions()
    random.shuffle(rows)
    with tempfile.TemporaryDirectory() as name:
        table = Source(Path(name), "sqlite")
        table.holds(rows)
        snapshot = table.pull(table.problem(history='updated_at = "changed_at"'))
    assert snapshot.rows == 40
    assert snapshot.dropped == {"updated_after_as_of": 2, "older_version": 2}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_version_carries_its_own_values(tmp_path: Path, kind: str) -> None:
    source = Source(tmp_path, kind)
    source.holds(versions())
    frame = read(source.pull(source.problem(history='updated_at = "changed_at"')))
    assert frame.set_index("parcel").loc[0, ["weight", "late"]].tolist() == [2.0, 1]
    assert "changed_at" not in frame.columns


def test_a_withdrawn_label_is_no_label(table: Source) -> None:
    rows = [{**row, "changed_at": row["sent_at"]} for row in parcels()]
    table.holds([*rows, {**rows[0], "changed_at": "2026-03-01 00:00:00", "late": None}])
    snapshot = table.pull(table.problem(history='updated_at = "changed_at"'))
    assert snapshot.rows == 39
    assert snapshot.dropped == {"older_version": 1, "no_label": 1}


def test_two_newest_versions_that_differ_are_refused(table: Source) -> None:
    rows = [{**row, "changed_at": row["sent_at"]} for row in parcels()]
    table.holds([*rows, {**rows[0], "weight": 99.0}])
    with pytest.raises(HistoryError, match="found 2 rows that share a key but differ"):
        table.pull(table.problem(history='updated_at = "changed_at"'))


def test_a_batch_holds_the_newest_known_version_of_each_row(source: Source) -> None:
    rows = [{**parcel(i, AS_OF + DAY), "changed_at": "2026-02-01 00:00:00"} for i in range(3)]
    newer = {**rows[0], "weight": 50.0, "changed_at": "2026-02-02 00:00:00"}
    future = {**rows[1], "weight": 60.0, "changed_at": "2026-03-02 00:00:00"}
    source.holds([newer, *rows, future])
    frame = read(source.batch(source.problem(history='updated_at = "changed_at"'))).set_index(
        "parcel"
    )
    assert frame["weight"].tolist() == [50.0, 1 / 8, 2 / 8]


# ---------------------------------------------------------------- when labels are known, what is kept


@pytest.mark.parametrize(("delay", "newest"), [("", 0), ("1d", 1), ("3d", 3), ("1mo", 28)])
def test_label_delay_holds_back_rows_whose_label_is_not_known(
    table: Source, delay: str, newest: int
) -> None:
    table.holds(parcels(60, DAY, last=AS_OF - timedelta(hours=1)))
    snapshot = table.pull(table.problem(label_delay=f'"{delay}"' if delay else ""))
    assert snapshot.last == AS_OF - newest * DAY - timedelta(hours=1)
    assert snapshot.dropped.get("label_not_known_yet", 0) == newest


def test_a_label_is_known_after_its_delay_and_not_at_it(source: Source) -> None:
    source.holds([parcel(0, AS_OF - DAY), parcel(1, AS_OF - DAY - timedelta(seconds=1))])
    snapshot = source.pull()
    assert read(snapshot)["parcel"].tolist() == [1]
    assert snapshot.dropped == {"label_not_known_yet": 1}


def test_label_time_says_when_each_label_is_known(source: Source) -> None:
    known_at = ["2026-03-01 23:59:59", "2026-03-02 00:00:00", "9999-12-31 23:59:59", None]
    rows = [{**row, "known_at": known_at[i % 4]} for i, row in enumerate(parcels())]
    source.holds(rows)
    snapshot = source.pull(source.problem(label_delay="", label_time='"known_at"'))
    assert read(snapshot)["parcel"].tolist() == list(range(0, 40, 4))
    assert snapshot.dropped == {"label_not_known_yet": 30}


def test_label_time_is_in_the_zone_of_the_history(table: Source) -> None:
    table.holds([{**row, "known_at": "2026-02-28 12:00:00"} for row in parcels()])
    problem = table.problem(label_delay="", label_time='"known_at"', timezone='"America/New_York"')
    assert read(table.pull(problem))["known_at"].unique().tolist() == [
        pd.Timestamp("2026-02-28 17:00")
    ]


def test_keep_drops_older_rows(table: Source) -> None:
    table.holds(parcels(60, DAY, last=AS_OF - 2 * DAY))
    snapshot = table.pull(table.problem(history='keep = "10d"'))
    assert (snapshot.first, snapshot.rows) == (AS_OF - 10 * DAY, 9)
    assert snapshot.dropped == {"older_than_keep": 51}


def test_rows_without_a_label_are_dropped_and_counted(source: Source) -> None:
    source.holds([{**row, "late": None if i < 4 else i % 2} for i, row in enumerate(parcels())])
    snapshot = source.pull()
    assert (snapshot.rows, snapshot.dropped) == (36, {"no_label": 4})


def test_no_labelled_row_is_refused_with_the_reasons(source: Source) -> None:
    source.holds(
        [
            parcel(1, AS_OF - DAY / 2),
            parcel(2, AS_OF + DAY),
            {**parcel(3, AS_OF - 5 * DAY), "late": None},
        ]
    )
    why = "1 not before as of, 1 label not known yet, 1 no label"
    match = rf"found 3 rows from .* none is labelled at 2026-03-02 00:00 \({why}\)"
    with pytest.raises(HistoryError, match=match) as caught:
        source.pull()
    assert caught.value.code == "no_history"


# ---------------------------------------------------------------- time zones


@pytest.mark.parametrize(
    ("zone", "local", "utc"),
    [
        ("UTC", "2026-01-10 12:00:00", "2026-01-10 12:00:00"),
        ("Europe/Zurich", "2026-01-10 12:00:00", "2026-01-10 11:00:00"),
        ("Europe/Zurich", "2025-07-10 12:00:00", "2025-07-10 10:00:00"),
        ("America/New_York", "2026-01-10 20:00", "2026-01-11 01:00:00"),
        ("America/New_York", "2026-01-10T20:00:00Z", "2026-01-10 20:00:00"),
        ("America/New_York", "2026-01-10 20:00:00.25+02:00", "2026-01-10 18:00:00.25"),
        ("Asia/Tokyo", "2026-01-10", "2026-01-09 15:00:00"),
    ],
)
def test_naive_times_are_local_and_offsets_are_respected(
    source: Source, zone: str, local: str, utc: str
) -> None:
    source.holds([{**row, "sent_at": local} for row in parcels()])
    frame = read(source.pull(source.problem(timezone=f'"{zone}"')))
    assert frame["sent_at"].unique().tolist() == [pd.Timestamp(utc)]


def test_offsets_may_differ_from_row_to_row(source: Source) -> None:
    noon = [
        "2025-07-10T12:00:00+02:00",
        "2026-01-10T11:00:00+01:00",
        "2026-01-10T10:00:00Z",
        "2026-01-10 11:00",
    ]
    source.holds([{**row, "sent_at": noon[i % 4]} for i, row in enumerate(parcels())])
    frame = read(source.pull(source.problem(timezone='"Europe/Zurich"')))
    assert set(frame["sent_at"]) == {
        pd.Timestamp("2025-07-10 10:00"),
        pd.Timestamp("2026-01-10 10:00"),
    }


@pytest.mark.parametrize(
    ("local", "utc", "code"),
    [
        ("2025-03-30 02:30:00", "2025-03-30 01:30:00", "skipped_time"),
        ("2025-10-26 02:30:00", "2025-10-26 01:30:00", "ambiguous_time"),
    ],
)
def test_local_times_that_a_clock_change_skips_or_repeats_are_read_and_reported(
    source: Source, local: str, utc: str, code: str
) -> None:
    source.holds([*parcels(), parcel(99, datetime.fromisoformat(local))])
    snapshot = source.pull(source.problem(timezone='"Europe/Zurich"'))
    frame = read(snapshot).set_index("parcel")
    assert frame.loc[99, "sent_at"] == pd.Timestamp(utc)
    assert [warning.partition("[")[2] for warning in snapshot.warnings] == [f"{code}]"]


@pytest.mark.parametrize(
    ("value", "match", "code"),
    [
        ("soon", "sent_at: cannot be read as times in UTC, such as 'soon' [(]", "bad_time"),
        ("2026-13-01", "sent_at: cannot be read as times in UTC, such as '2026-13-01'", "bad_time"),
        (20260101, "sent_at: found numbers such as 20260101; wanted dates or times", "bad_time"),
        (None, "sent_at: found 1 rows without a time", "null_time"),
    ],
)
def test_an_unreadable_time_is_refused(table: Source, value: object, match: str, code: str) -> None:
    table.holds([*parcels(), {**parcel(99, AS_OF), "sent_at": value}])
    with pytest.raises(HistoryError, match=match) as caught:
        table.pull()
    assert caught.value.code == code


def test_query_bounds_are_in_the_zone_of_the_history(table: Source) -> None:
    table.holds([parcel(i, AS_OF - i * timedelta(hours=1)) for i in range(48)])
    problem = table.problem(timezone='"Asia/Tokyo"', label_delay="")
    query = "select * from rows where sent_at < :as_of"
    bound = problem.model_copy(
        update={"history": problem.history.model_copy(update={"query": query})}
    )
    assert table.pull(bound).digest == table.pull(problem).digest
    assert table.pull(bound).dropped == {}
