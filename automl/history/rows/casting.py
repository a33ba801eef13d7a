"""Columns of one kind each, whatever the source said; nothing about a row depends on another row.

A source hands over columns as Arrow arrays where it knows their type, else as plain Python objects.
Here they become one of four kinds, with a mask of the cells that do not fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from automl.errors import HistoryError
from automl.history.rows.local_time import FIRST, LAST, Counts, local_to_utc, utc_naive
from automl.problem import Problem

__all__ = [
    "ROW_ID",
    "Cast",
    "Column",
    "Kind",
    "Kinds",
    "also_named",
    "as_kind",
    "as_times",
    "ignored",
    "infer_key",
    "infer_kind",
    "infer_label",
    "learning_only",
    "objects",
    "require",
    "unread",
    "utc_naive",
]

Kind = Literal["number", "text", "time", "whole"]  # whole: int64, only keys and class labels
Kinds = Mapping[str, Kind]
Column: TypeAlias = pa.Array | pd.Series
ROW_ID = "row_id"
EXACT = 2**53  # the largest whole number up to which a float counts without gaps
LONGEST_CELL = 1_000_000  # characters of a text that are kept
ARROW: Mapping[Kind, pa.DataType] = {
    "number": pa.float64(),
    "text": pa.string(),
    "time": pa.timestamp("us"),
    "whole": pa.int64(),
}
_LEADING_ZERO = re.compile(r"^-?0\d")  # 007 is a code, not the number 7
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")  # fits int64
_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "boolean")  # pandas' names


class Cast(NamedTuple):
    """A column of one kind: its cells, which of them did not fit, and the first complaint.

    `mended` counts cells that were changed to fit, or read one of two ways: code -> cells.
    """

    cells: pa.Array
    bad: NDArray[np.bool_]
    detail: str = ""
    mended: Counts = ()


# ---------------------------------------------------------------- which columns


def ignored(problem: Problem) -> set[str]:
    """Columns that no feature is made of; a column with a role is ignored as a feature anyway."""
    h = problem.history
    roles = {h.target, h.time, h.label_time, h.updated_at, h.weight, *h.key, *h.group}
    return {*h.ignore} - roles


def unread(problem: Problem) -> set[str]:
    """Columns that never leave the source: ignored ones, personal ones that are no key, and the nameless."""
    h = problem.history
    return ignored(problem) | ({*h.personal} - {*h.key}) | {""}


def learning_only(problem: Problem) -> list[str]:
    """Columns that a row to predict does not have, or does not need."""
    h = problem.history
    names = (h.target, h.label_time, h.weight, *h.group)
    return [name for name in names if name and name not in (h.time, *h.key)]


def also_named(problem: Problem) -> dict[str, str]:
    """Columns that the problem file names beside time and target: role -> column."""
    h = problem.history
    named = {f"history.key {k!r}": k for k in h.key} | {f"history.group {g!r}": g for g in h.group}
    for role in ("updated_at", "label_time", "weight"):
        if getattr(h, role):
            named[f"history.{role}"] = getattr(h, role)
    named |= {f"metric.slices {s!r}": s for s in problem.metric.slices}
    # a typing mistake here would let a personal column through
    return named | {f"history.personal {p!r}": p for p in h.personal}


def require(names: list[str], *roles: Mapping[str, str]) -> None:
    """Raise HistoryError, naming every column of the given roles that is missing."""
    wanted = {role: name for group in roles for role, name in group.items()}
    missing = {role: name for role, name in wanted.items() if name not in names}
    if missing:
        lines = "; ".join(f"{role}: column {name!r} is missing" for role, name in missing.items())
        raise HistoryError(
            f"{lines}; found {', '.join(names)}",
            code="missing_column",
            next_step="Bring the column back, or change the problem file.",
        )


# ---------------------------------------------------------------- times


def as_times(column: Column, zone: str) -> Cast:
    """Times as timestamp[us], UTC without zone; a gap stays a gap.

    Times that name their offset are taken at their word, the others are local to `zone`; `mended` counts
    those that a clock change repeats or skips.
    """
    if isinstance(column, pa.Array) and pa.types.is_temporal(column.type):
        typed = _arrow_times(column, zone)
        if typed is not None:
            return typed
    values = objects(column)
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if values.notna().any() and (kind in _NUMBERS or kind.startswith("mixed-integer")):
        number = values.map(lambda v: isinstance(v, (int, float, Decimal, np.number))).to_numpy(
            bool
        )
        number = number & values.notna().to_numpy(bool)
        rest = as_times(values.where(~number, None).astype("object"), zone)
        detail = "found numbers; wanted dates or times"
        return rest._replace(bad=rest.bad | number, detail=detail)
    try:
        (times, mended), detail = _parsed(values, zone, "raise"), ""
    except (ValueError, TypeError, OverflowError) as error:
        detail = f"cannot be read as times in {zone}: {str(error).splitlines()[0]}"
        readable = values.map(lambda v: isinstance(v, (str, date, np.datetime64)))
        times, mended = _parsed(values.where(readable.astype(bool), None), zone, "coerce")
    bad = (times.isna() & values.notna()).to_numpy(bool)
    return Cast(_cells(times), bad, detail, mended)


def _arrow_times(column: pa.Array, zone: str) -> Cast | None:
    if pa.types.is_time(column.type) or pa.types.is_duration(column.type):
        return None
    aware = pa.types.is_timestamp(column.type) and column.type.tz is not None
    cells = column.cast(pa.timestamp("us", "UTC" if aware else None), safe=False)
    cells = cells.cast(pa.timestamp("us"))
    if not aware and zone != "UTC":  # by pandas: Arrow knows no clock change after 2037
        times, mended = local_to_utc(cells.to_pandas(), zone)
        return Cast(_cells(times), _none(column), mended=mended)
    for clip, limit in ((pc.max_element_wise, FIRST), (pc.min_element_wise, LAST)):
        cells = clip(cells, pa.scalar(limit.to_pydatetime(), pa.timestamp("us")), skip_nulls=False)
    return Cast(cells, _none(column))


def _parsed(
    column: pd.Series, zone: str, errors: Literal["raise", "coerce"]
) -> tuple[pd.Series, Counts]:
    if not pd.api.types.is_datetime64_any_dtype(column):
        offset = column.astype("str").str.slice(10).str.contains("[Zz+-]", na=False).astype(bool)
        if offset.any() and not offset.all():
            aware, _ = _parsed(column[offset], zone, errors)
            local, mended = _parsed(column[~offset], zone, errors)
            return pd.concat([aware, local]).reindex(column.index), mended
        column = pd.to_datetime(column, format="ISO8601", utc=bool(offset.any()), errors=errors)
    if column.dt.tz is None:
        return local_to_utc(column, zone)
    return column.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[us]"), ()


def _cells(times: pd.Series) -> pa.Array:
    return pa.array(times.astype("datetime64[us]"), type=pa.timestamp("us"), from_pandas=True)


# ---------------------------------------------------------------- kinds


def as_kind(column: Column, kind: Kind, zone: str = "UTC") -> Cast:
    """The column as `kind`; infinite numbers and NaN are gaps."""
    if kind == "time":
        return _as_dates(as_times(column, zone))
    if kind == "number":
        return _as_number(column)
    return _as_whole(column) if kind == "whole" else _as_text(column)


def _as_dates(times: Cast) -> Cast:
    """Times, those at the ends of the calendar as gaps: nobody means them."""
    clipped = pc.or_(pc.less_equal(times.cells, FIRST), pc.greater_equal(times.cells, LAST))
    count = pc.sum(clipped).as_py()
    if not count:
        return times
    cells = pc.if_else(clipped, None, times.cells)
    return times._replace(cells=cells, mended=(*times.mended, ("no_date", count)))


def _as_number(column: Column) -> Cast:
    if isinstance(column, pa.Array):
        kind = column.type
        if pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
            return _finite(column.cast(pa.float64()), _none(column))
        if pa.types.is_integer(kind):
            if kind.bit_width <= 32:
                return Cast(column.cast(pa.float64()), _none(column))
            exact = _exact(column)
            bad = pc.fill_null(pc.invert(exact), False).to_numpy(zero_copy_only=False)
            kept = pc.if_else(exact, column, None) if bad.any() else column
            return Cast(kept.cast(pa.float64()), bad, _no_numbers())
        if pa.types.is_null(kind):
            return Cast(column.cast(pa.float64()), _none(column))
    values = objects(column)
    numbers = _numbers(values)
    lost = values.notna().to_numpy(bool) & np.isnan(numbers)
    inexact = np.abs(numbers) >= EXACT  # the next whole number is rounded to it
    if inexact.any():
        inexact &= values.map(_inexact).to_numpy(bool)
        lost |= inexact
        numbers = np.where(inexact, np.nan, numbers)
    return _finite(pa.array(numbers, from_pandas=True), lost)


def _inexact(value: object) -> bool:
    """Whether a whole number, or the text of one, would lose digits as a float."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{16,}", value.strip()):
        value = int(value)
    return isinstance(value, int) and abs(value) > EXACT


def _exact(column: pa.Array) -> pa.Array:
    """Whether each whole number can be told from its neighbours as a float."""
    below = pc.less_equal(column, EXACT)
    return pc.and_(below, pc.greater_equal(column, -EXACT)) if _signed(column.type) else below


def _signed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_signed_integer(kind))


def _no_numbers() -> str:
    return "values that are no numbers; wanted numbers"


def _finite(numbers: pa.Array, bad: NDArray[np.bool_]) -> Cast:
    finite = pc.is_finite(numbers)
    if pc.all(finite, skip_nulls=True, min_count=0).as_py():
        return Cast(numbers, bad, _no_numbers())
    infinite = pc.sum(pc.is_inf(numbers)).as_py() or 0
    mended = (("infinite", infinite),) if infinite else ()
    return Cast(pc.if_else(finite, numbers, None), bad, _no_numbers(), mended)


def _numbers(column: pd.Series) -> NDArray[np.float64]:
    if "date" in pd.api.types.infer_dtype(column):
        return np.full(len(column), np.nan)  # pandas would count nanoseconds
    found = pd.to_numeric(column, errors="coerce").astype("Float64")
    return np.asarray(found.to_numpy("float64", na_value=np.nan))


def _as_text(column: Column) -> Cast:
    if isinstance(column, pa.Array):
        kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return _tidy(column.cast(pa.string()), _none(column))
        if pa.types.is_integer(kind) or pa.types.is_null(kind):
            return Cast(column.cast(pa.string()), _none(column))
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            cells = [_decoded(v) for v in column.to_pylist()]
            bad = np.array([c is None for c in cells]) & column.is_valid().to_numpy(False)
            return _tidy(pa.array(cells, pa.string()), bad)
    values = objects(column)
    if pd.api.types.is_float_dtype(values):  # whole numbers beside gaps: 7, not 7.0
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
    """Texts of bearable length, without NUL bytes, which no database would store."""
    mended = []
    if (pc.max(pc.binary_length(cells)).as_py() or 0) > LONGEST_CELL:
        count = pc.sum(pc.greater(pc.utf8_length(cells), LONGEST_CELL)).as_py()
        cells = pc.utf8_slice_codeunits(cells, 0, LONGEST_CELL)
        mended += [("shortened", count)] if count else []
    data = cells.buffers()[2]
    if data is not None and not np.frombuffer(data, dtype=np.uint8).all():
        held = pc.sum(pc.match_substring(cells, "\0")).as_py()
        cells = pc.replace_substring(cells, "\0", "") if held else cells
        mended += [("nul", held)] if held else []
    return Cast(cells, bad, "bytes that are no UTF-8 text", tuple(mended))


def _as_whole(column: Column) -> Cast:
    if isinstance(column, pa.Array):
        kind = column.type
        if pa.types.is_boolean(kind) or (pa.types.is_integer(kind) and kind != pa.uint64()):
            return Cast(column.cast(pa.int64()), _none(column))
    values = objects(column)
    cells = [None if gap else _whole(v) for v, gap in zip(values, values.isna(), strict=True)]
    bad = np.array([c is None for c in cells], dtype=bool) & values.notna().to_numpy(bool)
    return Cast(pa.array(cells, pa.int64()), bad, "values that are no whole numbers")


def _whole(value: object) -> int | None:
    if isinstance(value, str):
        if _WHOLE.fullmatch(value):
            return int(value)
        try:
            return _whole(float(value)) if not _LEADING_ZERO.match(value) else None
        except ValueError:
            return None
    if not isinstance(value, (int, float, Decimal, np.number, np.bool_)):
        return None
    number = float(value)
    return int(value) if number.is_integer() and abs(int(value)) < 2**63 else None


def objects(column: Column) -> pd.Series:
    """A column as plain objects, whole numbers kept whole beside gaps."""
    if isinstance(column, pd.Series):
        if isinstance(column.dtype, pd.CategoricalDtype):
            return column.astype("object")
        return column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values = column.to_pandas(integer_object_nulls=True)
    return values.astype("object") if pd.api.types.is_string_dtype(values) else values


def _none(column: pa.Array) -> NDArray[np.bool_]:
    return np.zeros(len(column), dtype=bool)


# ---------------------------------------------------------------- inference, once per problem


def infer_kind(column: Column) -> Kind:
    """The kind that a feature's cells suggest; a column without any cell is a number."""
    if isinstance(column, pa.Array):
        kind = column.type
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return "time"
        if pa.types.is_integer(kind):
            return "number" if pc.all(_exact(column), min_count=0).as_py() else "text"
        if pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            return "number"
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            column = pc.unique(column)
    values = objects(column).dropna()
    if all(isinstance(v, (int, float, Decimal, np.number, np.bool_)) for v in values):
        return "text" if values.map(_inexact).any() else "number"
    dates = pd.api.types.infer_dtype(values) in ("datetime", "datetime64", "date")
    return "time" if dates else _infer_text(values)


def _infer_text(values: pd.Series) -> Kind:
    """Texts may spell numbers or times; codes such as 007 and longer ids than floats hold do not."""
    text = values.map(lambda v: v if isinstance(v, str) else str(v)).astype("str")
    numbers = pd.to_numeric(text, errors="coerce")
    if numbers.notna().all() and not text.str.match(_LEADING_ZERO).any():
        return "text" if text.map(_inexact).any() else "number"
    if text.str.match(r"^\d{4}-\d{2}-\d{2}").all():
        times = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
        return "text" if times.isna().any() else "time"
    return "text"


def infer_key(column: Column, *, loose: bool) -> Kind:
    """Whole numbers or text; `loose`: the source writes everything as text, as CSV does."""
    if isinstance(column, pa.Array) and pa.types.is_signed_integer(column.type):
        return "whole" if column.null_count < len(column) else "text"
    values = objects(column)
    if not len(values) or values.isna().all():
        return "text"
    if values.isna().any():  # such rows have no key and are told so
        values = values.dropna()
    if not loose and values.map(lambda v: isinstance(v, str)).any():
        return "text"
    if loose:
        fits = values.map(lambda v: isinstance(v, str) and bool(_WHOLE.fullmatch(v)))
    else:
        fits = values.map(lambda v: _whole(v) is not None)
    return "whole" if fits.all() else "text"


def infer_label(column: Column) -> Kind:
    """Class labels: whole numbers, also when they come as text; everything else as text."""
    unique = pc.unique(column) if isinstance(column, pa.Array) else pd.Series(column.unique())
    values = objects(unique).dropna()
    return "whole" if len(values) and all(_whole(v) is not None for v in values) else "text"
