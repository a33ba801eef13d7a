"""A DataFrame of any make as a plain table: text column names, one time column, no index to lose.

Nothing here guesses what a column means. What was changed on the way is listed in `Table.notes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from automl.errors import ProblemError
from automl.problem import did_you_mean

__all__ = ["Table", "as_table", "as_times", "listed", "plain_column", "time_candidates"]

UNREADABLE = 0.01  # share of times that may be unreadable; the pull sets such rows aside
SHOWN = 12  # columns that a message lists
# day, month and year in an order that the whole column has to show; then perhaps a time
_DATE = re.compile(
    r"^\s*(?P<first>\d{1,2})(?P<mark>[./-])(?P<second>\d{1,2})[./-](?P<year>\d{4}|\d{2})(?P<rest>[ T,].*)?\s*$"
)
LOOKED_AT = 200  # cells of a text column that are tried as times
# Whole numbers that are read as times: lowest and highest value, and how
EPOCHS = {"s": 10**9, "ms": 10**12, "us": 10**15, "ns": 10**18}  # from September 2001 on
YEARS = (1800, 2200)
NESTED = (list, tuple, set, dict, np.ndarray)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A frame with plain columns; `time` holds times without zone in UTC, or with the zone UTC."""

    frame: pd.DataFrame
    time: str
    timezone: str = "UTC"
    notes: tuple[str, ...] = field(default=())


def as_table(frame: Any, time: str = "") -> Table:
    """The frame as a table; without `time` its only column of dates is taken.

    Raises
    ------
    ProblemError
        It is no DataFrame, its column names are not unique, or its times cannot be read.
    """
    frame, notes = _named(frame, time)
    chosen = str(time) if time not in (None, "") else _only_times(frame)
    if chosen not in frame.columns:
        raise ProblemError(
            f"time {chosen!r} is not a column; found {listed(frame.columns)}"
            f"{did_you_mean(chosen, list(frame.columns))}",
            code="missing_column",
        )
    columns: dict[str, pd.Series] = {}
    for name in frame.columns:
        column, note = plain_column(frame[name]) if name != chosen else as_times(frame[name])
        if column is not None:
            columns[name] = column
        if note:
            notes.append(f"column {name!r}: {note}")
    zone = _zone(columns[chosen])
    plain = pd.DataFrame({n: _in_utc(c) for n, c in columns.items()}, index=frame.index)
    return Table(frame=plain, time=chosen, timezone=zone, notes=tuple(notes))


def time_candidates(frame: pd.DataFrame) -> list[str]:
    """Columns that hold dates or times, or texts that spell them."""
    return [str(n) for n in frame.columns if _holds_times(frame[n])]


def listed(names: Iterable[object]) -> str:
    """Names for a message; the first twelve of many."""
    texts = [str(n) for n in names]
    rest = len(texts) - SHOWN
    return ", ".join(texts[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


# ---------------------------------------------------------------- names


def _named(frame: Any, time: str) -> tuple[pd.DataFrame, list[str]]:
    """The frame with unique text names and a plain index; an index that means something as columns."""
    if not isinstance(frame, pd.DataFrame):
        kind = f"{type(frame).__module__.partition('.')[0]}.{type(frame).__name__}"
        convert = "frame.to_pandas()" if hasattr(frame, "to_pandas") else "pandas.DataFrame(...)"
        raise ProblemError(
            f"found {kind}; wanted a pandas DataFrame",
            code="no_frame",
            next_step=f"Convert it: {convert}",
        )
    if isinstance(frame.columns, pd.MultiIndex):
        raise ProblemError(
            f"found column names of {frame.columns.nlevels} levels; wanted one text per column",
            code="column_names",
            next_step='Join them: frame.columns = ["_".join(map(str, c)) for c in frame.columns]',
        )
    notes = []
    frame = _with_index(frame, time)
    if not all(isinstance(n, str) for n in frame.columns):
        notes.append("column names that are no texts were converted to texts")
        frame = frame.set_axis([str(n) for n in frame.columns], axis=1)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ProblemError(
            f"column {twice[0]!r} comes more than once; wanted unique names",
            code="column_twice",
            next_step="Rename one of them, or drop it: frame.loc[:, ~frame.columns.duplicated()]",
        )
    return frame.reset_index(drop=True), notes


def _with_index(frame: pd.DataFrame, time: str) -> pd.DataFrame:
    index = frame.index
    if isinstance(index, pd.MultiIndex) or index.name is not None:
        names = [n for n in index.names if n is not None and n not in frame.columns]
        return frame.reset_index(level=names) if names else frame
    if isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex)):
        name = str(time or "time")
        return frame if name in frame.columns else frame.rename_axis(name).reset_index()
    return frame


# ---------------------------------------------------------------- times


def _only_times(frame: pd.DataFrame) -> str:
    found = time_candidates(frame)
    typed = [n for n in found if pd.api.types.is_datetime64_any_dtype(frame[n].dtype)]
    if len(found) == 1 or len(typed) == 1:
        return found[0] if len(found) == 1 else typed[0]
    which = f"several columns of dates: {listed(found)}" if found else "no column of dates"
    example = found[0] if found else "day"
    raise ProblemError(
        f"time: found {which}; wanted the column that says when each row became true. Models are "
        "validated on rows later than those they learn from",
        code="no_time",
        next_step=f'Name it: try_table(frame, target=..., time="{example}"). '
        + ("" if found else f"Columns are {listed(frame.columns)}. ")
        + "A table without any such column cannot be tried.",
    )


def _holds_times(column: pd.Series) -> bool:
    kind = column.dtype
    if pd.api.types.is_datetime64_any_dtype(kind) or isinstance(kind, pd.PeriodDtype):
        return True
    if pd.api.types.is_numeric_dtype(kind) or isinstance(kind, pd.CategoricalDtype):
        return False
    cells = column.dropna().head(LOOKED_AT)
    if not len(cells):
        return False
    if all(isinstance(v, date) for v in cells):
        return True
    texts = cells[[isinstance(v, str) and any(c.isdigit() for c in v) for v in cells]].astype("str")
    if len(texts) < len(cells) or not texts.str.contains(r"\d[-/.: ]\d").all():
        return False
    return bool(_parsed(texts)[0].notna().all())


def as_times(column: pd.Series) -> tuple[pd.Series, str]:
    """Times, and how they were read if that is not plain."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        times, note = _numpy_times(column), ""
    elif isinstance(column.dtype, pd.PeriodDtype):
        times, note = column.dt.to_timestamp(), "periods are read as their start"
    elif pd.api.types.is_bool_dtype(column.dtype):
        times, note = pd.Series(pd.NaT, column.index), ""
    elif pd.api.types.is_numeric_dtype(column.dtype):
        times, note = _numeric_times(column)
    else:
        values = column.astype("object")
        times, note = _parsed(values)
    lost = column.notna() & times.isna()
    if lost.mean() > UNREADABLE or times.isna().all():
        example = repr(column[lost].tolist()[0]) if lost.any() else "no value"
        raise ProblemError(
            f"time {column.name!r}: found {example}, which cannot be read as a time "
            f"({int(lost.sum())} of {len(column)} rows); wanted dates such as 2026-03-02",
            code="time_unreadable",
            next_step=f"Convert it first: frame[{column.name!r}] = "
            f"pandas.to_datetime(frame[{column.name!r}], format=...)",
        )
    return times, note


def _parsed(values: pd.Series) -> tuple[pd.Series, str]:
    """Texts and date objects as times; day and month stand in one order in the whole column."""
    texts = values.astype("str")
    utc = bool(texts.str.slice(10).str.contains(r"[Zz+]|-\d", na=False).any())
    best, note = _read(values, utc, format="ISO8601"), ""
    if best[values.notna()].notna().all():
        return best, note
    parts = texts.str.extract(_DATE)
    if parts["first"].notna().sum() > best.notna().sum():
        day_first = _day_first(parts)
        year, rest = parts["year"], parts["rest"].fillna("").str.replace(r"^,\s*", " ", regex=True)
        year = year.where(year.str.len() == 4, "20" + year)
        month, day = ("second", "first") if day_first else ("first", "second")
        iso = year + "-" + parts[month].str.zfill(2) + "-" + parts[day].str.zfill(2) + rest
        times = _read(iso.where(values.notna()), utc, format="ISO8601")
        order = "day before month" if day_first else "month before day"
        return times, f"{values.dropna().tolist()[0]!r} is read with the {order}"
    times = _read(values, utc, format="mixed")
    if times.notna().sum() > best.notna().sum():
        best, note = times, f"{values.dropna().tolist()[0]!r} is read as {times.dropna().iloc[0]}"
    return best, note


def _day_first(parts: pd.DataFrame) -> bool:
    """Whether the day comes first: a number above twelve shows it, else the mark; `1/2/2026` is January's."""
    first, second = (pd.to_numeric(parts[n]) for n in ("first", "second"))
    if (first > 12).sum() != (second > 12).sum():
        return bool((first > 12).sum() > (second > 12).sum())
    return bool((parts["mark"] != "/").mean() > 0.5)


def _read(values: pd.Series, utc: bool, **how: Any) -> pd.Series:
    try:
        times = pd.to_datetime(values, errors="coerce", utc=utc, **how)
    except (ValueError, TypeError, OverflowError):
        return pd.Series(pd.NaT, values.index)
    if pd.api.types.is_datetime64_any_dtype(times.dtype):
        return times
    return pd.Series(pd.NaT, values.index)


def _numeric_times(column: pd.Series) -> tuple[pd.Series, str]:
    """Years, months, days and Unix times that are written as whole numbers."""
    numbers = column.astype("Float64")
    present = numbers.dropna()
    nothing = pd.Series(pd.NaT, column.index)
    if not len(present) or (present % 1 != 0).any():
        return nothing, ""
    low, high = float(present.min()), float(present.max())
    first, last = YEARS
    for digits, form, what in (
        (1, "%Y", "years"),
        (100, "%Y%m", "months"),
        (10_000, "%Y%m%d", "days"),
    ):
        if first * digits <= low and high < last * digits:
            texts = numbers.astype("Int64").astype("str").where(numbers.notna())
            return _read(texts, utc=False, format=form), f"whole numbers are read as {what}"
    for unit, least in EPOCHS.items():
        if least <= low and high < 10 * least:
            whole = numbers.astype("Int64")
            return pd.to_datetime(whole, unit=unit, errors="coerce"), f"Unix time in {unit}"
    return nothing, ""


def _numpy_times(column: pd.Series) -> pd.Series:
    """Times of numpy's or pandas' own type; Arrow's are converted."""
    if not isinstance(column.dtype, pd.ArrowDtype):
        return column
    zone = getattr(column.dtype.pyarrow_dtype, "tz", None)
    return pd.Series(
        column.astype("object"), dtype=f"datetime64[us, {zone}]" if zone else "datetime64[us]"
    )


def _zone(times: pd.Series) -> str:
    """The zone whose days and hours the times are meant in; UTC of naive ones and of mere offsets."""
    zone = getattr(times.dt.tz, "key", None) or getattr(times.dt.tz, "zone", None)
    return str(zone) if zone else "UTC"


def _in_utc(column: pd.Series) -> pd.Series:
    aware = isinstance(column.dtype, pd.DatetimeTZDtype)
    return column.dt.tz_convert("UTC") if aware else column


# ---------------------------------------------------------------- other columns

Converted = tuple[pd.Series | None, str]


def plain_column(column: pd.Series) -> Converted:
    """The column as numbers, texts or times, and what was done; None if it can be none of them."""
    for applies, convert in _CONVERSIONS:
        if applies(column.dtype):
            return convert(column)
    return column, ""


def _of_categories(column: pd.Series) -> Converted:
    return plain_column(column.astype("object"))


def _of_arrow(column: pd.Series) -> Converted:
    kind = column.dtype.kind
    if kind == "M":
        return _numpy_times(column), ""
    plain = {"b": "boolean", "i": "Int64", "u": "UInt64", "f": "float64", "m": "timedelta64[us]"}
    return plain_column(column.astype(plain.get(kind, "object")))


def _of_objects(column: pd.Series) -> Converted:
    kinds = {type(v) for v in column.dropna()}
    if not kinds:
        return column.astype("float64"), ""
    for classes, convert in _OBJECTS:
        if all(issubclass(k, classes) for k in kinds):
            return convert(column)
    if any(issubclass(k, NESTED) for k in kinds):
        return None, "left out, it holds lists or other nested values"
    return column.map(str, na_action="ignore"), "values of several types are read as texts"


def _as_seconds(column: pd.Series) -> Converted:
    return pd.to_timedelta(column).dt.total_seconds(), "durations are read as seconds"


def _as_texts(column: pd.Series) -> Converted:
    return column.astype("object").map(str, na_action="ignore"), ""


# By type of a column, the first that applies
_CONVERSIONS: tuple[tuple[Callable[[Any], bool], Callable[[pd.Series], Converted]], ...] = (
    (lambda t: isinstance(t, pd.CategoricalDtype), _of_categories),
    (lambda t: isinstance(t, pd.SparseDtype), lambda c: (c.sparse.to_dense(), "")),
    (lambda t: isinstance(t, pd.PeriodDtype), lambda c: (c.dt.to_timestamp(), "")),
    (lambda t: isinstance(t, pd.ArrowDtype), _of_arrow),
    (lambda t: isinstance(t, pd.IntervalDtype), _as_texts),
    (pd.api.types.is_timedelta64_dtype, _as_seconds),
    (pd.api.types.is_complex_dtype, lambda _: (None, "left out, it holds complex numbers")),
    (lambda t: t == "object", _of_objects),
)
# By type of all cells of a column of objects
_OBJECTS: tuple[tuple[Any, Callable[[pd.Series], Converted]], ...] = (
    (str, lambda c: (c, "")),
    ((bool, np.bool_), lambda c: (c.astype("boolean"), "")),
    (
        (int, float, Decimal, np.number),
        lambda c: (c.map(float, na_action="ignore").astype("float64"), ""),
    ),
    (date, lambda c: (_read(c, utc=False), "dates are read as times")),
    (timedelta, _as_seconds),
    (bytes, lambda c: (c, "")),
    (time, _as_texts),
)
