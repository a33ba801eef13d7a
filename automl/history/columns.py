"""Columns of one kind each, whatever the source said; nothing about a row depends on another row."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Literal

import numpy as np
import pandas as pd

from automl.errors import HistoryError
from automl.problem import Problem

__all__ = [
    "FIRST",
    "ROW_ID",
    "Kind",
    "Kinds",
    "also_named",
    "canonical",
    "ignored",
    "learning_only",
    "parse_times",
    "require",
    "utc_naive",
]

Kind = Literal["number", "text", "time"]
Kinds = Mapping[str, Kind]
ROW_ID = "row_id"
_LEADING_ZERO = re.compile(r"^-?0\d")  # 007 is a code, not the number 7
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")  # fits int64
_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "boolean")  # pandas' names
# no zone can move a placeholder such as 9999-12-31 23:59 off the calendar once it is clipped to these
FIRST, LAST = pd.Timestamp("0001-01-02"), pd.Timestamp("9999-12-30")


def utc_naive(moment: datetime) -> pd.Timestamp:
    """A moment as frames hold it: UTC without zone."""
    stamp = pd.Timestamp(moment)
    return stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo else stamp


def ignored(problem: Problem) -> set[str]:
    """Columns that are not read at all; a column with a role is ignored as a feature anyway."""
    h = problem.history
    return {*h.ignore} - {h.target, h.time, h.label_time, h.updated_at, h.weight, *h.key, *h.group}


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
    return named | {f"metric.slices {s!r}": s for s in problem.metric.slices}


def require(frame: pd.DataFrame, *roles: Mapping[str, str]) -> None:
    """Raise HistoryError, naming every column of the given roles that is missing."""
    wanted = {role: name for group in roles for role, name in group.items()}
    missing = {role: name for role, name in wanted.items() if name not in frame.columns}
    if missing:
        found = ", ".join(map(str, frame.columns))
        lines = "; ".join(f"{role}: column {name!r} is missing" for role, name in missing.items())
        raise HistoryError(
            f"{lines}; found {found}",
            code="missing_column",
            next_step="Bring the column back, or change the problem file.",
        )


def parse_times(column: pd.Series, zone: str, name: str, *, nulls: bool = False) -> pd.Series:
    """Times as naive UTC; raises HistoryError if they cannot be read, or are empty without `nulls`."""
    kind = pd.api.types.infer_dtype(column)  # of gaps only: floating or empty
    if column.notna().any() and (kind in _NUMBERS or kind == "mixed-integer"):
        raise HistoryError(f"{name}: found numbers; wanted dates or times", code="bad_time")
    try:
        times = _parsed(column, zone)
    except (ValueError, TypeError, OverflowError) as error:
        raise HistoryError(
            f"{name}: cannot be read as times in {zone}: {str(error).splitlines()[0]}",
            code="bad_time",
            next_step="Wanted ISO 8601; a local time that a clock change skips or repeats has no meaning.",
        ) from error
    if not nulls and times.isna().any():
        raise HistoryError(
            f"{name}: found {int(times.isna().sum())} empty times; wanted none", code="null_time"
        )
    return times


def _parsed(column: pd.Series, zone: str) -> pd.Series:
    """UTC without zone; times that name their offset are taken at their word, the others are local."""
    if not _is_time(column):
        behind_date = column.astype("str").str.slice(10)
        offset = behind_date.str.contains("[Zz+-]", na=False).astype(bool)
        if offset.any() and not offset.all():
            parts = [_parsed(column[rows], zone) for rows in (offset, ~offset)]
            return pd.concat(parts).reindex(column.index)
        column = pd.to_datetime(column, format="ISO8601", utc=bool(offset.any()))
    if column.dt.tz is None:
        column = column.astype("datetime64[us]").clip(FIRST, LAST).dt.tz_localize(zone)
    return column.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[us]")


def _is_time(column: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(column)


def canonical(frame: pd.DataFrame, problem: Problem, kinds: Kinds | None) -> pd.DataFrame:
    """Columns in name order, each of one kind; rows in time and key order."""
    h = problem.history
    if kinds is not None:
        missing = [name for name in kinds if name not in frame.columns]
        if missing:
            raise HistoryError(
                f"column {', '.join(map(repr, missing))} vanished; found {', '.join(frame.columns)}",
                code="missing_column",
                next_step="Bring the column back, or delete it from the contract file and retrain.",
            )
        frame = frame[[name for name in frame.columns if name in kinds]]
    fixed: dict[str, Kind] = {**(kinds or {}), h.weight: "number", h.time: "time"}
    out: dict[str, pd.Series] = {}
    for name in sorted(map(str, frame.columns)):
        if name in h.key and name != h.time:
            out[name] = _as_key(frame[name])
        elif name == h.target and problem.task != "regression":
            out[name] = _as_label(frame[name])
        else:
            out[name] = _cast(frame[name], fixed.get(name) or _infer(frame[name]), name)
    result = pd.DataFrame(out)
    if not h.key:
        later = [name for name in learning_only(problem) if name in result.columns]
        result = result.sort_values(later, kind="stable") if later else result
        result[ROW_ID] = _row_ids(result.drop(columns=later))
    order = [h.time, *(k for k in h.key or (ROW_ID,) if k != h.time)]
    result = result.sort_values(order, kind="stable", ignore_index=True)
    return _unique(result, problem)


def _infer(column: pd.Series) -> Kind:
    if _is_time(column):
        return "time"
    values = column.dropna()
    numeric = (int, float, Decimal, np.number, np.bool_)
    if pd.api.types.is_numeric_dtype(column) or all(
        issubclass(t, numeric) for t in set(map(type, values))
    ):
        return "number"  # also where all is empty: that says nothing, and a number can hold gaps
    text = values.astype("str")
    numbers = pd.to_numeric(text, errors="coerce")
    if numbers.notna().all() and not text.str.match(_LEADING_ZERO).any():
        return "number"
    if text.str.match(r"^\d{4}-\d{2}-\d{2}").all() and not _bad_times(text):
        return "time"
    return "text"


def _bad_times(text: pd.Series) -> bool:
    return bool(pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce").isna().any())


def _cast(column: pd.Series, kind: Kind, name: str) -> pd.Series:
    if kind == "number":
        numbers = _numbers(column)
        lost = column.notna().to_numpy() & np.isnan(numbers)
        if lost.any() and (lost := lost & ~_is_nan(column)).any():
            raise HistoryError(
                f"column {name!r}: found {int(lost.sum())} values that are no numbers; wanted numbers",
                code="kind_changed",
                next_step="Mend the source, or change the column's kind in the contract file.",
            )
        return pd.Series(np.where(np.isinf(numbers), np.nan, numbers), index=column.index)
    if kind == "time":
        return parse_times(column, "UTC", name, nulls=True)
    return _text(column)


def _numbers(column: pd.Series) -> np.ndarray:
    if "date" in pd.api.types.infer_dtype(column):
        return np.full(len(column), np.nan)  # pandas would count nanoseconds
    source = column.astype("object") if pd.api.types.is_string_dtype(column) else column
    return (
        pd.to_numeric(source, errors="coerce")
        .astype("Float64")
        .to_numpy("float64", na_value=np.nan)
    )


def _text(column: pd.Series) -> pd.Series:
    if pd.api.types.is_float_dtype(column):  # whole numbers beside gaps: 7, not 7.0
        plain = [
            int(v) if float(v).is_integer() else v
            for v in column.to_numpy("float64", na_value=np.nan)
        ]
        column = pd.Series(plain, index=column.index, dtype="object")
    return column.astype("str").where(column.notna()) if column.dtype != "str" else column


def _is_nan(column: pd.Series) -> np.ndarray:
    return column.map(lambda v: isinstance(v, float) and math.isnan(v)).to_numpy(dtype=bool)


def _as_key(column: pd.Series) -> pd.Series:
    """Whole numbers as int64 whatever type the source gave them, everything else as text."""
    if column.notna().all() and pd.api.types.infer_dtype(column) in _NUMBERS:
        values = column.tolist()
        if all(float(v).is_integer() and abs(v) < 2**63 for v in values):
            return pd.Series([int(v) for v in values], index=column.index, dtype="int64")
    return _text(column)


def _as_label(column: pd.Series) -> pd.Series:
    """Whole numbers as int64, also when they come as text; everything else as text."""
    kind = pd.api.types.infer_dtype(column)
    coded = kind == "string" and column.astype("str").str.match(_LEADING_ZERO).any()
    numbers = (
        _numbers(column) if kind in ("string", *_NUMBERS) and not coded else np.array([np.nan])
    )
    if not np.isfinite(numbers).all():
        return _text(column)
    whole = (numbers == numbers.round()).all()
    return pd.Series(
        numbers.astype("int64") if whole else numbers.astype("str"), index=column.index
    )


def _row_ids(frame: pd.DataFrame) -> pd.Series:
    """Content hash and occurrence: equal rows are told apart by number, in any order alike."""
    content = pd.util.hash_pandas_object(frame, index=False)
    occurrence = content.groupby(content).cumcount()
    return content.map("{:016x}".format).astype("str") + "-" + occurrence.astype("str")


def _unique(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    key = list(problem.history.key or (ROW_ID,))
    if not frame.duplicated(key).any():
        return frame
    frame = frame.drop_duplicates(ignore_index=True)  # the same row twice is one row
    clash = frame.duplicated(key, keep=False)
    if clash.any():
        example = frame.loc[clash, key].head(1).to_dict("records")[0]
        raise HistoryError(
            f"history.key {key}: found {int(clash.sum())} rows that share a key but differ, "
            f"for example {example}; wanted one row per key",
            code="duplicate_key",
            next_step="Return one row per key, or name updated_at so that the newest version wins.",
        )
    return frame
