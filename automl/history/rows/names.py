"""Names and types that no pull takes, times that stand for nothing, and words for cells that were mended.

Nothing here looks at a row that may not be known; the caller has left those out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import time, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from automl.errors import ProblemError
from automl.history.rows.casting import ROW_ID, Column, ignored, utc_naive
from automl.history.rows.local_time import AMBIGUOUS, SKIPPED
from automl.problem import Problem

__all__ = ["UPDATED", "corrected_words", "no_moment", "refuse_names", "refuse_type"]

UPDATED = "__updated_at"  # when a row last changed, kept beside the columns to tell versions apart
_NESTED = (list, tuple, set, dict, np.ndarray, timedelta, time)
_WORDS: Mapping[str, str] = {
    "infinite": "infinite numbers are taken for gaps",
    "nul": "texts held NUL bytes, which were left out",
    "shortened": "texts longer than a million characters were cut",
    "no_date": "dates such as 0001-01-01 or 9999-12-31 are taken for gaps",
    "same_row": "rows came more than once and are kept once",
    AMBIGUOUS: "local times occur twice in {zone}, where the clock goes back; read as the second pass "
    "[ambiguous_time]",
    "two_passes": "rows share their key with the other pass of the clock over the same hour; in the order in "
    "which they came they are its first and its second pass [two_passes]",
    SKIPPED: "local times do not exist in {zone}, where the clock goes forward; read as if it had not "
    "[skipped_time]",
}


def refuse_names(problem: Problem, names: Sequence[str]) -> None:
    """Raise ProblemError for names that cannot be told apart, or that are ours.

    Databases and people take `Größe` in two spellings of Unicode, or `Size` and `size`, for one name.
    """
    seen: dict[str, str] = {}
    for name in names:
        if name in ignored(problem):
            continue
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            raise ProblemError(
                f"columns {other!r} and {name!r} differ only in case or in how Unicode spells them; "
                "wanted names that can be told apart",
                code="names_collide",
                next_step="Rename one in history.query, or name it in history.ignore.",
            )
    ours = [UPDATED] if problem.history.key else [UPDATED, ROW_ID]
    taken = [name for name in names if name in ours]
    if taken:
        raise ProblemError(
            f"column {taken[0]!r}: this name is one of ours; wanted another",
            code="name_taken",
            next_step="Rename it in history.query.",
        )


def refuse_type(name: str, column: Column) -> None:
    """Raise ProblemError if the cells are neither numbers, texts nor times."""
    found = ""
    if isinstance(column, pa.Array):
        kind = column.type
        odd = (
            pa.types.is_nested(kind)
            or pa.types.is_time(kind)
            or pa.types.is_duration(kind)
            or pa.types.is_interval(kind)
            or isinstance(kind, pa.ExtensionType)
        )
        found = getattr(kind, "type_name", str(kind)) if odd else ""
    elif column.dtype == "object":
        odd_types = {type(v) for v in column if isinstance(v, _NESTED)}
        found = ", ".join(sorted(t.__name__ for t in odd_types))
    elif pd.api.types.is_timedelta64_dtype(column):
        found = str(column.dtype)
    if found:
        raise ProblemError(
            f"column {name!r}: found {found}; wanted numbers, texts or times",
            code="bad_type",
            next_step="Cast it in history.query, or name it in history.ignore.",
        )


def no_moment(stamps: NDArray[np.datetime64], zone: str) -> NDArray[np.bool_]:
    """Times that programs write where they know none: the year 1, and the second at which Unix began.

    Assumes that no row became true in that very second; one that did is set aside.
    """
    began = pd.Timestamp("1970-01-01")
    epochs = {began, utc_naive(began.tz_localize(zone).to_pydatetime())}
    standing = np.isin(stamps, np.array([e.to_datetime64() for e in epochs], "datetime64[us]"))
    return np.asarray(standing | (stamps < np.datetime64("0002-01-01", "us")))


def corrected_words(mended: Mapping[tuple[str, str], int], zone: str) -> list[str]:
    """What was mended, one line per column and reason; `zone` is that of naive times."""
    return [
        (f"column {name!r}: " if name else "") + f"{count} {_WORDS[why].format(zone=zone)}"
        for (why, name), count in sorted(mended.items())
        if count
    ]
