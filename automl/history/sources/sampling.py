"""Rows of a source before there is a problem file: their kinds as a pull infers them, their times unchecked.

Of files with more rows than are kept, every second, fourth, ... row stays; of a query with more rows the newest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from sqlalchemy.sql.compiler import RESERVED_WORDS

from automl.errors import HistoryError
from automl.history.rows.casting import as_kind, as_times
from automl.history.rows.gaps import find_gaps, without_gaps
from automl.history.rows.kinds import EXACT, Column, infer_kind
from automl.history.sources import base
from automl.history.sources.databases import Database
from automl.history.sources.files import FileSource
from automl.history.sources.opening import open_source
from automl.problem import Problem
from automl.redaction import redact
from automl.workspace import Workspace

__all__ = ["Sampled", "quoted", "reads_as_times", "sample_files", "sample_query", "table_names"]

MOST_ROWS = 500_000
MOST_CELLS = 20_000_000
SQLITE_TABLES = (
    "select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite_%'"
)
TABLES = """select table_schema || '.' || table_name as name from information_schema.tables
where table_schema not in ('information_schema', 'pg_catalog')"""
NONE = "?"  # stands for columns that are not known yet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sampled:
    """Rows of a source. `every` 4: every fourth was kept; `rows` is how many the source has, None: more."""

    frame: pd.DataFrame
    rows: int | None
    every: int = 1
    delimiter: str = ""  # of CSV files
    decimal: str = ""
    warnings: tuple[str, ...] = ()


def sample_files(files: str, root: Path) -> Sampled:
    """Rows of the files that a pattern relative to `root` matches.

    Raises
    ------
    UnreachableError, HistoryError
        No file matches, or one cannot be read.
    """
    problem, workspace = _unknown(root, files=files)
    source = FileSource(problem=problem, workspace=workspace, before={})
    names = [n for n in source.names() if n]
    kept: list[pd.DataFrame] = []
    every, seen, limit = 1, 0, _limit(names)
    for chunk in source.stored(names):
        part = pd.DataFrame({n: _series(c) for n, c in chunk.items()})
        part.index = pd.RangeIndex(seen, seen + len(part))
        seen += len(part)
        kept.append(part[part.index % every == 0])
        while sum(map(len, kept)) > limit:
            every *= 2
            kept = [k[k.index % every == 0] for k in kept]
    if not seen:
        raise HistoryError(f"{files}: found no rows", code="no_rows", next_step="Bring rows.")
    frame = _typed(pd.concat(kept, ignore_index=True))
    return Sampled(
        frame=frame,
        rows=seen,
        every=every,
        delimiter=source.delimiter,
        decimal=source.decimal,
        warnings=tuple(source.warnings),
    )


def sample_query(
    url: str, query: str, root: Path, choose_time: Callable[[pd.DataFrame], str]
) -> Sampled:
    """Rows of a query; if it has more than are kept, the newest by the column that `choose_time` names.

    Raises
    ------
    UnreachableError, ProblemError, HistoryError
        The database does not respond, or refuses the query.
    """
    frame, whole = _rows_of(url, query, root)
    if not len(frame):
        raise HistoryError(
            f"{redact(url)}: found no rows in {query!r}", code="no_rows", next_step="Bring rows."
        )
    if whole:
        return Sampled(frame=_typed(frame), rows=len(frame))
    time = choose_time(_typed(frame.head(base.CHUNK_ROWS)))
    newest = f"{query}\norder by {quoted(url, time, root)} desc"
    frame, _ = _rows_of(url, newest, root)
    return Sampled(frame=_typed(frame.iloc[::-1].reset_index(drop=True)), rows=None)


def table_names(url: str, root: Path) -> list[str]:
    """Tables and views of a database.

    Raises
    ------
    UnreachableError, ProblemError, HistoryError
        The database does not respond.
    """
    sqlite = url.startswith("sqlite")
    frame, _ = _rows_of(url, SQLITE_TABLES if sqlite else TABLES, root)
    return sorted(map(str, frame["name"])) if len(frame) else []


def quoted(url: str, name: str, root: Path) -> str:
    """A name as that database quotes it, where it must; the parts of `schema.table` each for themselves."""
    with closing(_database(url, "select 1 as one", root)) as source:
        return ".".join(p if _is_plain(p) else source.quoted(p) for p in name.split("."))


def _is_plain(name: str) -> bool:
    return bool(re.fullmatch(r"[a-z_][a-z0-9_]*", name)) and name not in RESERVED_WORDS


def reads_as_times(column: pd.Series) -> bool:
    """Whether a pull reads the cells as times: typed ones, ISO 8601, or seconds since 1970."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return True
    cast = as_times(column.astype("object"), "UTC")
    return not cast.bad.any()


def _rows_of(url: str, query: str, root: Path) -> tuple[pd.DataFrame, bool]:
    """Rows of a query, at most as many as are kept, and whether these are all."""
    with closing(_database(url, query, root)) as source:
        names = source.names()
        limit, kept, rows = _limit(names), [], 0
        for chunk in source.chunks(names):
            kept.append(pd.DataFrame({n: _series(c) for n, c in chunk.items()}))
            rows += len(kept[-1])
            if rows > limit:
                return pd.concat(kept, ignore_index=True).head(limit), False
        return (pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=names)), True


def _database(url: str, query: str, root: Path) -> Database:
    problem, workspace = _unknown(root, source=url, query=query, key=[NONE])
    source = open_source(problem, workspace, query, {})
    assert isinstance(source, Database)
    return source


def _unknown(root: Path, **history: Any) -> tuple[Problem, Workspace]:
    """A problem that names a source and no column of it."""
    problem = Problem.model_validate(
        {
            "file": root / "problem.toml",
            "name": "sample",
            "task": "regression",
            "history": {**history, "time": NONE, "target": NONE},
            "metric": {"name": "rmse"},
            "sweep": {"budget": "10s"},
            "validation": {"block": "1d"},
        }
    )
    return problem, Workspace(
        root=root, home=root / ".automl", database_url="", tracking_uri="", workers=1
    )


def _limit(names: Collection[str]) -> int:
    return min(MOST_ROWS, MOST_CELLS // max(1, len(names)))


# ---------------------------------------------------------------- kinds


def _series(column: Column) -> pd.Series:
    """A chunk's column without conversion; Arrow's stays Arrow's."""
    if isinstance(column, pa.Array):
        return pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([column])))
    return column.reset_index(drop=True)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns as a pull reads them: numbers, times or texts; whole numbers stay whole."""
    return pd.DataFrame({name: _as_read(frame[name]) for name in frame.columns})


def _as_read(column: pd.Series) -> pd.Series:
    arrow = isinstance(column.dtype, pd.ArrowDtype)
    cells: Column = pa.array(column.array) if arrow else column.astype("object")
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
    zone = getattr(getattr(cells, "type", None), "tz", None)
    kind = infer_kind(without_gaps(cells))
    if kind == "text":
        return as_kind(cells, "text").cells.to_pandas()
    gaps = find_gaps(cells)
    if gaps.any():
        cells = column.astype("object").mask(gaps, None)
    read = as_kind(cells, kind).cells.to_pandas()
    if kind == "time":
        return read.dt.tz_localize("UTC").dt.tz_convert(zone) if zone else read
    return _whole(read)


def _whole(numbers: pd.Series) -> pd.Series:
    """Numbers without a fraction as whole numbers, if they are counted without gaps."""
    present = numbers.dropna()
    if len(present) and (present % 1 == 0).all() and present.abs().max() < EXACT:
        return numbers.astype("Int64" if len(present) < len(numbers) else "int64")
    return numbers
