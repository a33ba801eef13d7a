"""Rows of a Python function of (as_of, until[, since]) that returns a DataFrame.

The function runs in a process of its own: it may exit, crash or print, and the command goes on. It may take as
long as it needs; Ctrl-C ends it.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from automl.processes import UserCodeError, UserProcess
from automl.workspace import Workspace

__all__ = ["CallableSource", "try_function"]

IMPORT_SECONDS = 60.0  # for a check; a module that needs longer hangs


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
    until: float = float("inf")  # monotonic moment at which its process is killed
    _frame: pd.DataFrame | None = None
    _process: UserProcess = field(init=False)

    def __post_init__(self) -> None:
        self._process = UserProcess(prints=True, path=self.workspace.root)
        names = self._there(_parameters)
        self.incremental = "since" in names and bool(self.problem.history.key)

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
                next_step="Let the function return the same columns at every call, empty where there is no value.",
            )
        for start in range(0, len(frame), base.CHUNK_ROWS):
            part = frame.iloc[start : start + base.CHUNK_ROWS].reset_index(drop=True)
            yield {name: _without_categories(part[name]) for name in names}

    def close(self) -> None:
        """Forget the frame, and end the process."""
        self._frame = None
        self._process.close()

    def _call(self, since: Since | None) -> pd.DataFrame:
        arguments: dict[str, Any] = {
            "as_of": self.bound["as_of"],
            "until": self.bound.get("until"),
        }
        if self.incremental:
            edges = [] if since is None else [e for e in (since.time, since.changed) if e]
            arguments["since"] = min(edges) if edges else None
        frame: pd.DataFrame = self._there(_rows, arguments)
        return frame

    def _there(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function below returns in the other process."""
        try:
            return self._process.call(function, self.problem, *arguments, until=self.until)
        except UserCodeError as error:
            hidden = self.problem.history.personal and error.raised  # its text may quote a cell
            raise HistoryError(
                f"history.python {self.problem.history.python!r}: "
                f"{error.raised if hidden else error}; wanted a DataFrame",
                code="source_raises",
                next_step="Let the function return its rows, or raise an exception that says why not.",
            ) from (None if hidden else error)


def try_function(problem: Problem, workspace: Workspace) -> None:
    """Import the function that `history.python` names, in a process of its own; nothing is called.

    Raises
    ------
    ProblemError, HistoryError
        There is no such function, or its module raises, exits, crashes or hangs.
    """
    source = CallableSource(
        problem=problem, workspace=workspace, bound={}, until=time.monotonic() + IMPORT_SECONDS
    )
    source.close()


def _parameters(problem: Problem) -> list[str]:
    """Names of the function's parameters; called in its process."""
    return list(inspect.signature(_function(problem)).parameters)


def _rows(problem: Problem, arguments: Mapping[str, Any]) -> pd.DataFrame:
    """What the function returns; called in its process."""
    function = _function(problem)
    try:
        frame = function(**arguments)
    except Exception as error:
        cause = None if problem.history.personal else error  # it may quote a cell
        if isinstance(error, ProblemError) and cause:
            raise
        raise _failure(error, problem) from cause
    if not isinstance(frame, pd.DataFrame):
        raise HistoryError(
            f"history.python {problem.history.python!r} returned {type(frame).__name__}; "
            "wanted a DataFrame",
            code="python",
            next_step="Let the function return its rows as a pandas DataFrame.",
        )
    return frame


def _function(problem: Problem) -> Any:
    module_name, _, function = problem.history.python.partition(":")
    try:
        return getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise _no_function(problem, str(error)) from error
    except Exception as error:  # noqa: BLE001  a user's module may raise anything
        cause = None if problem.history.personal else error
        raise _failure(error, problem) from cause


def _failure(error: Exception, problem: Problem) -> AutomlError:
    """The error of the user's function as ours; without values of personal columns."""
    entry, text = problem.history.python, error_text(error, problem=problem)
    if isinstance(error, ImportError):
        return _no_function(problem, text)
    if isinstance(error, OSError):
        return UnreachableError(
            f"history.python {entry!r}: {text}",
            code="source_unreachable",
            next_step="Start what the function reads, then run the same command again.",
        )
    named = "" if problem.history.personal else f"{type(error).__name__}: "
    return HistoryError(
        f"history.python {entry!r} raised {named}{text}",
        code="source_raises",
        next_step="Fix the function; the line that raised is shown with --debug.",
    )


def _no_function(problem: Problem, text: str) -> ProblemError:
    return ProblemError(
        f"history.python {problem.history.python!r}: {text}; "
        "wanted module:function, the module next to the problem file",
        code="python",
        next_step='Name a function in a file next to the problem file, such as python = "rows:fetch".',
    )


def _without_categories(column: pd.Series) -> Column:
    return column.astype("object") if isinstance(column.dtype, pd.CategoricalDtype) else column
