"""Texts that programs write where a number or a time is missing: NA, NULL, -, #N/A.

Only in columns whose other cells are numbers or times are they gaps; elsewhere they may be categories, as NA is
Namibia. A first pull finds them, the contract lists them from then on.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from automl.history.rows.kinds import Column, infer_kind, objects

__all__ = ["GAPS", "find_gaps", "unused_text", "without_gaps", "without_texts"]

# in lower case: what pandas, R, SQL tools, Excel, SAS and statistical offices write
GAPS = frozenset(
    {
        "", "na", "n/a", "#n/a", "#n/a n/a", "#na", "<na>", "n.a.", "nan", "-nan", "nat", "null", "(null)", "nil",
        "none", "\\n", "-", "--", "---", "–", "—", "?", ".", "..", "...",
        "#null!", "#value!", "#div/0!", "#ref!", "#num!", "#name?", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
    }
)  # fmt: skip
# a number with separators between its digits, or a sign or unit around it, that is not read as a number
_MARKED = r"(?!-?\d+\.?\d*$)\W{0,2}(?:\d{1,3}(?:[., '’\u00a0\u202f]\d{3})+|\d+)(?:[.,]\d+)?\s?(?:\W|[A-Za-z]{1,3})?"
SHOWN = 3  # texts that a message shows
MOSTLY = 0.5  # share of numbers from which on the other texts of a column are shown
LOOKED_AT = 10_000  # distinct texts


def find_gaps(column: Column) -> NDArray[np.bool_]:
    """Which cells hold a text that means a gap."""
    if isinstance(column, pa.Array):
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            return np.zeros(len(column), dtype=bool)
        plain = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        found = pc.is_in(plain, pa.array(sorted(GAPS), column.type))
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)
    if column.dtype != "object" and not pd.api.types.is_string_dtype(column):
        return np.zeros(len(column), dtype=bool)
    return np.array([isinstance(v, str) and v.strip().lower() in GAPS for v in column], dtype=bool)


def without_gaps(column: Column) -> Column:
    """The column without its gaps, to infer its kind; unchanged if nothing else would be left."""
    gaps = find_gaps(column)
    if not gaps.any():
        return column
    rest = column.filter(pa.array(~gaps)) if isinstance(column, pa.Array) else column[~gaps]
    return rest if objects(rest).notna().any() else column


def without_texts(column: Column, texts: Collection[str]) -> Column:
    """The cells; those with one of these texts are missing."""
    if not texts:
        return column
    if isinstance(column, pa.Array):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return pc.if_else(pc.is_in(column, pa.array(sorted(texts), column.type)), None, column)
        return column
    return column.where(~column.isin(list(texts)), None)


def unused_text(column: Column) -> str:
    """Why a column of nearly unique texts is not used; shows what keeps it from being numbers."""
    unique = pc.unique(column) if isinstance(column, pa.Array) else pd.Series(column.unique())
    texts = objects(unique).dropna()[:LOOKED_AT].astype("str")
    numbers = pd.to_numeric(texts, errors="coerce").notna().to_numpy(bool)
    if texts.str.fullmatch(_MARKED).mean() >= MOSTLY:  # the texts themselves may be phone numbers
        return "nearly unique text; most are numbers with other marks, such as 1,234.50 or 12 %: convert them, or declare history.decimal"
    if numbers.all() or numbers.mean() < MOSTLY or infer_kind(column) != "text":
        return "nearly unique text"
    others = ", ".join(repr(t[:20]) for t in texts[~numbers][:SHOWN])
    return f"nearly unique text; most are numbers, others such as {others}"
