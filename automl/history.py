"""Fresh history, frozen: a snapshot holds only what could be known at `as_of`, under its own digest.

No row with time >= as_of, no row updated after as_of, no label unknown at as_of and no ignored column
passes this door, and nothing about a row that stays depends on a row that goes. Sources are SQLAlchemy
URLs, parquet and CSV files, and Python callables; all are only read.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import sqlalchemy as sa

from automl.errors import HistoryError, ProblemError, UnreachableError
from automl.problem import Problem
from automl.workspace import Workspace, redact

__all__ = ["ROW_ID", "Kind", "Kinds", "Snapshot", "pull", "pull_batch", "read", "utc_naive"]

Kind = Literal["number", "text", "time"]
Kinds = Mapping[str, Kind]
ROW_ID = "row_id"
CONNECT_SECONDS = 5  # a source that does not answer by then is called unreachable
_LEADING_ZERO = re.compile(r"^-?0\d")  # 007 is a code, not the number 7
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")  # fits int64
_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "boolean")  # pandas' names
# no zone can move a placeholder such as 9999-12-31 23:59 off the calendar once it is clipped to these
_FIRST, _LAST = pd.Timestamp("0001-01-02"), pd.Timestamp("9999-12-30")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Frozen rows: one parquet file named by the sha256 of its content."""

    path: Path
    digest: str
    rows: int
    first: datetime | None
    last: datetime | None
    dropped: Mapping[str, int] = field(default_factory=dict)  # why -> rows


def pull(
    problem: Problem, workspace: Workspace, as_of: datetime, *, kinds: Kinds | None = None
) -> Snapshot:
    """Pull the labelled rows known at `as_of` and freeze them.

    `kinds` are the declared column kinds; without them kinds are inferred from the rows that stay.

    Raises
    ------
    HistoryError
        The time column is missing or unreadable, a declared column is missing, keys are not unique,
        the query fails, or no labelled row is left.
    UnreachableError
        The database or the files are not there.
    """
    h = problem.history
    frame = _fetch(problem, workspace, h.query, {"as_of": as_of})
    _require(frame, {"history.time": h.time, "history.target": h.target}, _also_named(problem))
    times = _times(frame[h.time], h.timezone, h.time)
    known = times < utc_naive(as_of)
    dropped = {"not_before_as_of": int((~known).sum())}
    frame = frame[known].assign(
        **{h.time: times[known]}
    )  # from here on no cell of a later row is looked at
    mature = frame[h.time] < utc_naive(problem.mature(as_of))
    if h.label_time:
        frame[h.label_time] = _times(frame[h.label_time], h.timezone, h.label_time, nulls=True)
        mature &= frame[h.label_time] < utc_naive(as_of)
    dropped["label_not_known_yet"] = int((~mature).sum())
    frame = frame[mature]
    if h.keep:
        recent = frame[h.time] >= utc_naive(h.keep.before(as_of))
        dropped["older_than_keep"] = int((~recent).sum())
        frame = frame[recent]
    frame = _newest_known(frame, problem, as_of, dropped)
    labelled = frame[h.target].notna()
    dropped["no_label"] = int((~labelled).sum())
    frame = frame[labelled]
    if not len(frame):
        raise _nothing_left(problem, as_of, times, dropped)
    frame = _canonical(frame, problem, kinds)
    snapshot = _freeze(frame, problem, workspace.history(problem.name), dropped)
    _log.info(
        "pulled %d labelled rows of %s until %s", snapshot.rows, problem.name, as_of.isoformat()
    )
    return snapshot


def pull_batch(
    problem: Problem, workspace: Workspace, as_of: datetime, *, kinds: Kinds
) -> Snapshot:
    """Pull the rows to predict, `as_of <= time < until`, without target and ignored columns.

    Raises
    ------
    HistoryError
        As for `pull`; also when the window holds no row.
    """
    h = problem.history
    until = problem.until(as_of)
    # without a batch query the history query is asked for everything before the end of the window
    bound = (
        {"as_of": as_of, "until": until}
        if problem.batch.query
        else {"as_of": until, "until": until}
    )
    frame = _fetch(problem, workspace, problem.batch.query or h.query, bound)
    _require(frame, {"history.time": h.time}, {f"history.key {k!r}": k for k in h.key})
    times = _times(frame[h.time], h.timezone, h.time)
    inside = (times >= utc_naive(as_of)) & (times < utc_naive(until))
    if not inside.any():
        span = f"{times.min()} to {times.max()}" if len(times) else "no rows at all"
        raise HistoryError(
            f"batch: found {span}; wanted rows with "
            f"{as_of:%Y-%m-%d %H:%M} <= {h.time} < {until:%Y-%m-%d %H:%M}",
            code="empty_batch",
            next_step="Check that the coming rows are already in the source, or give another --as-of.",
        )
    frame = frame[inside].assign(**{h.time: times[inside]})
    dropped = {"outside": int((~inside).sum())}
    frame = _newest_known(frame, problem, as_of, dropped)
    if not len(frame):
        raise HistoryError(
            f"batch: found {int(inside.sum())} rows, all with {h.updated_at} >= {as_of:%Y-%m-%d %H:%M}",
            code="empty_batch",
            next_step="Give a later --as-of, or load the coming rows before it.",
        )
    later = _learning_only(problem)
    frame = frame.drop(columns=[name for name in later if name in frame.columns])
    frame = _canonical(frame, problem, {k: v for k, v in kinds.items() if k not in later})
    return _freeze(frame, problem, workspace.history(problem.name) / "batches", dropped)


def read(snapshot: Snapshot) -> pd.DataFrame:
    """The rows of a snapshot, sorted by time and key, times in naive UTC."""
    return pd.read_parquet(snapshot.path)


def utc_naive(moment: datetime) -> pd.Timestamp:
    """A moment as frames hold it: UTC without zone."""
    stamp = pd.Timestamp(moment)
    return stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo else stamp


def _newest_known(
    frame: pd.DataFrame, problem: Problem, as_of: datetime, dropped: dict[str, int]
) -> pd.DataFrame:
    """Of several versions of a row the newest that was known at as_of; never updated is oldest."""
    h = problem.history
    if not h.updated_at or h.updated_at not in frame.columns:
        return frame
    updated = _times(frame[h.updated_at], h.timezone, h.updated_at, nulls=True)
    current = ~(updated >= utc_naive(as_of))
    dropped["updated_after_as_of"] = int((~current).sum())
    frame, updated = frame[current], updated[current].fillna(_FIRST)
    if h.key:
        newest = updated.groupby([frame[k] for k in h.key], sort=False, dropna=False).transform(
            "max"
        )
        dropped["older_version"] = int((updated < newest).sum())
        frame = frame[updated == newest]
    roles = {h.target, h.time, h.label_time, *h.key}
    return frame if h.updated_at in roles else frame.drop(columns=h.updated_at)


# ---------------------------------------------------------------- sources


def _fetch(
    problem: Problem, workspace: Workspace, query: str, bound: dict[str, datetime]
) -> pd.DataFrame:
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
    frame = frame.drop(columns=[name for name in _ignored(problem) if name in frame.columns])
    coded = [name for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(coded, "object")).reset_index(drop=True)


def _ignored(problem: Problem) -> set[str]:
    """Columns that are not read at all; a column with a role is ignored as a feature anyway."""
    h = problem.history
    return {*h.ignore} - {h.target, h.time, h.label_time, h.updated_at, h.weight, *h.key, *h.group}


def _learning_only(problem: Problem) -> list[str]:
    """Columns that a row to predict does not have, or does not need."""
    h = problem.history
    names = (h.target, h.label_time, h.weight, *h.group)
    return [name for name in names if name and name not in (h.time, *h.key)]


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
    ignored = _ignored(problem)
    try:
        if file.suffix.lower() == ".parquet":
            data = pa.dataset.dataset(file)
            names = [n for n in data.schema.names if n not in ignored]
            # gaps must not turn whole numbers into floats, nor may pandas hide a column in its index
            frame = data.to_table(columns=names).to_pandas(integer_object_nulls=True)
            return frame.reset_index([n for n in frame.index.names if n is not None]).reset_index(
                drop=True
            )
        parse = pa.csv.ParseOptions(newlines_in_values=True)
        names = [
            n for n in pa.csv.open_csv(file, parse_options=parse).schema.names if n not in ignored
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


# ---------------------------------------------------------------- columns


def _also_named(problem: Problem) -> dict[str, str]:
    h = problem.history
    named = {f"history.key {k!r}": k for k in h.key} | {f"history.group {g!r}": g for g in h.group}
    for role in ("updated_at", "label_time", "weight"):
        if getattr(h, role):
            named[f"history.{role}"] = getattr(h, role)
    return named | {f"metric.slices {s!r}": s for s in problem.metric.slices}


def _require(frame: pd.DataFrame, *roles: Mapping[str, str]) -> None:
    wanted = {role: name for group in roles for role, name in group.items()}
    missing = {role: name for role, name in wanted.items() if name not in frame.columns}
    if missing:
        found = ", ".join(map(str, frame.columns))
        lines = "; ".join(f"{role}: column {name!r} is missing" for role, name in missing.items())
        raise HistoryError(
            f"{lines}; found {found}",
            code="missing_column",
            next_step="Bring the column back, or change the problem file.",
        )


def _times(column: pd.Series, zone: str, name: str, *, nulls: bool = False) -> pd.Series:
    kind = pd.api.types.infer_dtype(column)  # of gaps only: floating or empty
    if column.notna().any() and (kind in _NUMBERS or kind == "mixed-integer"):
        raise HistoryError(f"{name}: found numbers; wanted dates or times", code="bad_time")
    try:
        times = _parsed(column, zone)
    except (ValueError, TypeError, OverflowError) as error:
        raise HistoryError(
            f"{name}: cannot be read as times in {zone}: {str(error).splitlines()[0]}",
            code="bad_time",
            next_step="Wanted ISO 8601; a local time that a clock change skips or repeats has no meaning.",
        ) from error
    if not nulls and times.isna().any():
        raise HistoryError(
            f"{name}: found {int(times.isna().sum())} empty times; wanted none", code="null_time"
        )
    return times


def _parsed(column: pd.Series, zone: str) -> pd.Series:
    """UTC without zone; times that name their offset are taken at their word, the others are local."""
    if not _is_time(column):
        behind_date = column.astype("str").str.slice(10)
        offset = behind_date.str.contains("[Zz+-]", na=False).astype(bool)
        if offset.any() and not offset.all():
            parts = [_parsed(column[rows], zone) for rows in (offset, ~offset)]
            return pd.concat(parts).reindex(column.index)
        column = pd.to_datetime(column, format="ISO8601", utc=bool(offset.any()))
    if column.dt.tz is None:
        column = column.astype("datetime64[us]").clip(_FIRST, _LAST).dt.tz_localize(zone)
    return column.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[us]")


def _is_time(column: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(column)


def _canonical(frame: pd.DataFrame, problem: Problem, kinds: Kinds | None) -> pd.DataFrame:
    """Columns in name order, each of one kind; rows in time and key order."""
    h = problem.history
    if kinds is not None:
        missing = [name for name in kinds if name not in frame.columns]
        if missing:
            raise HistoryError(
                f"column {', '.join(map(repr, missing))} vanished; found {', '.join(frame.columns)}",
                code="missing_column",
                next_step="Bring the column back, or delete it from the contract file and retrain.",
            )
        frame = frame[[name for name in frame.columns if name in kinds]]
    fixed: dict[str, Kind] = {**(kinds or {}), h.weight: "number", h.time: "time"}
    out: dict[str, pd.Series] = {}
    for name in sorted(map(str, frame.columns)):
        if name in h.key and name != h.time:
            out[name] = _as_key(frame[name])
        elif name == h.target and problem.task != "regression":
            out[name] = _as_label(frame[name])
        else:
            out[name] = _cast(frame[name], fixed.get(name) or _infer(frame[name]), name)
    result = pd.DataFrame(out)
    if not h.key:
        later = [name for name in _learning_only(problem) if name in result.columns]
        result = result.sort_values(later, kind="stable") if later else result
        result[ROW_ID] = _row_ids(result.drop(columns=later))
    order = [h.time, *(k for k in h.key or (ROW_ID,) if k != h.time)]
    result = result.sort_values(order, kind="stable", ignore_index=True)
    return _unique(result, problem)


def _infer(column: pd.Series) -> Kind:
    if _is_time(column):
        return "time"
    values = column.dropna()
    numeric = (int, float, Decimal, np.number, np.bool_)
    if pd.api.types.is_numeric_dtype(column) or all(
        issubclass(t, numeric) for t in set(map(type, values))
    ):
        return "number"  # also where all is empty: that says nothing, and a number can hold gaps
    text = values.astype("str")
    numbers = pd.to_numeric(text, errors="coerce")
    if numbers.notna().all() and not text.str.match(_LEADING_ZERO).any():
        return "number"
    if text.str.match(r"^\d{4}-\d{2}-\d{2}").all() and not _bad_times(text):
        return "time"
    return "text"


def _bad_times(text: pd.Series) -> bool:
    return bool(pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce").isna().any())


def _cast(column: pd.Series, kind: Kind, name: str) -> pd.Series:
    if kind == "number":
        numbers = _numbers(column)
        lost = column.notna().to_numpy() & np.isnan(numbers)
        if lost.any() and (lost := lost & ~_is_nan(column)).any():
            raise HistoryError(
                f"column {name!r}: found {int(lost.sum())} values that are no numbers; wanted numbers",
                code="kind_changed",
                next_step="Mend the source, or change the column's kind in the contract file.",
            )
        return pd.Series(np.where(np.isinf(numbers), np.nan, numbers), index=column.index)
    if kind == "time":
        return _times(column, "UTC", name, nulls=True)
    return _text(column)


def _numbers(column: pd.Series) -> np.ndarray:
    if "date" in pd.api.types.infer_dtype(column):
        return np.full(len(column), np.nan)  # pandas would count nanoseconds
    source = column.astype("object") if pd.api.types.is_string_dtype(column) else column
    return (
        pd.to_numeric(source, errors="coerce")
        .astype("Float64")
        .to_numpy("float64", na_value=np.nan)
    )


def _text(column: pd.Series) -> pd.Series:
    if pd.api.types.is_float_dtype(column):  # whole numbers beside gaps: 7, not 7.0
        plain = [
            int(v) if float(v).is_integer() else v
            for v in column.to_numpy("float64", na_value=np.nan)
        ]
        column = pd.Series(plain, index=column.index, dtype="object")
    return column.astype("str").where(column.notna()) if column.dtype != "str" else column


def _is_nan(column: pd.Series) -> np.ndarray:
    return column.map(lambda v: isinstance(v, float) and math.isnan(v)).to_numpy(dtype=bool)


def _as_key(column: pd.Series) -> pd.Series:
    """Whole numbers as int64 whatever type the source gave them, everything else as text."""
    if column.notna().all() and pd.api.types.infer_dtype(column) in _NUMBERS:
        values = column.tolist()
        if all(float(v).is_integer() and abs(v) < 2**63 for v in values):
            return pd.Series([int(v) for v in values], index=column.index, dtype="int64")
    return _text(column)


def _as_label(column: pd.Series) -> pd.Series:
    """Whole numbers as int64, also when they come as text; everything else as text."""
    kind = pd.api.types.infer_dtype(column)
    coded = kind == "string" and column.astype("str").str.match(_LEADING_ZERO).any()
    numbers = (
        _numbers(column) if kind in ("string", *_NUMBERS) and not coded else np.array([np.nan])
    )
    if not np.isfinite(numbers).all():
        return _text(column)
    whole = (numbers == numbers.round()).all()
    return pd.Series(
        numbers.astype("int64") if whole else numbers.astype("str"), index=column.index
    )


def _row_ids(frame: pd.DataFrame) -> pd.Series:
    """Content hash and occurrence: equal rows are told apart by number, in any order alike."""
    content = pd.util.hash_pandas_object(frame, index=False)
    occurrence = content.groupby(content).cumcount()
    return content.map("{:016x}".format).astype("str") + "-" + occurrence.astype("str")


def _unique(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    key = list(problem.history.key or (ROW_ID,))
    if not frame.duplicated(key).any():
        return frame
    frame = frame.drop_duplicates(ignore_index=True)  # the same row twice is one row
    clash = frame.duplicated(key, keep=False)
    if clash.any():
        example = frame.loc[clash, key].head(1).to_dict("records")[0]
        raise HistoryError(
            f"history.key {key}: found {int(clash.sum())} rows that share a key but differ, "
            f"for example {example}; wanted one row per key",
            code="duplicate_key",
            next_step="Return one row per key, or name updated_at so that the newest version wins.",
        )
    return frame


def _nothing_left(
    problem: Problem, as_of: datetime, times: pd.Series, dropped: dict[str, int]
) -> HistoryError:
    why = ", ".join(
        f"{count} {reason.replace('_', ' ')}" for reason, count in dropped.items() if count
    )
    span = (
        f"{len(times)} rows from {times.min()} to {times.max()}" if len(times) else "no rows at all"
    )
    return HistoryError(
        f"history: found {span}; none is labelled at {as_of:%Y-%m-%d %H:%M} ({why or 'source is empty'})",
        code="no_history",
        next_step=f"Check history.target {problem.history.target!r}, history.time and --as-of.",
    )


# ---------------------------------------------------------------- freezing


def _freeze(
    frame: pd.DataFrame, problem: Problem, folder: Path, dropped: Mapping[str, int]
) -> Snapshot:
    digest = _digest(frame)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest[:20]}.parquet"
    if not path.exists():
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            frame.to_parquet(aside, compression="zstd", index=False)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    times = frame[problem.history.time]
    return Snapshot(
        path=path,
        digest=digest,
        rows=len(frame),
        first=times.min().to_pydatetime().replace(tzinfo=UTC),
        last=times.max().to_pydatetime().replace(tzinfo=UTC),
        dropped={reason: count for reason, count in dropped.items() if count},
    )


def _digest(frame: pd.DataFrame) -> str:
    """sha256 of names, kinds and values; independent of file format, source and column order."""
    told = hashlib.sha256(
        json.dumps([[n, str(frame[n].dtype)] for n in sorted(frame.columns)]).encode()
    )
    for name in sorted(frame.columns):
        told.update(pd.util.hash_array(frame[name].to_numpy()).tobytes())
    return told.hexdigest()
