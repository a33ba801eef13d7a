"""A user's own transformer in a file, fitted on the training rows of each origin."""

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
from automl.modeling.user_files import load_file

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
        """A fitted copy, and the transformed training rows.

        Raises
        ------
        SpaceError
            The transformer raises, or does not return a DataFrame with as many rows.
        """
        fitted = clone(self.transformer)
        try:
            transformed = fitted.fit(frame, y).transform(frame)
        except (Exception, SystemExit) as error:
            raise SpaceError(
                f"{self.path}: transformer raised {type(error).__name__}: {error}",
                code="columns_raise",
                next_step=f"Fix {self.path.name}; it gets the columns {', '.join(frame.columns[:6])} ...",
            ) from error
        if not isinstance(transformed, pd.DataFrame) or len(transformed) != len(frame):
            found = type(transformed).__name__
            rows = f" of {len(transformed)} rows" if isinstance(transformed, pd.DataFrame) else ""
            raise SpaceError(
                f"{self.path}: transform() returned a {found}{rows}; wanted a DataFrame of {len(frame)} rows",
                code="columns_wrong",
                next_step="Return a DataFrame with one row per input row, in the same order.",
            )
        return fitted, transformed


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
            f"{path}: found no `transformer`; wanted a scikit-learn "
            "transformer, a subclass of TransformerMixin and BaseEstimator",
            code="no_columns",
            next_step="Assign it in the file: transformer = MyTransformer()",
        )
    return Columns(path, transformer)


def kinds_of(frame: pd.DataFrame) -> Mapping[str, ColumnKind]:
    """Kinds of transformed columns: numbers and booleans, times, and the rest as text."""
    kinds: dict[str, ColumnKind] = {}
    for name, dtype in frame.dtypes.items():
        if pd.api.types.is_numeric_dtype(dtype):
            kinds[str(name)] = "number"
        else:
            kinds[str(name)] = "time" if pd.api.types.is_datetime64_any_dtype(dtype) else "text"
    return kinds
