"""Cells that a driver returns as Python objects, as an Arrow array where they are of one type."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pandas as pd
import pyarrow as pa

from automl.history.rows.kinds import Column

__all__ = ["typed_cells"]


def typed_cells(values: Sequence[Any]) -> Column:
    """An Arrow array if all cells are of one type, else the objects themselves."""
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError):
        return pd.Series(list(values), dtype="object")
    if pa.types.is_timestamp(array.type) and array.type.tz:
        # pandera sets PYARROW_IGNORE_TIMEZONE, under which Arrow reads every local time as UTC
        array = pa.array([v and v.astimezone(UTC) for v in values], pa.timestamp("us", "UTC"))
    plain = not (pa.types.is_nested(array.type) or pa.types.is_binary(array.type))
    return array if plain else pd.Series(list(values), dtype="object")
