"""The source of a problem, opened: a database, files or a Python function."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from automl.history.sources.base import Source
from automl.history.sources.callables import CallableSource
from automl.history.sources.databases import open_database
from automl.history.sources.files import FileSource
from automl.problem import Problem
from automl.workspace import Workspace

__all__ = ["open_source"]


def open_source(
    problem: Problem,
    workspace: Workspace,
    query: str,
    bound: Mapping[str, datetime],
    *,
    before: Mapping[str, Any] | None = None,
) -> Source:
    """Open the source that `problem.history` names.

    `bound` are the parameters of the query, `before` is the state that the last pull recorded.

    Raises
    ------
    UnreachableError, ProblemError, HistoryError
        The source is not there; the URL or callable is wrong; a right is missing.
    """
    h = problem.history
    if h.source:
        return open_database(problem, workspace, query, bound)
    if h.files:
        return FileSource(problem=problem, workspace=workspace, before=before or {})
    return CallableSource(problem=problem, workspace=workspace, bound=bound)
