"""The source of a problem, opened: a database, files or a Python function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from automl.history.sources.base import Source
from automl.history.sources.callables import CallableSource
from automl.history.sources.databases import Database, database_url
from automl.history.sources.duckdb_files import DuckDatabase
from automl.history.sources.files import FileSource
from automl.problem import Problem
from automl.workspace import Workspace

__all__ = ["open_source"]

_END = re.compile(r"[\s;]*((?:\n?--[^\n]*\s*)*)\Z")  # of a query: semicolons, then comments


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
        return _open_database(problem, workspace, query, bound)
    if h.files:
        return FileSource(problem=problem, workspace=workspace, before=before or {})
    return CallableSource(problem=problem, workspace=workspace, bound=bound)


def _open_database(
    problem: Problem, workspace: Workspace, query: str, bound: Mapping[str, datetime]
) -> Database:
    """The database of `history.source`, connected, in a read-only transaction."""
    url, query = database_url(problem.history.source, workspace), _END.sub(r"\1", query)
    source: Database
    if url.get_backend_name() == "duckdb":
        source = DuckDatabase(
            problem=problem, url=url, query=query, bound=bound, folder=workspace.root
        )
    else:
        source = Database(problem=problem, url=url, query=query, bound=bound)
    try:
        source.open()
    except BaseException:
        source.close()
        raise
    return source
