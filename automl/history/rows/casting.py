"""Cast the columns of a source to one of four kinds; each cell is cast independently of other rows.

A source returns Arrow arrays where it knows the type, plain Python objects elsewhere. A cast column
comes with a mask of the cells that do not fit its kind.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from automl.history.rows.epochs import epoch_times, is_epoch_text
from automl.history.rows.kinds import (
    EXACT,
    Column,
    ColumnKind,
    is_exact,
    loses_digits,
    objects,
    whole_number,
)
from automl.history.rows.local_time import FIRST, LAST, Counts, local_to_utc

__all__ = ["Cast", "as_kind", "as_times"]

LONGEST_CELL = 1_000_000  # characters of a text; the rest is cut off
NO_NUMBERS = "values that are not numbers; wanted numbers"
_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "boolean")  # pandas' names


class Cast(NamedTuple):
    """A column cast to one kind: its cells, which of them did not fit, and why the first did not.

    `corrections` counts cells that were changed to fit, and ambiguous local times: (code, cells).
    """

    cells: pa.Array
    bad: NDArray[np.bool_]
    detail: str = ""
    corrections: Counts = ()


# ---------------------------------------------------------------- times


def as_times(column: Column, zone: str) -> Cast:
    """Times as timestamp[us] in UTC, without zone; a missing cell stays missing.

    Times without an offset are local to `zone`; `corrections` counts those that a clock change repeats or
    skips.
    """
    if isinstance(column, pa.Array) and pa.types.is_temporal(column.type):
        typed = _arrow_times(column, zone)
        if typed is not None:
            return typed
    values, detail = objects(column), ""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if values.notna().any() and (kind in _NUMBERS or kind.startswith("mixed")):
        number = values.map(lambda v: isinstance(v, (int, float, Decimal, np.number))).to_numpy(
            bool
        )
        number = number & values.notna().to_numpy(bool)
        if number.any():
            return _numbered_times(values, number, zone)
    try:
        times, corrections = _parsed(values, zone, "raise")
    except (ValueError, TypeError, OverflowError):
        spelled = values.map(is_epoch_text).to_numpy(bool)
        if spelled.any():
            return _numbered_times(values, spelled, zone)
        readable = values.map(_may_be_time)
        times, corrections = _parsed(values.where(readable.astype(bool), None), zone, "coerce")
    bad = (times.isna() & values.notna()).to_numpy(bool)
    if bad.any():
        detail = f"cannot be read as times in {zone}, such as {_shown(values[bad].iloc[0])}"
    return Cast(_cells(times), bad, detail, corrections)


def _shown(value: object) -> str:
    """A cell in a message, cut after forty characters."""
    return repr(value if len(str(value)) <= 40 else f"{str(value)[:40]}...")


def _may_be_time(value: object) -> bool:
    return isinstance(value, (date, np.datetime64)) or (
        isinstance(value, str) and _encodable(value)
    )


def _numbered_times(values: pd.Series, number: NDArray[np.bool_], zone: str) -> Cast:
    """Times of which some are numbers since 1970, or texts of such numbers."""
    found = pd.to_numeric(values[number], errors="coerce")
    plain = found if pd.api.types.is_integer_dtype(found) else found.astype("float64")
    times = epoch_times(plain.to_numpy())
    cells, bad = np.full(len(values), np.datetime64("NaT"), "datetime64[us]"), number.copy()
    cells[number], bad[number] = times, np.isnat(times)
    detail = ""
    if bad.any():
        example = _shown(values[bad].tolist()[0])
        detail = f"found numbers such as {example}; wanted dates or times, or seconds since 1970, from 1990 to 2100"
    if number.all():
        return Cast(_cells(pd.Series(cells)), bad, detail)
    rest = as_times(values.where(~number, None).astype("object"), zone)
    merged = np.where(number, cells, rest.cells.to_numpy(zero_copy_only=False))
    detail = detail or rest.detail
    return Cast(_cells(pd.Series(merged)), bad | rest.bad, detail, rest.corrections)


def _arrow_times(column: pa.Array, zone: str) -> Cast | None:
    if pa.types.is_time(column.type) or pa.types.is_duration(column.type):
        return None
    aware = pa.types.is_timestamp(column.type) and column.type.tz is not None
    cells = column.cast(pa.timestamp("us", "UTC" if aware else None), safe=False)
    cells = cells.cast(pa.timestamp("us"))
    if not aware and zone != "UTC":  # pandas, because Arrow knows no clock change after 2037
        times, corrections = local_to_utc(cells.to_pandas(), zone)
        return Cast(_cells(times), _all_fit(column), corrections=corrections)
    for clip, limit in ((pc.max_element_wise, FIRST), (pc.min_element_wise, LAST)):
        cells = clip(cells, pa.scalar(limit.to_pydatetime(), pa.timestamp("us")), skip_nulls=False)
    return Cast(cells, _all_fit(column))


def _parsed(
    column: pd.Series, zone: str, errors: Literal["raise", "coerce"]
) -> tuple[pd.Series, Counts]:
    if not pd.api.types.is_datetime64_any_dtype(column):
        offset = column.astype("str").str.slice(10).str.contains("[Zz+-]", na=False).astype(bool)
        if offset.any() and not offset.all():
            aware, _ = _parsed(column[offset], zone, errors)
            local, corrections = _parsed(column[~offset], zone, errors)
            return pd.concat([aware, local]).reindex(column.index), corrections
        column = pd.to_datetime(column, format="ISO8601", utc=bool(offset.any()), errors=errors)
    if column.dt.tz is None:
        return local_to_utc(column, zone)
    return column.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[us]"), ()


def _cells(times: pd.Series) -> pa.Array:
    return pa.array(times.astype("datetime64[us]"), type=pa.timestamp("us"), from_pandas=True)


# ---------------------------------------------------------------- kinds


def as_kind(column: Column, kind: ColumnKind, zone: str = "UTC") -> Cast:
    """The column as `kind`; infinite numbers and NaN become missing."""
    if kind == "time":
        return _as_dates(as_times(column, zone))
    if kind == "number":
        return _as_number(column)
    return _as_whole(column) if kind == "whole" else _as_text(column)


def _as_dates(times: Cast) -> Cast:
    """Times; placeholder dates at the ends of the calendar become missing."""
    clipped = pc.or_(pc.less_equal(times.cells, FIRST), pc.greater_equal(times.cells, LAST))
    count = pc.sum(clipped).as_py()
    if not count:
        return times
    cells = pc.if_else(clipped, None, times.cells)
    return times._replace(cells=cells, corrections=(*times.corrections, ("no_date", count)))


def _as_number(column: Column) -> Cast:
    if isinstance(column, pa.Array):
        kind = column.type
        if pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
            return _finite(column.cast(pa.float64()), _all_fit(column))
        if pa.types.is_integer(kind):
            if kind.bit_width <= 32:
                return Cast(column.cast(pa.float64()), _all_fit(column))
            exact = is_exact(column)
            bad = pc.fill_null(pc.invert(exact), False).to_numpy(zero_copy_only=False)
            column = pc.if_else(exact, column, None) if bad.any() else column
            return Cast(column.cast(pa.float64()), bad, NO_NUMBERS)
        if pa.types.is_null(kind):
            return Cast(column.cast(pa.float64()), _all_fit(column))
    values = objects(column)
    numbers = _numbers(values)
    lost = values.notna().to_numpy(bool) & np.isnan(numbers)
    inexact = np.abs(numbers) >= EXACT  # the next whole number is rounded to it
    if inexact.any():
        inexact &= values.map(loses_digits).to_numpy(bool)
        lost |= inexact
        numbers = np.where(inexact, np.nan, numbers)
    return _finite(pa.array(numbers, from_pandas=True), lost)


def _finite(numbers: pa.Array, bad: NDArray[np.bool_]) -> Cast:
    finite = pc.is_finite(numbers)
    if pc.all(finite, skip_nulls=True, min_count=0).as_py():
        return Cast(numbers, bad, NO_NUMBERS)
    infinite = pc.sum(pc.is_inf(numbers)).as_py() or 0
    corrections = (("infinite", infinite),) if infinite else ()
    return Cast(pc.if_else(finite, numbers, None), bad, NO_NUMBERS, corrections)


def _numbers(column: pd.Series) -> NDArray[np.float64]:
    if "date" in pd.api.types.infer_dtype(column):
        return np.full(len(column), np.nan)  # pandas would count nanoseconds
    numbers = pd.to_numeric(column, errors="coerce").astype("Float64")
    return np.asarray(numbers.to_numpy("float64", na_value=np.nan))


def _as_text(column: Column) -> Cast:
    if isinstance(column, pa.Array):
        kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return _tidy(column.cast(pa.string()), _all_fit(column))
        if pa.types.is_integer(kind) or pa.types.is_null(kind):
            return Cast(column.cast(pa.string()), _all_fit(column))
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            cells = [_decoded(v) for v in column.to_pylist()]
            bad = np.array([c is None for c in cells]) & column.is_valid().to_numpy(False)
            return _tidy(pa.array(cells, pa.string()), bad)
    values = objects(column)
    if pd.api.types.is_float_dtype(values):
        # whole numbers in a column with missing cells: 7, not 7.0
        plain = [int(v) if float(v).is_integer() else v for v in values.fillna(np.nan)]
        values = pd.Series(plain, index=values.index, dtype="object")
    texts = [None if gap else _spelled(v) for v, gap in zip(values, values.isna(), strict=True)]
    bad = np.array([t is None for t in texts], dtype=bool) & values.notna().to_numpy(bool)
    return _tidy(pa.array(texts, pa.string()), bad)


def _spelled(value: object) -> str | None:
    if isinstance(value, (bytes, memoryview)):
        return _decoded(bytes(value))
    text = str(value)
    return text if text.isascii() or _encodable(text) else None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _tidy(cells: pa.Array, bad: NDArray[np.bool_]) -> Cast:
    """Texts cut to `LONGEST_CELL`, without NUL bytes, which databases refuse."""
    corrections = []
    if (pc.max(pc.binary_length(cells)).as_py() or 0) > LONGEST_CELL:
        count = pc.sum(pc.greater(pc.utf8_length(cells), LONGEST_CELL)).as_py()
        cells = pc.utf8_slice_codeunits(cells, 0, LONGEST_CELL)
        corrections += [("shortened", count)] if count else []
    data = cells.buffers()[2]
    if data is not None and not np.frombuffer(data, dtype=np.uint8).all():
        count = pc.sum(pc.match_substring(cells, "\0")).as_py()
        cells = pc.replace_substring(cells, "\0", "") if count else cells
        corrections += [("nul", count)] if count else []
    return Cast(cells, bad, "bytes that are not UTF-8 text", tuple(corrections))


def _as_whole(column: Column) -> Cast:
    if isinstance(column, pa.Array):
        kind = column.type
        if pa.types.is_boolean(kind) or (pa.types.is_integer(kind) and kind != pa.uint64()):
            return Cast(column.cast(pa.int64()), _all_fit(column))
    values = objects(column)
    cells = [None if gap else whole_number(v) for v, gap in zip(values, values.isna(), strict=True)]
    bad = np.array([c is None for c in cells], dtype=bool) & values.notna().to_numpy(bool)
    return Cast(pa.array(cells, pa.int64()), bad, "values that are not whole numbers")


def _all_fit(column: pa.Array) -> NDArray[np.bool_]:
    return np.zeros(len(column), dtype=bool)
