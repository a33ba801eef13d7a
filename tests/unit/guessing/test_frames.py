"""A DataFrame of any make becomes a plain table; what cannot become one is refused with what to do."""

from __future__ import annotations

from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from automl.errors import ProblemError
from automl.guessing.frames import as_table, as_times, plain_column, time_candidates

DAYS = pd.date_range("2026-01-01", periods=4, unit="s")
Y = [1, 0, 1, 0]


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"day": DAYS, "y": Y, **columns})


# ---------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("times", "note"),
    [
        (DAYS, ""),
        (DAYS.astype("str"), ""),
        ([d.date() for d in DAYS], ""),
        ([d.to_pydatetime() for d in DAYS], ""),
        (pd.array([d.date() for d in DAYS], dtype=pd.ArrowDtype(pa.date32())), ""),
        (pd.array(DAYS, dtype=pd.ArrowDtype(pa.timestamp("us"))), ""),
        (DAYS.to_period("D"), "start"),
        ([20260101, 20260102, 20260103, 20260104], "days"),
        (DAYS.astype("int64"), "Unix time in s"),
        (["01/01/2026", "01/02/2026", "01/03/2026", "01/04/2026"], "month before day"),
        (pd.Categorical(DAYS.astype("str")), ""),
    ],
    ids=range(11),
)
def test_times_of_every_make_are_read(times: Any, note: str) -> None:
    table = as_table(pd.DataFrame({"day": times, "y": Y}), "day")

    assert table.frame["day"].tolist() == DAYS.tolist()
    assert note in "".join(table.notes)


@pytest.mark.parametrize(
    ("numbers", "first"),
    [([1990, 1991, 1992, 1993], "1990-01-01"), ([202601, 202602, 202603, 202604], "2026-01-01")],
)
def test_years_and_months_as_numbers_are_read(numbers: list[int], first: str) -> None:
    table = as_table(pd.DataFrame({"when": numbers, "y": Y}), "when")

    assert table.frame["when"].iloc[0] == pd.Timestamp(first)


def test_the_day_comes_first_where_no_month_is_larger_than_twelve() -> None:
    table = as_table(pd.DataFrame({"day": ["30/01/2026", "31/01/2026"], "y": [0, 1]}), "day")

    assert table.frame["day"].dt.day.tolist() == [30, 31]


@pytest.mark.parametrize(
    ("texts", "days", "note"),
    [
        (["02.01.2026", "13.01.2026"], ["2026-01-02", "2026-01-13"], "day before month"),
        (["13.01.2026", "02.01.2026"], ["2026-01-13", "2026-01-02"], "day before month"),
        (["02.01.2026", "03.04.2026"], ["2026-01-02", "2026-04-03"], "day before month"),
        (["02/01/2026", "25/01/2026"], ["2026-01-02", "2026-01-25"], "day before month"),
        (["02/01/2026", "01/25/2026"], ["2026-02-01", "2026-01-25"], "month before day"),
        (["02.01.26", "13.01.26"], ["2026-01-02", "2026-01-13"], "day before month"),
        (["2.1.2026, 10:30", "13.1.2026, 09:05"], ["2026-01-02 10:30", "2026-01-13 09:05"], "day"),
        (["Jan 5, 2026", "Feb 13, 2026"], ["2026-01-05", "2026-02-13"], "is read as 2026-01-05"),
    ],
)
def test_day_and_month_stand_in_one_order_in_the_whole_column(
    texts: list[str], days: list[str], note: str
) -> None:
    times, found = as_times(pd.Series(texts, name="day"))

    assert times.tolist() == [pd.Timestamp(day) for day in days]
    assert note in found


def test_days_in_two_orders_are_refused() -> None:
    texts = ["25/01/2026", "26/01/2026", "01/27/2026", "02/03/2026"]
    with pytest.raises(ProblemError, match="found '01/27/2026', which cannot be read as a time"):
        as_times(pd.Series(texts, name="day"))


def test_times_of_a_zone_become_utc_and_the_zone_is_kept() -> None:
    local = DAYS.tz_localize("Europe/Zurich")
    table = as_table(pd.DataFrame({"day": local, "y": Y}), "day")

    assert table.timezone == "Europe/Zurich"
    assert str(table.frame["day"].dt.tz) == "UTC"
    assert (table.frame["day"] == local).all()


@pytest.mark.parametrize("name", ["day", None])
def test_an_index_of_times_is_a_column(name: str | None) -> None:
    indexed = pd.DataFrame({"y": Y}, index=DAYS.rename(name))

    assert as_table(indexed, "day").frame["day"].tolist() == DAYS.tolist()
    assert as_table(indexed).time == (name or "time")


def test_levels_of_an_index_are_columns() -> None:
    index = pd.MultiIndex.from_product([["a", "b"], DAYS[:2]], names=["shop", "day"])
    table = as_table(pd.DataFrame({"y": Y}, index=index), "day")

    assert sorted(table.frame.columns) == ["day", "shop", "y"]


def test_without_a_name_the_only_column_of_dates_is_the_time() -> None:
    texts = frame(text=["a1", "b2", "c3", "d4"], other=DAYS.astype("str"))

    assert as_table(frame(code=["a-1", "b-2", "c-3", "d-4"])).time == "day"
    assert time_candidates(texts) == ["day", "other"]


@pytest.mark.parametrize(
    ("table", "time", "code", "found"),
    [
        (pd.DataFrame({"a": [1.5], "y": [1]}), "", "no_time", "no column of dates.*later"),
        (frame(sent=DAYS), "", "no_time", "several columns of dates: day, sent"),
        (frame(), "dya", "missing_column", "'dya' is not a column; found day, y. Did you mean 'day'"),
        (pd.DataFrame({"day": ["x", "y"], "y": [0, 1]}), "day", "time_unreadable", "found 'x'"),
        (pd.DataFrame({"day": [0.5, 1.5], "y": [0, 1]}), "day", "time_unreadable", "found 0.5"),
        (pd.DataFrame({"day": [True, False], "y": [0, 1]}), "day", "time_unreadable", "found True"),
        (pd.DataFrame({"day": [None, None], "y": [0, 1]}), "day", "time_unreadable", "no value"),
        (frame().set_axis(["day", "day"], axis=1), "day", "column_twice", "'day' comes more than once"),
        (pd.concat({"a": frame()}, axis=1), "day", "column_names", "names of 2 levels"),
        ([1, 2], "day", "no_frame", "found builtins.list; wanted a pandas DataFrame"),
        (frame()["y"], "day", "no_frame", "found pandas.Series"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_a_table_that_cannot_be_read_is_refused_with_what_to_do(
    table: Any, time: str, code: str, found: str
) -> None:
    with pytest.raises(ProblemError, match=found) as error:
        as_table(table, time)
    assert error.value.code == code
    assert error.value.next_step or code == "missing_column"


# ---------------------------------------------------------------- other columns


@pytest.mark.parametrize(
    ("cells", "plain"),
    [
        (pd.Categorical(["a", "b", None, "a"]), ["a", "b", None, "a"]),
        (pd.Categorical([1, 2, None, 1]), [1, 2, None, 1]),
        (pd.array([True, None, False, True], dtype="boolean"), [True, None, False, True]),
        (pd.array([1, None, 3, 4], dtype="Int64"), [1, None, 3, 4]),
        (pd.array([1, None, 3, 4], dtype=pd.ArrowDtype(pa.int32())), [1, None, 3, 4]),
        (pd.array([1.5, None, 3, 4], dtype=pd.ArrowDtype(pa.float32())), [1.5, None, 3, 4]),
        (pd.array(["a", None, "b", "c"], dtype=pd.ArrowDtype(pa.string())), ["a", None, "b", "c"]),
        (pd.array([True, None, True, True], dtype=pd.ArrowDtype(pa.bool_())), [True, None, True, True]),
        ([Decimal("1.5"), None, 2, 3.5], [1.5, None, 2, 3.5]),
        ([timedelta(hours=1)] * 4, [3600.0] * 4),
        ([time(6, 30)] * 4, ["06:30:00"] * 4),
        (["a", 1, None, 2.5], ["a", "1", None, "2.5"]),
        (pd.arrays.SparseArray([0, 0, 1, 0]), [0, 0, 1, 0]),
        ([date(2026, 1, 1)] * 4, [pd.Timestamp("2026-01-01")] * 4),
        ([None] * 4, [None] * 4),
    ],
    ids=range(15),
)  # fmt: skip
def test_columns_of_every_make_keep_their_cells(cells: Any, plain: list[object]) -> None:
    column, _ = plain_column(pd.Series(cells, dtype=None if hasattr(cells, "dtype") else "object"))

    assert column is not None
    assert [None if pd.isna(v) else v for v in column] == plain


@pytest.mark.parametrize("cells", [[[1]] * 4, [{"a": 1}] * 4, np.array([1j] * 4)], ids=range(3))
def test_a_column_that_no_model_can_read_is_left_out_with_a_note(cells: Any) -> None:
    table = as_table(frame(odd=cells), "day")

    assert "odd" not in table.frame.columns
    assert "column 'odd': left out" in table.notes[0]


def test_names_that_are_no_texts_become_texts() -> None:
    table = as_table(pd.DataFrame({0: DAYS, 1: Y}), "0")

    assert list(table.frame.columns) == ["0", "1"]
    assert "converted to texts" in table.notes[0]


def test_the_callers_frame_is_unchanged() -> None:
    given = frame(kind=pd.Categorical(["a", "b", "a", "b"])).set_index("day")
    before = given.copy(deep=True)

    as_table(given, "day")

    pd.testing.assert_frame_equal(given, before)
