"""The kinds of columns, and which kind the cells of a first pull suggest.

A feature is a number, a text or a time; keys and class labels may also be whole numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "ARROW",
    "EXACT",
    "Column",
    "ColumnKind",
    "ColumnKinds",
    "infer_key",
    "infer_kind",
    "infer_label",
    "is_exact",
    "loses_digits",
    "objects",
    "whole_number",
]

ColumnKind = Literal["number", "text", "time", "whole"]  # whole: int64, only keys and class labels
ColumnKinds = Mapping[str, ColumnKind]
Column: TypeAlias = pa.Array | pd.Series
EXACT = 2**53  # the largest whole number up to which a float counts without gaps
ARROW: Mapping[ColumnKind, pa.DataType] = {
    "number": pa.float64(),
    "text": pa.string(),
    "time": pa.timestamp("us"),
    "whole": pa.int64(),
}
_LEADING_ZERO = re.compile(r"^-?0\d")  # 007 is a code, not the number 7
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")  # fits int64


def infer_kind(column: Column) -> ColumnKind:
    """The kind that a feature's cells suggest; an empty column is a number.

    Examples
    --------
    >>> infer_kind(pd.Series(["1.5", "2"])), infer_kind(pd.Series(["007", "008"]))
    ('number', 'text')
    """
    if isinstance(column, pa.Array):
        kind = column.type
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return "time"
        if pa.types.is_integer(kind):
            return "number" if pc.all(is_exact(column), min_count=0).as_py() else "text"
        if pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            return "number"
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            column = pc.unique(column)
    values = objects(column).dropna()
    if all(isinstance(v, (int, float, Decimal, np.number, np.bool_)) for v in values):
        return "text" if values.map(loses_digits).any() else "number"
    dates = pd.api.types.infer_dtype(values) in ("datetime", "datetime64", "date")
    return "time" if dates else _infer_text(values)


def _infer_text(values: pd.Series) -> ColumnKind:
    """Texts may spell numbers or times; codes such as 007, and ids too long for a float, stay text."""
    text = values.map(_readable).astype("str")
    numbers = pd.to_numeric(text, errors="coerce")
    if numbers.notna().all() and not text.str.match(_LEADING_ZERO).any():
        return "text" if text.map(loses_digits).any() else "number"
    if text.str.match(r"^\d{4}-\d{2}-\d{2}").all():
        times = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
        return "text" if times.isna().any() else "time"
    return "text"


def _readable(value: object) -> str:
    """The value as text; half a surrogate pair, which no text may hold, becomes a question mark."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def infer_key(column: Column, *, loose: bool) -> ColumnKind:
    """Whole numbers or text; `loose`: the source returns only texts, as CSV files do."""
    if isinstance(column, pa.Array) and pa.types.is_signed_integer(column.type):
        return "whole" if column.null_count < len(column) else "text"
    values = objects(column)
    if not len(values) or values.isna().all():
        return "text"
    if values.isna().any():  # rows without a key are set aside later
        values = values.dropna()
    if not loose and values.map(lambda v: isinstance(v, str)).any():
        return "text"
    if loose:
        fits = values.map(lambda v: isinstance(v, str) and bool(_WHOLE.fullmatch(v)))
    else:
        fits = values.map(lambda v: whole_number(v) is not None)
    return "whole" if fits.all() else "text"


def infer_label(column: Column) -> ColumnKind:
    """Class labels: whole numbers, also when they come as text; everything else as text."""
    unique = column.unique() if isinstance(column, pd.Series) else pc.unique(column)
    unique = unique if isinstance(unique, pa.Array) else pd.Series(unique, dtype="object")
    values = objects(unique).dropna()
    return "whole" if len(values) and all(whole_number(v) is not None for v in values) else "text"


# ---------------------------------------------------------------- cells


def objects(column: Column) -> pd.Series:
    """A column as plain objects; whole numbers stay whole if cells are missing."""
    if isinstance(column, pd.Series):
        if isinstance(column.dtype, pd.CategoricalDtype):
            return column.astype("object")
        return column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values = column.to_pandas(integer_object_nulls=True)
    return values.astype("object") if pd.api.types.is_string_dtype(values) else values


def loses_digits(value: object) -> bool:
    """Whether a whole number, or its text, would lose digits as a float.

    Examples
    --------
    >>> loses_digits(2**53 + 1), loses_digits("12")
    (True, False)
    """
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{16,}", value.strip()):
        value = int(value)
    return isinstance(value, int) and abs(value) > EXACT


def is_exact(column: pa.Array) -> pa.Array:
    """Whether each whole number is exact as a float."""
    below = pc.less_equal(column, EXACT)
    return pc.and_(below, pc.greater_equal(column, -EXACT)) if _signed(column.type) else below


def _signed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_signed_integer(kind))


def whole_number(value: object) -> int | None:
    """The value as an int64; None if it is not a whole number, or a code such as 007."""
    if isinstance(value, str):
        if _WHOLE.fullmatch(value):
            return int(value)
        try:
            return whole_number(float(value)) if not _LEADING_ZERO.match(value) else None
        except ValueError:
            return None
    if not isinstance(value, (int, float, Decimal, np.number, np.bool_)):
        return None
    number = float(value)
    return int(value) if number.is_integer() and abs(int(value)) < 2**63 else None
