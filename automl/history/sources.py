"""Where rows come from: SQLAlchemy URLs, parquet and CSV files, Python callables; all only read."""

from __future__ import annotations

import importlib
import os
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import sqlalchemy as sa

from automl.errors import HistoryError, ProblemError, UnreachableError
from automl.history.columns import ignored, utc_naive
from automl.problem import Problem
from automl.workspace import Workspace, redact

__all__ = ["fetch"]

CONNECT_SECONDS = 5  # a source that does not answer by then is called unreachable
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")  # fits int64


def fetch(
    problem: Problem, workspace: Workspace, query: str, bound: dict[str, datetime]
) -> pd.DataFrame:
    """All rows that a source answers, without ignored columns; `bound` are the query's parameters.

    Raises
    ------
    HistoryError, UnreachableError, ProblemError
        The query or file is bad; the source is not there; the URL or callable is wrong.
    """
    h = problem.history
    if h.source:
        frame = _fetch_sql(h.source, query, bound, workspace, h.timezone)
    elif h.files:
        frame = _fetch_files(problem, workspace)
    else:
        frame = _fetch_callable(h.python, bound, workspace)
    frame.columns = frame.columns.map(str)
    twice = frame.columns[frame.columns.duplicated()].unique()
    if len(twice):
        raise HistoryError(
            f"source: found column {twice[0]!r} twice; wanted unique names", code="column_twice"
        )
    frame = frame.drop(columns=[name for name in ignored(problem) if name in frame.columns])
    coded = [name for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(coded, "object")).reset_index(drop=True)


def _fetch_sql(
    source: str, query: str, bound: dict[str, datetime], workspace: Workspace, zone: str
) -> pd.DataFrame:
    url = _database_url(source, workspace)
    try:
        engine = sa.create_engine(url, connect_args=_connect_args(url))
    except (ImportError, sa.exc.ArgumentError) as error:
        raise ProblemError(
            f"history.source {redact(source)}: {error}; wanted a database whose driver is installed",
            code="url",
        ) from error
    # naive local text in SQLite, naive local timestamps elsewhere: how such columns are stored
    local = {
        k: utc_naive(v).tz_localize("UTC").tz_convert(zone).tz_localize(None)
        for k, v in bound.items()
    }
    values = {
        k: (
            v.strftime("%Y-%m-%d %H:%M:%S")
            if url.get_backend_name() == "sqlite"
            else v.to_pydatetime()
        )
        for k, v in local.items()
        if re.search(rf"(?<!:):{k}\b", query)
    }
    try:
        with engine.connect() as connection:
            try:
                result = connection.execute(sa.text(query), values)
                rows = [tuple(row) for row in result.fetchall()]
                # plain objects: a dtype made of all rows would let rows that go change rows that stay
                return pd.DataFrame(rows, columns=list(result.keys()), dtype="object")
            except sa.exc.SQLAlchemyError as error:
                raise HistoryError(
                    f"history.source {redact(source)}: the query failed: "
                    f"{redact(str(getattr(error, 'orig', None) or error))}",
                    code="query_failed",
                    next_step="Run the query by hand; a table or column may have been renamed.",
                ) from error
    except sa.exc.DBAPIError as error:
        raise UnreachableError(
            f"history.source {redact(source)} does not answer: {redact(str(error.orig))}",
            code="source_unreachable",
            next_step="Check that the database is up and the URL is right, then run the same command again.",
        ) from error
    finally:
        engine.dispose()


def _database_url(source: str, workspace: Workspace) -> sa.URL:
    missing = [name for name in re.findall(r"\$\{(\w+)\}", source) if name not in os.environ]
    if missing:
        raise ProblemError(
            f"history.source: environment variable {missing[0]} is not set", code="no_environment"
        )
    try:
        url = sa.make_url(re.sub(r"\$\{(\w+)\}", lambda m: os.environ[m[1]], source))
    except sa.exc.ArgumentError as error:
        raise ProblemError(
            f"history.source: {redact(source)!r} is not a database URL", code="url"
        ) from error
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        path = (workspace.root / url.database).resolve()
        if not path.is_file():
            raise UnreachableError(
                f"history.source {source}: no file at {path}",
                code="source_unreachable",
                next_step="Build or copy the database there, then run the same command again.",
            )
        url = url.set(database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    # SQLAlchemy takes plain postgresql:// for psycopg2; what we depend on is its successor
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _connect_args(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() == "postgresql":
        return {
            "connect_timeout": CONNECT_SECONDS,
            "options": "-c default_transaction_read_only=on -c timezone=UTC",
        }
    return {"timeout": CONNECT_SECONDS} if url.get_backend_name() == "sqlite" else {}


def _fetch_files(problem: Problem, workspace: Workspace) -> pd.DataFrame:
    pattern = problem.history.files
    path = Path(pattern)
    base, rest = (
        (Path("/"), str(path.relative_to("/"))) if path.is_absolute() else (workspace.root, pattern)
    )
    found = sorted(p for p in base.glob(rest))
    files = [f for p in found for f in (sorted(p.rglob("*")) if p.is_dir() else [p]) if f.is_file()]
    files = [f for f in files if f.suffix.lower() in (".parquet", ".csv")]
    if not files:
        raise UnreachableError(
            f"history.files {pattern!r}: no parquet or CSV file matches below {base}",
            code="source_unreachable",
            next_step="Check the path; it is relative to the problem file.",
        )
    return pd.concat([_read_file(f, problem) for f in files], ignore_index=True)


def _read_file(file: Path, problem: Problem) -> pd.DataFrame:
    unread = ignored(problem)
    try:
        if file.suffix.lower() == ".parquet":
            data = pa.dataset.dataset(file)
            names = [n for n in data.schema.names if n not in unread]
            # gaps must not turn whole numbers into floats, nor may pandas hide a column in its index
            frame = data.to_table(columns=names).to_pandas(integer_object_nulls=True)
            return frame.reset_index([n for n in frame.index.names if n is not None]).reset_index(
                drop=True
            )
        parse = pa.csv.ParseOptions(newlines_in_values=True)
        names = [
            n for n in pa.csv.open_csv(file, parse_options=parse).schema.names if n not in unread
        ]
        # everything as text: types are decided later, from the rows that stay
        options = pa.csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            include_columns=names,
            strings_can_be_null=True,
            null_values=[""],
        )
        frame = pa.csv.read_csv(file, parse_options=parse, convert_options=options).to_pandas()
        keys = [k for k in problem.history.key if k in names]
        return frame.assign(
            **{k: pd.Series([_whole(v) for v in frame[k]], dtype="object") for k in keys}
        )
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise HistoryError(
            f"{file}: cannot be read: {str(error).splitlines()[0]}",
            code="bad_file",
            next_step="Replace the file by a whole one, then run the same command again.",
        ) from error


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


def _fetch_callable(entry: str, bound: dict[str, datetime], workspace: Workspace) -> pd.DataFrame:
    module_name, _, function = entry.partition(":")
    sys.path.insert(0, str(workspace.root))
    try:
        call = getattr(importlib.import_module(module_name), function)
        frame = call(as_of=bound["as_of"], until=bound.get("until"))
    except (ImportError, AttributeError) as error:
        raise ProblemError(
            f"history.python {entry!r}: {error}; wanted module:function beside the problem file",
            code="python",
        ) from error
    except OSError as error:
        raise UnreachableError(
            f"history.python {entry!r}: {error}", code="source_unreachable"
        ) from error
    except Exception as error:
        raise HistoryError(
            f"history.python {entry!r} raised {type(error).__name__}: {error}", code="source_raises"
        ) from error
    finally:
        sys.path.remove(str(workspace.root))
    if not isinstance(frame, pd.DataFrame):
        raise HistoryError(
            f"history.python {entry!r} returned {type(frame).__name__}; wanted a DataFrame",
            code="python",
        )
    return frame.copy()
