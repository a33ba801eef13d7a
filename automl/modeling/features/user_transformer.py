"""A user's own columns: a transformer in a file, fitted on the training rows of every origin anew."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone

from automl.errors import SpaceError
from automl.history import ColumnKind
from automl.modeling.families import load_file

__all__ = ["Columns", "kinds_of", "load_columns"]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The file and the unfitted transformer in it; travels with a model as code."""

    path: Path
    transformer: Any

    @property
    def module(self) -> str:
        """The module name under which the file is loaded, and travels with a model."""
        return f"automl_columns_{self.path.stem}"

    @property
    def digest(self) -> str:
        """Changes with the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    def fit_transform(self, frame: pd.DataFrame, y: NDArray[Any]) -> tuple[Any, pd.DataFrame]:
        """A fitted copy, and the training rows it made.

        Raises
        ------
        SpaceError
            The transformer raises, or what it makes is not a DataFrame of as many rows.
        """
        fitted = clone(self.transformer)
        try:
            made = fitted.fit(frame, y).transform(frame)
        except Exception as error:
            raise SpaceError(
                f"{self.path}: transformer raised {type(error).__name__}: {error}",
                code="columns_raise",
                next_step=f"Mend {self.path.name}; it gets the columns {', '.join(frame.columns[:6])} ...",
            ) from error
        if not isinstance(made, pd.DataFrame) or len(made) != len(frame):
            found = type(made).__name__
            rows = f" of {len(made)} rows" if isinstance(made, pd.DataFrame) else ""
            raise SpaceError(
                f"{self.path}: transform() made a {found}{rows}; wanted a DataFrame of {len(frame)} rows",
                code="columns_wrong",
                next_step="Return a DataFrame with a row for every row given, in the same order.",
            )
        return fitted, made


def load_columns(path: Path | None) -> Columns | None:
    """The transformer of that file; None without a file.

    Raises
    ------
    SpaceError
        The file raises, or defines no `transformer` that can be cloned.
    """
    if path is None:
        return None
    module = load_file(path, f"automl_columns_{path.stem}", "columns", "automl check FILE")
    transformer = getattr(module, "transformer", None)
    if not (isinstance(transformer, BaseEstimator) and isinstance(transformer, TransformerMixin)):
        raise SpaceError(
            f"{path}: found no `transformer`; wanted one of scikit-learn's kind, "
            "a subclass of TransformerMixin and BaseEstimator",
            code="no_columns",
        )
    return Columns(path, transformer)


def kinds_of(frame: pd.DataFrame) -> Mapping[str, ColumnKind]:
    """ColumnKinds by column of made rows: numbers and booleans, times, and the rest as text."""
    kinds: dict[str, ColumnKind] = {}
    for name, dtype in frame.dtypes.items():
        if pd.api.types.is_numeric_dtype(dtype):
            kinds[str(name)] = "number"
        else:
            kinds[str(name)] = "time" if pd.api.types.is_datetime64_any_dtype(dtype) else "text"
    return kinds
