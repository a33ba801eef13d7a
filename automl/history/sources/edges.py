"""Whether a query finds the rows at the edges of its window, where it uses a bound in a way that may miss them.

A bound compared with a column directly is safe. Through a common table expression, an arithmetic or a function
of the bound or of the column it may be rounded, or a text among others: then the rows near the edges are read once
more with bounds that lie two days outside, and a query that leaves rows of the window out is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from automl.errors import HistoryError
from automl.history.rows.casting import as_times
from automl.history.rows.kinds import Column, objects
from automl.history.rows.local_time import utc_naive
from automl.history.sources.base import Since
from automl.history.sources.parameters import Use, uses
from automl.problem import Problem

__all__ = ["WIDE", "doubtful", "refuse_lost_rows"]

Reader: TypeAlias = Callable[[str, Since, Mapping[str, datetime]], list[Column]]
SPARE = timedelta(days=2)  # no spelling or zone moves a time by more
WIDE = "_wide"  # the end of the name of a bound that lies outside
_OF_TIME = re.compile(r"(?i)(?:date|datetime|strftime|unixepoch|julianday)\(.*\)", re.DOTALL)
_NAME = re.compile(r'(?:[\w.]|"[^"]*"|\[[^\]]*\]|`[^`]*`)+')
_PLAIN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?")  # as SQL functions write times


def doubtful(query: str, time: str, *, backend: str) -> list[Use]:
    """Uses of bounds that may compare times wrongly where they are texts or numbers."""

    def safe(use: Use) -> bool:
        if use.shifted:  # on purpose
            return True
        if backend == "postgresql":  # typed
            return use.bare or use.compared
        if backend == "sqlite":  # written as the column holds it
            return use.bare and not ("(" in use.operand and _time_column(query, use, time))
        return use.bare and _last(use.operand) != time

    return [use for use in uses(query) if not safe(use)]


def refuse_lost_rows(
    problem: Problem,
    bound: Mapping[str, datetime],
    query: str,
    found: Sequence[Use],
    read: Reader,
    *,
    backend: str,
) -> None:
    """Refuse a query whose doubtful uses of bounds leave rows of the window out.

    `read` returns the cells of the time column that a query finds in a window; its last argument are further
    bounds.

    Raises
    ------
    HistoryError
        With bounds outside the window the query finds more rows of it.
    """
    upper = bound.get("until", bound["as_of"])
    outside = {
        f"{name}{WIDE}": moment + SPARE if moment >= upper else moment - SPARE
        for name, moment in bound.items()
    }
    columns = [_time_column(query, use, problem.history.time) for use in found]
    direct = any(columns)
    if backend != "sqlite":  # there a column of texts is compared with a bound as the query says
        columns = [""] * len(found)
    for window in _windows(bound):
        wide = read(_widened(query, found, columns), window, outside)
        if not direct and _is_written_plainly(wide, found):
            continue
        zone = problem.history.timezone
        times = _times(read(query, window, {}), zone, window), _times(wide, zone, window)
        if len(times[1]) > len(times[0]):
            example = next((c for column in wide for c in _untyped(column)), None)
            raise _lost(problem, *times, example=example, batch=len(bound) > 1)


def _time_column(query: str, use: Use, time: str) -> str:
    """The time column, or the one that the query calls so, as what a bound is compared with names it."""
    alias = rf"(?i)({_NAME.pattern})\s+as\s+[\"`\[]?{re.escape(time)}\b"
    known = {time, *(_last(name) for name in re.findall(alias, query))}
    names = _NAME.findall(re.sub("'[^']*'", "", use.operand))
    return next((name for name in names if _last(name) in known), "")


def _last(name: str) -> str:
    return name.rpartition(".")[2].strip('"`[]')


def _widened(query: str, found: Sequence[Use], columns: Sequence[str]) -> str:
    """The query with these bounds under another name, compared with the column where a date function of it was."""
    edits: dict[tuple[int, int], str] = {}
    for use, column in zip(found, columns, strict=True):
        bound = f":{use.name}{WIDE}"
        if column and (column == use.operand or _OF_TIME.fullmatch(use.operand)):
            edits |= {use.operand_at: column, use.whole: bound}
        else:
            edits[use.start, use.end] = bound
    for (start, end), text in sorted(edits.items(), reverse=True):
        query = f"{query[:start]}{text}{query[end:]}"
    return query


def _windows(bound: Mapping[str, datetime]) -> list[Since]:
    """The edges of the declared window: the last two days of it, and of a batch the first two."""
    as_of, until = bound["as_of"], bound.get("until", bound["as_of"])
    if until == as_of:
        return [Since(as_of - SPARE, until=as_of)]
    return [
        Since(as_of, until=min(as_of + SPARE, until)),
        Since(max(as_of, until - SPARE), until=until),
    ]


def _times(columns: Iterable[Column], zone: str, window: Since) -> pd.Series:
    """The times inside the window, sorted."""
    found = [as_times(column, zone).cells.to_numpy(zero_copy_only=False) for column in columns]
    times = pd.Series(np.concatenate([*found, np.array([], "datetime64[us]")]))
    assert window.until is not None
    inside = (times >= utc_naive(window.time)) & (times < utc_naive(window.until))
    return times[inside].sort_values(ignore_index=True)


def _is_written_plainly(columns: Iterable[Column], found: Sequence[Use]) -> bool:
    """Whether bounds compare right with all these cells: typed times, or texts as functions write them."""
    texts = [cell for column in columns for cell in _untyped(column)]
    if all(use.compared for use in found):  # as texts of any form
        return all(isinstance(cell, str) for cell in texts)
    return all(isinstance(cell, str) and _PLAIN.fullmatch(cell) for cell in texts)


def _untyped(column: Column) -> Iterator[object]:
    if isinstance(column, pa.Array) and pa.types.is_temporal(column.type):
        return iter(())
    cells = objects(column).dropna()
    return iter(() if pd.api.types.is_datetime64_any_dtype(cells) else cells.tolist())


def _lost(
    problem: Problem, inside: pd.Series, wide: pd.Series, *, example: object, batch: bool
) -> HistoryError:
    """The error for a query that returns fewer rows of the window than with bounds outside it."""
    missing = wide[~wide.isin(inside)]
    missing = missing if len(missing) else wide
    first, last = f"{missing.min():%Y-%m-%d %H:%M}", f"{missing.max():%Y-%m-%d %H:%M}"
    name = problem.history.time
    key = "batch.query" if batch and problem.batch.query else "history.query"
    return HistoryError(
        f"{key}: leaves out {len(wide) - len(inside)} rows of the window, with {name} from {first} to {last} UTC; "
        f"{name} holds values such as {example!r}, which the query compares with a bound in another form or rounds",
        code="query_bounds",
        next_step=f"Compare the column with the bound itself, such as {name} < :as_of; on other databases than "
        "SQLite cast the column to a timestamp.",
    )
