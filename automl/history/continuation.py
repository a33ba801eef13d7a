"""Whether a pull continues from the last one, and from which moments on its rows may be new."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from automl.errors import HistoryError
from automl.history.increments import FullPullError
from automl.history.rows.kinds import ColumnKinds
from automl.history.rows.personal import hashed, personal_keys
from automl.history.rows.shaping import Window
from automl.history.sources import Since
from automl.history.storage.parts import Part
from automl.history.storage.snapshots import Folders, Pull, load, newest_pull
from automl.problem import Problem

__all__ = ["LastPull", "edges", "last_pull", "recipe_digest"]

# longer than any transaction of a source, unless the problem file says otherwise
OVERLAP = timedelta(hours=1)
CLOCKS = timedelta(minutes=1)  # by which clocks may differ where open transactions are visible
# part of a recipe's digest: a history read by another rule for naive times is pulled in full
LOCAL_TIMES = "naive times of all columns are local, also where clocks change"


@dataclass(frozen=True, slots=True)
class LastPull:
    """The newest pull and the rows that it left."""

    record: Pull
    parts: list[Part]
    schema: pa.Schema


def recipe_digest(
    problem: Problem,
    kinds: ColumnKinds | None,
    nulls: Sequence[str],
    gaps: Mapping[str, Collection[str]],
) -> str:
    """Digest of everything that decides which rows and columns are wanted, and what they look like."""
    h = problem.history
    settings = h.settings(without=("keep", "overlap", "deleted", "late", "quarantine"))
    content = [settings, str(problem.task), dict(sorted((kinds or {}).items())), list(nulls)]
    if gaps:
        content.append({name: sorted(texts) for name, texts in gaps.items()})
    if h.timezone != "UTC":
        content.append(LOCAL_TIMES)
    if personal_keys(problem):  # under another secret every hashed key is another one
        content.append(hashed(pa.array([problem.name]))[0].as_py())
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def last_pull(
    problem: Problem,
    folders: Folders,
    window: Window,
    recipe: str,
    *,
    verify: bool,
) -> LastPull:
    """The pull to continue from when rows of this recipe are wanted; it is empty without a contract.

    Raises
    ------
    FullPullError
        There is none, or its rows cannot be used.
    """
    last = newest_pull(folders)
    if last is None:
        raise FullPullError("the first pull")
    if not recipe:
        raise FullPullError("there is no contract")
    _refuse_earlier(last, window, verify=verify)
    if last.recipe != recipe:
        raise FullPullError("problem file or contract have changed")
    since = datetime.fromisoformat(last.since) if last.since else None
    if since is not None and (window.since is None or window.since < since):
        raise FullPullError("history.keep has grown")
    if problem.history.source and not problem.history.key:
        raise FullPullError("there is no key")
    try:
        _, parts, schema = load(folders.snapshots / f"{last.snapshot[:24]}.json")
    except HistoryError as error:
        raise FullPullError("the last snapshot is gone") from error
    if any(not p.path(folders.parts).exists() for p in parts):
        raise FullPullError("a part of the last snapshot is gone")
    return LastPull(last, parts, schema)


def _refuse_earlier(last: Pull, window: Window, *, verify: bool) -> None:
    as_of = window.known_before
    if as_of < last.as_of or (as_of == last.as_of and not verify):
        raise FullPullError(
            f"as_of is not later than that of the last pull, {last.as_of:%Y-%m-%d %H:%M}"
        )


def edges(problem: Problem, last: Pull) -> Since:
    """From where on rows may be new after the last pull."""
    h = problem.history
    watermark = last.state.get("watermark")
    moments = [last.as_of]
    if h.files:
        overlap = timedelta(0)  # files that have not changed hold nothing new
    else:
        overlap = CLOCKS if watermark else OVERLAP
        overlap = timedelta(seconds=h.overlap.seconds) if h.overlap else overlap
        # as_of may lie ahead of the clock: what was written after the pull began is new
        moments.append(last.at - timedelta(seconds=last.seconds))
    if watermark:
        moments.append(datetime.fromisoformat(watermark))
    by_time = min(datetime.fromisoformat(last.until), *moments) - overlap
    changed = min(moments) - overlap
    return Since(by_time, changed if h.updated_at or h.label_time else None)
