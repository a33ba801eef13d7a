"""Rows of a Python function of (as_of, until[, since]) that returns a DataFrame."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from automl.errors import AutomlError, HistoryError, ProblemError, UnreachableError
from automl.history.rows.kinds import Column
from automl.history.rows.layout import Chunk
from automl.history.rows.personal import error_text
from automl.history.sources import base
from automl.history.sources.base import Since, once
from automl.problem import Problem
from automl.workspace import Workspace

__all__ = ["CallableSource"]


@dataclass(slots=True, kw_only=True)
class CallableSource:
    """The function that `history.python` names; incremental if it has a parameter `since`."""

    problem: Problem
    workspace: Workspace
    bound: Mapping[str, datetime]
    incremental: bool = False
    loose: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _frame: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        parameters = inspect.signature(self._function()).parameters
        self.incremental = "since" in parameters and bool(self.problem.history.key)

    def names(self) -> list[str]:
        """Columns of the frame."""
        if self._frame is None:
            self._frame = self._call(None)
        return once([str(c) for c in self._frame.columns])

    def chunks(self, names: Sequence[str], since: Since | None = None) -> Iterator[Chunk]:
        """Rows of the frame."""
        frame = self._frame if since is None and self._frame is not None else self._call(since)
        self._frame = frame
        frame = frame.reset_index(drop=True).set_axis(list(map(str, frame.columns)), axis=1)
        missing = [n for n in names if n not in frame.columns]
        if missing:
            raise HistoryError(
                f"history.python: column {missing[0]!r} is not in every DataFrame that the function "
                "returned; wanted the same columns at every call",
                code="missing_column",
            )
        for start in range(0, len(frame), base.CHUNK_ROWS):
            part = frame.iloc[start : start + base.CHUNK_ROWS].reset_index(drop=True)
            yield {name: _without_categories(part[name]) for name in names}

    def close(self) -> None:
        """Forget the frame."""
        self._frame = None

    def _function(self) -> Any:
        entry = self.problem.history.python
        module_name, _, function = entry.partition(":")
        with self._importable():
            try:
                return getattr(importlib.import_module(module_name), function)
            except (ImportError, AttributeError) as error:
                raise self._no_function(str(error)) from error

    def _call(self, since: Since | None) -> pd.DataFrame:
        arguments: dict[str, Any] = {
            "as_of": self.bound["as_of"],
            "until": self.bound.get("until"),
        }
        if self.incremental:
            edges = [] if since is None else [e for e in (since.time, since.changed) if e]
            arguments["since"] = min(edges) if edges else None
        function = self._function()
        with self._importable():
            try:
                frame = function(**arguments)
            except Exception as error:
                cause = None if self.problem.history.personal else error  # it may quote a cell
                if isinstance(error, ProblemError) and cause:
                    raise
                raise self._failure(error) from cause
        if not isinstance(frame, pd.DataFrame):
            raise HistoryError(
                f"history.python {self.problem.history.python!r} returned {type(frame).__name__}; "
                "wanted a DataFrame",
                code="python",
            )
        return frame.copy()

    @contextmanager
    def _importable(self) -> Iterator[None]:
        """Let the function import modules that lie next to the problem file."""
        sys.path.insert(0, str(self.workspace.root))
        try:
            yield
        finally:
            sys.path.remove(str(self.workspace.root))

    def _failure(self, error: Exception) -> AutomlError:
        """The error of the user's function as ours; without values of personal columns."""
        entry, text = self.problem.history.python, error_text(error, problem=self.problem)
        if isinstance(error, ImportError):
            return self._no_function(text)
        if isinstance(error, OSError):
            return UnreachableError(f"history.python {entry!r}: {text}", code="source_unreachable")
        named = "" if self.problem.history.personal else f"{type(error).__name__}: "
        return HistoryError(f"history.python {entry!r} raised {named}{text}", code="source_raises")

    def _no_function(self, text: str) -> ProblemError:
        return ProblemError(
            f"history.python {self.problem.history.python!r}: {text}; "
            "wanted module:function, the module next to the problem file",
            code="python",
        )


def _without_categories(column: pd.Series) -> Column:
    return column.astype("object") if isinstance(column.dtype, pd.CategoricalDtype) else column
