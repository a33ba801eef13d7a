"""A snapshot has exactly what could be known at as_of, whatever else the source has."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.history import read
from tests.support.parcels import AS_OF
from tests.support.table_sources import DAY, KINDS, SOURCES, Rows, Source, parcel, parcels
from tests.support.table_sources import source as source
from tests.support.table_sources import table as table

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
    rows = [
        {**row, "sent_at": f"{when:%Y-%m-%d %H:%M:%S}"}
        for row, when in zip(rows, times, strict=True)
    ]
    return rows, draw(st.lists(JUNK, min_size=40, max_size=40))


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
    ("values", "expected"),
    [
        (["007", "010"], ["007", "010"]),
        (["7", "8"], [7, 8]),
        (["7", "08"], ["08", "7"]),
        (["a", "7"], ["7", "a"]),
        (["1234567890123456789012", "7"], ["1234567890123456789012", "7"]),
    ],
)
def test_keys_of_a_csv_are_whole_numbers_or_text_as_written(
    tmp_path: Path, values: list[str], expected: list[Any]
) -> None:
    source = Source(tmp_path, "csv")
    source.holds([{**row, "parcel": values[i]} for i, row in enumerate(parcels(2))])
    assert sorted(read(source.pull())["parcel"].tolist()) == expected


@pytest.mark.parametrize("kind", ["sqlite", "parquet"])
def test_long_whole_keys_keep_every_digit_next_to_a_gap(tmp_path: Path, kind: str) -> None:
    source = Source(tmp_path, kind)
    long = 2**62 + 1
    source.holds(
        [*parcels(3), parcel(long, AS_OF - 5 * DAY), {**parcel(9, AS_OF + DAY), "parcel": None}]
    )
    assert read(source.pull())["parcel"].max() == long


@pytest.mark.parametrize(
    ("values", "expected"),
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
    tmp_path: Path, values: list[Any], expected: list[Any]
) -> None:
    source = Source(tmp_path, "parquet")
    source.holds([{**row, "late": values[i % 2]} for i, row in enumerate(parcels())])
    assert sorted(read(source.pull())["late"].unique().tolist()) == expected


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
    # 4 MB: several reads
    source.holds([{**row, "arrived_after": "line\n" * 20_000} for row in parcels()])
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
