"""Fresh history, frozen: a snapshot holds only what could be known at `as_of`, under its own digest.

No row with time >= as_of, no row updated after as_of, no label unknown at as_of and no ignored column
passes this door, and nothing about a row that stays depends on a row that goes. Sources are SQLAlchemy
URLs, parquet and CSV files, and Python callables; all are only read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from automl.errors import HistoryError
from automl.history.columns import (
    FIRST,
    ROW_ID,
    Kind,
    Kinds,
    also_named,
    canonical,
    learning_only,
    parse_times,
    require,
    utc_naive,
)
from automl.history.sources import fetch
from automl.problem import Problem
from automl.workspace import Workspace

__all__ = ["ROW_ID", "Kind", "Kinds", "Snapshot", "pull", "pull_batch", "read", "utc_naive"]

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
    frame = fetch(problem, workspace, h.query, {"as_of": as_of})
    require(frame, {"history.time": h.time, "history.target": h.target}, also_named(problem))
    times = parse_times(frame[h.time], h.timezone, h.time)
    known = times < utc_naive(as_of)
    dropped = {"not_before_as_of": int((~known).sum())}
    frame = frame[known].assign(
        **{h.time: times[known]}
    )  # from here on no cell of a later row is looked at
    mature = frame[h.time] < utc_naive(problem.mature(as_of))
    if h.label_time:
        frame[h.label_time] = parse_times(frame[h.label_time], h.timezone, h.label_time, nulls=True)
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
    frame = canonical(frame, problem, kinds)
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
    frame = fetch(problem, workspace, problem.batch.query or h.query, bound)
    require(frame, {"history.time": h.time}, {f"history.key {k!r}": k for k in h.key})
    times = parse_times(frame[h.time], h.timezone, h.time)
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
    later = learning_only(problem)
    frame = frame.drop(columns=[name for name in later if name in frame.columns])
    frame = canonical(frame, problem, {k: v for k, v in kinds.items() if k not in later})
    return _freeze(frame, problem, workspace.history(problem.name) / "batches", dropped)


def read(snapshot: Snapshot) -> pd.DataFrame:
    """The rows of a snapshot, sorted by time and key, times in naive UTC."""
    return pd.read_parquet(snapshot.path)


def _newest_known(
    frame: pd.DataFrame, problem: Problem, as_of: datetime, dropped: dict[str, int]
) -> pd.DataFrame:
    """Of several versions of a row the newest that was known at as_of; never updated is oldest."""
    h = problem.history
    if not h.updated_at or h.updated_at not in frame.columns:
        return frame
    updated = parse_times(frame[h.updated_at], h.timezone, h.updated_at, nulls=True)
    current = ~(updated >= utc_naive(as_of))
    dropped["updated_after_as_of"] = int((~current).sum())
    frame, updated = frame[current], updated[current].fillna(FIRST)
    if h.key:
        newest = updated.groupby([frame[k] for k in h.key], sort=False, dropna=False).transform(
            "max"
        )
        dropped["older_version"] = int((updated < newest).sum())
        frame = frame[updated == newest]
    roles = {h.target, h.time, h.label_time, *h.key}
    return frame if h.updated_at in roles else frame.drop(columns=h.updated_at)


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
