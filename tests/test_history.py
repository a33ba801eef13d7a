"""A snapshot holds what could be known at as_of and nothing else, whatever the source hides."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.errors import HistoryError, ProblemError, UnreachableError
from automl.history import ROW_ID, Kinds, pull, read
from automl.problem import load_problem
from automl.workspace import open_workspace
from tests.conftest import AS_OF, make_world, write_problem
from tests.sources import DAY, KINDS, SOURCES, Rows, Source, parcel, parcels


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """One source of each kind."""
    return Source(tmp_path, request.param)


@pytest.fixture
def table(tmp_path: Path) -> Source:
    """A SQLite source, where one kind is enough."""
    return Source(tmp_path, "sqlite")


# ---------------------------------------------------------------- nothing later is ever read (I15)

JUNK = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6),
    st.sampled_from(
        [
            "007",
            "nan",
            "2026-01-01",
            "2026-03-29 02:30:00",
            "line\nbreak",
            'a "quoted", cell',
            "=1+1",
        ]
    ),
)
COLUMNS = ("parcel", "weight", "carrier", "arrived_after", "late")


@st.composite
def poison(draw: st.DrawFn) -> tuple[Rows, list[Any]]:
    """Rows that must not be seen at AS_OF, holding anything, and values for an ignored column."""
    late = st.timedeltas(timedelta(0), 400 * DAY).map(lambda after: AS_OF + after)
    immature = st.timedeltas(timedelta(0), DAY - timedelta(seconds=1)).map(
        lambda after: AS_OF - DAY + after
    )
    times = draw(st.lists(late | immature, max_size=4))
    rows = [{**dict.fromkeys(COLUMNS), **{c: draw(JUNK) for c in COLUMNS}} for _ in times]
    told = [
        {**row, "sent_at": f"{when:%Y-%m-%d %H:%M:%S}"}
        for row, when in zip(rows, times, strict=True)
    ]
    return told, draw(st.lists(JUNK, min_size=40, max_size=40))


def fitting(rows: Rows, kind: str) -> Rows:
    """A parquet column has one type: what does not fit is left empty there; other sources take anything."""
    types: dict[str, Any] = {
        "parcel": int,
        "weight": float,
        "carrier": str,
        "late": int,
        "sent_at": str,
    }
    if kind != "parquet":
        return rows
    return [
        {n: v if isinstance(v, types.get(n, object)) else None for n, v in row.items()}
        for row in rows
    ]


@pytest.mark.parametrize("kind", SOURCES)
@given(poisoned=poison())
@settings(max_examples=25, deadline=None)
def test_poison_of_what_cannot_be_known_changes_no_byte(
    kind: str, poisoned: tuple[Rows, list[Any]]
) -> None:
    later, ignored = poisoned
    with tempfile.TemporaryDirectory() as name:
        source = Source(Path(name), kind)
        source.holds(parcels())
        clean = source.pull()
        before = clean.path.read_bytes()
        clean.path.unlink()
        known = [
            {**row, "arrived_after": junk} for row, junk in zip(parcels(), ignored, strict=True)
        ]
        later = fitting(later, kind)
        source.holds(later[:2] + known + later[2:])
        found = source.pull()
        assert (found.digest, found.path) == (clean.digest, clean.path)
        assert found.path.read_bytes() == before


@pytest.mark.parametrize("kind", SOURCES)
@given(poisoned=poison())
@settings(max_examples=10, deadline=None)
def test_poison_outside_the_window_changes_no_byte_of_a_batch(
    kind: str, poisoned: tuple[Rows, list[Any]]
) -> None:
    later, junk = poisoned
    inside = [parcel(100 + i, AS_OF + i * DAY / 2) for i in range(14)]
    window = [f"{when:%Y-%m-%d %H:%M:%S}" for when in (AS_OF, AS_OF + 7 * DAY)]
    outside = [row for row in later if not window[0] <= row["sent_at"] < window[1]]
    with tempfile.TemporaryDirectory() as name:
        source = Source(Path(name), kind)
        source.holds([*parcels(), *inside])
        clean = source.batch()
        before = clean.path.read_bytes()
        clean.path.unlink()
        hidden = [
            {**r, "late": a, "arrived_after": b}
            for r, a, b in zip(inside, junk, junk[20:], strict=False)
        ]
        source.holds([*fitting(outside, kind), *hidden])
        found = source.batch()
        assert (found.digest, found.path.read_bytes()) == (clean.digest, before)


@pytest.mark.parametrize(
    "junk", [b"\x00\xff", b"", "not a time", 10**18, 5e-324, float("inf"), None]
)
def test_a_later_cell_of_any_type_changes_nothing_in_sqlite(table: Source, junk: object) -> None:
    problem = table.problem(
        label_delay="", label_time='"known_at"', history='updated_at = "changed_at"'
    )
    known = [{**row, "known_at": row["sent_at"], "changed_at": row["sent_at"]} for row in parcels()]
    table.holds(known)
    clean = table.pull(problem).digest
    later = parcel(99, AS_OF + DAY)
    table.holds([{**later, **{n: junk for n in known[0] if n != "sent_at"}}, *known])
    assert table.pull(problem).digest == clean


def test_nothing_at_or_after_as_of_is_kept(source: Source) -> None:
    rows = parcels(40, timedelta(hours=12), last=AS_OF + 5 * DAY)
    source.holds(rows)
    snapshot = source.pull(source.problem(label_delay=""))
    times = pd.to_datetime([row["sent_at"] for row in rows])
    assert snapshot.rows == (times < AS_OF.replace(tzinfo=None)).sum()
    assert snapshot.last == AS_OF - timedelta(hours=12)
    assert snapshot.dropped == {"not_before_as_of": 40 - snapshot.rows}


# ---------------------------------------------------------------- one digest for one content


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False) | st.none(),
            st.text("abcXYZ äß,;\"'\n", min_size=1, max_size=5).filter(lambda t: t.strip() == t)
            | st.none(),
            st.integers(0, 10**6),
        ),
        min_size=1,
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_the_same_rows_have_one_digest_from_any_source_in_any_order(
    cells: list[tuple[float | None, str | None, int]], random: Any
) -> None:
    rows = [
        parcel(n, AS_OF - 2 * DAY - timedelta(seconds=gap), weight=weight, carrier=carrier)
        for n, (weight, carrier, gap) in enumerate(cells)
    ]
    digests = []
    for kind in SOURCES:
        names = list(rows[0])
        random.shuffle(rows)
        random.shuffle(names)
        with tempfile.TemporaryDirectory() as name:
            source = Source(Path(name), kind)
            source.holds([{n: row[n] for n in names} for row in rows])
            digests.append(source.pull(kinds={**KINDS}).digest)
    assert len(set(digests)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"weight": 0.26},
        {"carrier": "bee"},
        {"late": 1},
        {"sent_at": "2026-02-26 00:00:01"},
        {"parcel": 99},
        {"weight": None},
    ],
)
def test_another_value_is_another_digest(table: Source, change: dict[str, Any]) -> None:
    rows = parcels()
    table.holds(rows)
    clean = table.pull()
    table.holds([*rows[:2], {**rows[2], **change}, *rows[3:]])
    changed = table.pull()
    assert changed.digest != clean.digest
    assert changed.path != clean.path


def test_a_snapshot_reads_back_sorted_and_in_plain_kinds(source: Source) -> None:
    source.holds(parcels()[::-1])
    snapshot = source.pull()
    frame = read(snapshot)
    kinds = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert kinds == {
        "carrier": "str",
        "late": "int64",
        "parcel": "int64",
        "sent_at": "datetime64[us]",
        "weight": "float64",
    }
    assert frame["parcel"].tolist() == list(range(40))
    assert frame.isna().sum().to_dict() == {
        "carrier": 4,
        "late": 0,
        "parcel": 0,
        "sent_at": 0,
        "weight": 6,
    }
    assert (snapshot.rows, snapshot.first, snapshot.last) == (
        40,
        frame["sent_at"].min().tz_localize("UTC"),
        frame["sent_at"].max().tz_localize("UTC"),
    )


def test_declared_kinds_give_the_digest_that_inferred_ones_gave(source: Source) -> None:
    source.holds(parcels())
    assert source.pull().digest == source.pull(kinds=KINDS).digest


@pytest.mark.parametrize("values", [["007", "010"], ["7a", "8"], ["1-2", "3"], ["", "x"]])
def test_codes_stay_text(tmp_path: Path, values: list[str]) -> None:
    source = Source(tmp_path, "csv")
    source.holds([{**row, "code": values[i % 2]} for i, row in enumerate(parcels())])
    assert read(source.pull())["code"].dropna().unique().tolist() == [v for v in values if v]


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (["007", "010"], ["007", "010"]),
        (["7", "8"], [7, 8]),
        (["7", "08"], ["08", "7"]),
        (["a", "7"], ["7", "a"]),
        (["1234567890123456789012", "7"], ["1234567890123456789012", "7"]),
    ],
)
def test_keys_of_a_csv_are_whole_numbers_or_text_as_written(
    tmp_path: Path, values: list[str], kept: list[Any]
) -> None:
    source = Source(tmp_path, "csv")
    source.holds([{**row, "parcel": values[i]} for i, row in enumerate(parcels(2))])
    assert sorted(read(source.pull())["parcel"].tolist()) == kept


@pytest.mark.parametrize("kind", ["sqlite", "parquet"])
def test_long_whole_keys_keep_every_digit_beside_a_gap(tmp_path: Path, kind: str) -> None:
    source = Source(tmp_path, kind)
    long = 2**62 + 1
    source.holds(
        [*parcels(3), parcel(long, AS_OF - 5 * DAY), {**parcel(9, AS_OF + DAY), "parcel": None}]
    )
    assert read(source.pull())["parcel"].max() == long


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([0, 1], [0, 1]),
        ([0.0, 1.0], [0, 1]),
        ([True, False], [0, 1]),
        (["0", "1"], [0, 1]),
        (["00", "01"], ["00", "01"]),
        (["no", "yes"], ["no", "yes"]),
        ([0.5, 1.5], ["0.5", "1.5"]),
    ],
)
def test_labels_are_whole_numbers_or_text(
    tmp_path: Path, values: list[Any], kept: list[Any]
) -> None:
    source = Source(tmp_path, "parquet")
    source.holds([{**row, "late": values[i % 2]} for i, row in enumerate(parcels())])
    assert sorted(read(source.pull())["late"].unique().tolist()) == kept


def test_categories_indexes_and_decimals_of_parquet_are_read_as_what_they_stand_for(
    tmp_path: Path,
) -> None:
    source = Source(tmp_path, "parquet")
    source.holds(parcels())
    plain = source.pull().digest
    frame = pd.read_parquet(tmp_path / "rows.parquet")
    frame["carrier"] = frame["carrier"].astype("category")
    frame["weight"] = [None if pd.isna(v) else Decimal(str(v)) for v in frame["weight"]]
    frame["sent_at"] = (
        pd.to_datetime(frame["sent_at"]).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    )
    frame.set_index("parcel").to_parquet(tmp_path / "rows.parquet")
    assert source.pull().digest == plain
    frame.iloc[::-1].to_parquet(tmp_path / "rows.parquet")  # pandas adds its row numbers
    assert source.pull().digest == plain


def test_long_cells_of_many_lines_are_read_whole(tmp_path: Path) -> None:
    source = Source(tmp_path, "csv")
    source.holds(parcels())
    clean = source.pull().digest
    source.holds(
        [{**row, "arrived_after": "line\n" * 20_000} for row in parcels()]
    )  # 4 MB: several reads
    assert source.pull().digest == clean


def test_files_of_a_folder_are_read_together(tmp_path: Path) -> None:
    rows = parcels()
    source = Source(tmp_path, "csv")
    source.holds(rows)
    whole = source.pull().digest
    (tmp_path / "parts").mkdir()
    for i, part in enumerate([rows[:10], rows[10:]]):
        Source(tmp_path, "csv").holds(part)
        shutil.move(tmp_path / "rows.csv", tmp_path / "parts" / f"{i}.csv")
    source.holds(rows)
    parts = source.problem()
    parted = parts.model_copy(
        update={"history": parts.history.model_copy(update={"files": "parts"})}
    )
    assert source.pull(parted).digest == whole


# ---------------------------------------------------------------- versions and twins


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


VERSIONS = [  # changed_at, weight, late; what is known at AS_OF is the version that weighs 2
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


def test_a_label_that_was_taken_back_is_no_label(table: Source) -> None:
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


def test_label_time_is_meant_in_the_zone_of_the_history_also_when_read_again(table: Source) -> None:
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
    told = rf"found 3 rows from .* none is labelled at 2026-03-02 00:00 \({why}\)"
    with pytest.raises(HistoryError, match=told) as caught:
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
def test_naive_times_are_local_and_times_with_an_offset_are_taken_at_their_word(
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


@pytest.mark.parametrize("local", ["2025-03-30 02:30:00", "2025-10-26 02:30:00"])
def test_local_times_that_a_clock_change_skips_or_repeats_are_refused(
    source: Source, local: str
) -> None:
    source.holds([*parcels(), parcel(99, datetime.fromisoformat(local))])
    with pytest.raises(
        HistoryError, match=r"sent_at: cannot be read as times in Europe/Zurich: .*02:30:00"
    ) as caught:
        source.pull(source.problem(timezone='"Europe/Zurich"'))
    assert caught.value.code == "bad_time"


@pytest.mark.parametrize(
    ("value", "told", "code"),
    [
        ("soon", "sent_at: cannot be read as times in UTC", "bad_time"),
        ("2026-13-01", "sent_at: cannot be read as times in UTC", "bad_time"),
        (20260101, "sent_at: found numbers; wanted dates or times", "bad_time"),
        (None, "sent_at: found 1 empty times; wanted none", "null_time"),
    ],
)
def test_what_is_no_time_is_refused(table: Source, value: object, told: str, code: str) -> None:
    table.holds([*parcels(), {**parcel(99, AS_OF), "sent_at": value}])
    with pytest.raises(HistoryError, match=told) as caught:
        table.pull()
    assert caught.value.code == code


def test_a_query_is_asked_in_the_zone_of_the_history(table: Source) -> None:
    table.holds([parcel(i, AS_OF - i * timedelta(hours=1)) for i in range(48)])
    problem = table.problem(timezone='"Asia/Tokyo"', label_delay="")
    asked = "select * from rows where sent_at < :as_of"
    bound = problem.model_copy(
        update={"history": problem.history.model_copy(update={"query": asked})}
    )
    assert table.pull(bound).digest == table.pull(problem).digest
    assert table.pull(bound).dropped == {}


# ---------------------------------------------------------------- the rows to predict


def test_a_batch_is_the_half_open_window_without_target_and_ignored_columns(source: Source) -> None:
    edge = [
        AS_OF - timedelta(seconds=1),
        AS_OF,
        AS_OF + 7 * DAY - timedelta(seconds=1),
        AS_OF + 7 * DAY,
    ]
    source.holds([*parcels(), *(parcel(100 + i, when) for i, when in enumerate(edge))])
    snapshot = source.batch()
    frame = read(snapshot)
    assert frame["parcel"].tolist() == [101, 102]
    assert list(frame.columns) == ["carrier", "parcel", "sent_at", "weight"]
    assert snapshot.path.parent.name == "batches"


def test_a_batch_needs_only_what_the_model_reads(table: Source) -> None:
    coming = [
        {
            n: v
            for n, v in parcel(i, AS_OF).items()
            if n in ("parcel", "sent_at", "weight", "carrier")
        }
        for i in (1, 2)
    ]
    table.holds(coming)
    problem = table.problem(
        history='weight = "worth"\ngroup = ["street"]', label_delay="", label_time='"known_at"'
    )
    kinds: Kinds = {**KINDS, "worth": "number", "street": "text", "known_at": "time"}
    assert table.batch(problem, kinds=kinds).rows == 2


def test_an_empty_batch_is_refused(source: Source) -> None:
    source.holds(parcels())
    with pytest.raises(
        HistoryError, match="wanted rows with 2026-03-02 00:00 <= sent_at < 2026-03-09 00:00"
    ) as caught:
        source.batch()
    assert caught.value.code == "empty_batch"


def test_a_row_without_a_key_has_one_row_id_in_batch_and_history(tmp_path: Path) -> None:
    source = Source(tmp_path, "parquet")
    twins = [
        {**parcel(1, AS_OF + DAY), "late": late, "known_at": f"{AS_OF + 2 * DAY}"}
        for late in (1, 0, 1)
    ]
    others = [
        {**parcel(i, AS_OF + i * DAY / 10), "known_at": f"{AS_OF + 3 * DAY}"} for i in range(30)
    ]
    source.holds([*twins, *others])
    problem = source.problem(key="", label_delay="", label_time='"known_at"')
    kinds: Kinds = {**KINDS, "known_at": "time"}
    before = read(source.batch(problem, kinds=kinds))
    after = read(source.pull(problem, AS_OF + 7 * DAY, kinds=kinds))
    assert len(before) == before[ROW_ID].nunique() == 33
    both = before.merge(after, on=ROW_ID)
    assert len(both) == 33
    assert (both["parcel_x"] == both["parcel_y"]).all()
    source.holds([*others, *twins[::-1]])
    assert source.pull(problem, AS_OF + 7 * DAY, kinds=kinds).path.exists()
    assert read(source.pull(problem, AS_OF + 7 * DAY, kinds=kinds)).equals(after)


def test_time_can_be_part_of_the_key(source: Source) -> None:
    source.holds([{**row, "parcel": i % 2} for i, row in enumerate(parcels())])
    snapshot = source.pull(source.problem(key='["parcel", "sent_at"]'))
    assert snapshot.rows == 40
    assert read(snapshot)["sent_at"].is_monotonic_increasing


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("roles", "told"),
    [
        ({"time": '"sent"'}, r"history\.time: column 'sent' is missing; found parcel, sent_at"),
        ({"target": '"lat"'}, r"history\.target: column 'lat' is missing"),
        ({"key": '["box"]'}, r"history\.key 'box': column 'box' is missing"),
        (
            {"group": '["street"]', "weight": '"w"'},
            r"group 'street': .*; history\.weight: column 'w' is missing",
        ),
        ({"updated_at": '"changed"'}, r"history\.updated_at: column 'changed' is missing"),
        (
            {"label_time": '"known"', "label_delay": ""},
            r"history\.label_time: column 'known' is missing",
        ),
    ],
)
def test_a_missing_column_is_named_with_its_role(
    source: Source, roles: dict[str, str], told: str
) -> None:
    source.holds(parcels())
    with pytest.raises(HistoryError, match=told) as caught:
        source.pull(source.problem(**roles))
    assert caught.value.code == "missing_column"


def test_a_declared_column_that_vanished_is_refused_in_history_and_batch(source: Source) -> None:
    source.holds([*parcels(), parcel(99, AS_OF)])
    kinds: Kinds = {**KINDS, "colour": "text"}
    with pytest.raises(HistoryError, match="column 'colour' vanished"):
        source.pull(kinds=kinds)
    with pytest.raises(HistoryError, match="column 'colour' vanished"):
        source.batch(kinds=kinds)


@pytest.mark.parametrize(
    "value", ["heavy", "2026-01-01", AS_OF.replace(tzinfo=None), AS_OF.date(), ""]
)
def test_a_number_that_became_something_else_is_refused(tmp_path: Path, value: object) -> None:
    source = Source(tmp_path, "parquet")
    source.holds([{**row, "weight": value} for row in parcels()])
    with pytest.raises(
        HistoryError, match="column 'weight': found 40 values that are no numbers"
    ) as caught:
        source.pull(kinds=KINDS)
    assert caught.value.code == "kind_changed"


@pytest.mark.parametrize("kind", ["sqlite", "parquet", "csv"])
def test_a_missing_source_is_unreachable(tmp_path: Path, kind: str) -> None:
    with pytest.raises(
        UnreachableError, match=r"no file at|no parquet or CSV file matches"
    ) as caught:
        Source(tmp_path, kind).pull()
    assert (caught.value.exit_code, caught.value.code) == (5, "source_unreachable")
    assert not (tmp_path / "rows.db").exists()


def test_a_database_that_does_not_answer_is_unreachable(table: Source) -> None:
    problem = table.problem()
    url = "postgresql://me@127.0.0.1:1/db"  # nobody listens on port 1
    gone = problem.model_copy(
        update={"history": problem.history.model_copy(update={"source": url})}
    )
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1/db does not answer: .*refused"):
        table.pull(gone)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("select * from boxes", "the query failed: no such table: boxes"),
        ("select", "the query failed: .*syntax error"),
        (
            "select * from rows where sent_at < :cutoff",
            "the query failed: .*bind parameter 'cutoff'",
        ),
        ("delete from rows", "the query failed: .*syntax error"),
        (
            "pragma user_version = 0",
            "the query failed: .*syntax error",
        ),
    ],
)
def test_a_bad_query_is_refused_in_the_databases_words(
    table: Source, query: str, told: str
) -> None:
    table.holds(parcels())
    problem = table.problem()
    bad = problem.model_copy(
        update={"history": problem.history.model_copy(update={"query": query})}
    )
    with pytest.raises(HistoryError, match=told) as caught:
        table.pull(bad)
    assert caught.value.code == "query_failed"
    assert table.pull().rows == 40


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("no url at all", "is not a database URL"),
        ("nosuch://host/db", "wanted a database whose driver is installed"),
        (
            "postgresql://me:${NOT_SET_ANYWHERE}@host/db",
            "environment variable NOT_SET_ANYWHERE is not set",
        ),
    ],
)
def test_a_wrong_url_is_a_mistake_of_the_problem_file(table: Source, url: str, told: str) -> None:
    problem = table.problem()
    bad = problem.model_copy(update={"history": problem.history.model_copy(update={"source": url})})
    with pytest.raises(ProblemError, match=told):
        table.pull(bad)


def test_an_environment_reference_is_filled_in(
    table: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.holds(parcels())
    monkeypatch.setenv("ROWS_NAME", "rows")
    problem = table.problem()
    named = problem.history.model_copy(update={"source": "sqlite:///${ROWS_NAME}.db"})
    assert table.pull(problem.model_copy(update={"history": named})).rows == 40


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "50% of #1? yes"
    folder.mkdir()
    table = Source(folder, "sqlite")
    table.holds(parcels())
    assert table.pull().rows == 40


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    source = Source(tmp_path, "parquet")
    source.holds(parcels())
    file = tmp_path / "rows.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(HistoryError, match=r"rows\.parquet: cannot be read") as caught:
        source.pull()
    assert caught.value.code == "bad_file"


@pytest.mark.parametrize(
    "content", ["", "parcel,sent_at,late\n1,2026-01-01,0\n2,2026-01-02,1,surplus\n"]
)
def test_a_broken_csv_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.csv").write_text(content, encoding="utf-8")
    with pytest.raises(HistoryError, match=r"rows\.csv: cannot be read") as caught:
        Source(tmp_path, "csv").pull()
    assert caught.value.code == "bad_file"


@pytest.mark.parametrize("kind", ["sqlite", "csv"])
def test_a_column_name_that_comes_twice_is_refused(tmp_path: Path, kind: str) -> None:
    source = Source(tmp_path, kind)
    source.holds(parcels())
    if kind == "csv":
        text = (tmp_path / "rows.csv").read_text(encoding="utf-8")
        (tmp_path / "rows.csv").write_text(text.replace("carrier", "weight", 1), encoding="utf-8")
    problem = source.problem()
    query = "select *, 1 as weight from rows" if kind == "sqlite" else ""
    twice = problem.model_copy(
        update={"history": problem.history.model_copy(update={"query": query})}
    )
    with pytest.raises(HistoryError, match="found column 'weight' twice"):
        source.pull(twice)


@pytest.mark.parametrize(
    ("body", "error", "told"),
    [
        ("return [1, 2]", HistoryError, "returned list; wanted a DataFrame"),
        ("raise ValueError('no rows today')", HistoryError, "raised ValueError: no rows today"),
        ("raise ConnectionError('no answer')", UnreachableError, "no answer"),
        ("import nowhere_to_be_found", ProblemError, "nowhere_to_be_found"),
    ],
)
def test_a_callable_that_fails_is_refused(
    tmp_path: Path, body: str, error: type[Exception], told: str
) -> None:
    source = Source(tmp_path, "python")
    source.holds(parcels())
    (tmp_path / f"{source._module}.py").write_text(
        f"def rows(as_of, until):\n    {body}\n", encoding="utf-8"
    )
    with pytest.raises(error, match=told):
        source.pull()


def test_a_pull_never_changes_its_source(source: Source) -> None:
    source.holds(parcels())
    files = {f: f.read_bytes() for f in source.folder.glob("rows.*")}
    source.pull()
    assert {f: f.read_bytes() for f in source.folder.glob("rows.*")} == files


def test_the_made_up_world_of_the_tests_is_pulled_whole(tmp_path: Path) -> None:
    world = make_world(500)
    problem = load_problem(write_problem(tmp_path, frame=world))
    snapshot = pull(problem, open_workspace(problem.file), AS_OF)
    frame = read(snapshot)
    assert np.array_equal(frame["weight"].to_numpy(), world["weight"].to_numpy(), equal_nan=True)
    assert snapshot.first == world["sent_at"].min().tz_localize(UTC)
