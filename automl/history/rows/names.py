"""Refuse column names and types that no pull accepts; find placeholder times; describe corrected cells.

Callers first remove the rows that are not known yet; nothing here reads them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from datetime import time, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from automl.errors import ProblemError
from automl.history.rows.kinds import Column
from automl.history.rows.local_time import AMBIGUOUS, SKIPPED, utc_naive
from automl.history.rows.roles import ROW_ID, ignored
from automl.problem import Problem

__all__ = [
    "UPDATED",
    "bad_type",
    "correction_warnings",
    "placeholder_times",
    "refuse_names",
    "refuse_type",
]

UPDATED = "__updated_at"  # column with the time of a row's last change, which orders its versions
SHOWN = 5  # texts that a message shows
_NESTED = (list, tuple, set, dict, np.ndarray, timedelta, time)
_WORDS: Mapping[str, str] = {
    "infinite": "infinite numbers are read as missing",
    "nul": "texts contained NUL bytes, which were removed",
    "shortened": "texts were cut to a million characters",
    "no_date": "placeholder dates such as 0001-01-01 or 9999-12-31 are read as missing",
    "gap_text": "cells of numbers or times hold {texts}, read as missing; the contract lists these texts under "
    "gaps [gap_text]",
    "same_row": "rows repeat another row exactly and were dropped",
    AMBIGUOUS: "local times occur twice in {zone}, where the clock goes back; read as the second pass "
    "[ambiguous_time]",
    "two_passes": "rows share their key within the hour that the clock repeats; the first row of each pair is "
    "read as the first pass, the other as the second [two_passes]",
    SKIPPED: "local times do not exist in {zone}, where the clock goes forward; read with the offset before "
    "the change [skipped_time]",
}


def refuse_names(problem: Problem, names: Sequence[str]) -> None:
    """Raise ProblemError for names that differ only in case or Unicode form, and for reserved names.

    Databases treat `Size` and `size`, or `Größe` in two Unicode forms, as the same name.
    """
    seen: dict[str, str] = {}
    for name in names:
        if name in ignored(problem):
            continue
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            raise ProblemError(
                f"columns {other!r} and {name!r} differ only in case or in their Unicode form; "
                "wanted distinct names",
                code="names_collide",
                next_step="Rename one of them in history.query, or list it in history.ignore.",
            )
    reserved = [UPDATED] if problem.history.key else [UPDATED, ROW_ID]
    taken = [name for name in names if name in reserved]
    if taken:
        raise ProblemError(
            f"column {taken[0]!r}: this name is reserved; wanted another name",
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
        raise bad_type(name, found)


def bad_type(name: str, found: str) -> ProblemError:
    """The error for a column whose type holds neither numbers, texts nor times."""
    return ProblemError(
        f"column {name!r}: found {found}; wanted numbers, texts or times",
        code="bad_type",
        next_step="Cast it in history.query, or list it in history.ignore.",
    )


def placeholder_times(stamps: NDArray[np.datetime64], zone: str) -> NDArray[np.bool_]:
    """Times that programs write where they have none: the year 1, and 1970-01-01 00:00 in UTC or `zone`.

    Assumes that no row became true in that very second; such a row is set aside.
    """
    began = pd.Timestamp("1970-01-01")
    epochs = {began, utc_naive(began.tz_localize(zone).to_pydatetime())}
    epoch = np.isin(stamps, np.array([e.to_datetime64() for e in epochs], "datetime64[us]"))
    return np.asarray(epoch | (stamps < np.datetime64("0002-01-01", "us")))


def correction_warnings(
    corrections: Mapping[tuple[str, str], int], gaps: Mapping[str, Collection[str]], *, zone: str
) -> list[str]:
    """One line per column and reason for the corrected cells.

    `gaps` are the texts of each column that are read as missing, `zone` is that of naive times.
    """
    return [
        (f"column {name!r}: " if name else "")
        + f"{count} {_WORDS[why].format(zone=zone, texts=_listed(gaps.get(name, ())))}"
        for (why, name), count in sorted(corrections.items())
        if count
    ]


def _listed(texts: Collection[str]) -> str:
    shown = ", ".join(map(repr, sorted(texts)[:SHOWN]))
    return f"{shown} and {len(texts) - SHOWN} others" if len(texts) > SHOWN else shown
