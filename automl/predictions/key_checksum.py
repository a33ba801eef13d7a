"""A set of keys as one number, so that sets of millions are compared without keeping them in memory.

The number is the sum of a 64-bit hash per key, modulo 2**64, with the count of keys. It does not depend
on the order; a missing, foreign or duplicate key changes it. Assumes keys that were not chosen to
collide; two random sets of equal size agree once in 2**64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["KeySum", "hash_keys", "sum_keys"]


@dataclass(frozen=True, slots=True)
class KeySum:
    """Number of keys and sum of their hashes.

    >>> str(KeySum(2, 255) + KeySum(1, 1))
    '3:0000000000000100'
    """

    rows: int = 0
    total: int = 0

    def __add__(self, other: KeySum) -> KeySum:
        return KeySum(self.rows + other.rows, (self.total + other.total) % 2**64)

    def __str__(self) -> str:
        return f"{self.rows}:{self.total:016x}"


def sum_keys(frame: pd.DataFrame, key: Sequence[str]) -> KeySum:
    """The keys of some rows as one number; the sums of pieces add up to that of the whole."""
    hashes = hash_keys(frame, key)
    return KeySum(len(hashes), int(hashes.sum(dtype="uint64")))


def hash_keys(frame: pd.DataFrame, key: Sequence[str]) -> NDArray[np.uint64]:
    """One hash per row, independent of the dtype that stores integers, numbers, times or texts."""
    plain = pd.DataFrame({name: _plain(frame[name]) for name in key})
    return np.asarray(pd.util.hash_pandas_object(plain, index=False).to_numpy("uint64"))


def _plain(column: pd.Series) -> NDArray[Any]:
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.to_numpy("datetime64[us]").astype("int64")
    if pd.api.types.is_integer_dtype(column):
        return column.to_numpy("int64")
    if pd.api.types.is_float_dtype(column):
        return column.to_numpy("float64")
    return column.astype("str").to_numpy("object")
