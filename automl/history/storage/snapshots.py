"""Snapshots, immutable under their digest, and the record of the pulls that made them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from automl.errors import HistoryError
from automl.files import write_json
from automl.history.rows.kinds import ARROW, ColumnKind
from automl.history.rows.local_time import utc_naive
from automl.history.rows.names import UPDATED
from automl.history.rows.roles import ROW_ID, learning_only
from automl.history.storage.parts import (
    Part,
    day_digests,
    digest_of,
    open_parts,
    read_parts,
    stamps,
    utc_moment,
)
from automl.problem import Problem

__all__ = [
    "Folders",
    "Pull",
    "Snapshot",
    "freeze",
    "frozen_batch",
    "frozen_history",
    "newest_pull",
    "pull_name",
    "pulls",
    "read",
    "scan",
    "verified",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Frozen rows: a list of immutable parts, named by the sha256 of the rows' content."""

    path: Path
    digest: str
    rows: int
    first: datetime | None
    last: datetime | None
    dropped: Mapping[str, int] = field(default_factory=dict)  # why -> rows, of this pull
    quarantined: Mapping[str, int] = field(default_factory=dict)  # why -> rows set aside
    unused: Mapping[str, str] = field(default_factory=dict)  # column -> why it was left out
    # column -> texts that the first pull read as missing
    gaps: Mapping[str, Sequence[str]] = field(default_factory=dict)
    offered: tuple[str, ...] = ()  # every column that the source has
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """What one pull did, as `automl history` shows it."""

    as_of: datetime
    at: datetime  # wall clock
    snapshot: str  # digest
    rows: int
    first: str
    last: str
    full: str  # why everything was read; empty: only what was new
    fetched: int
    new: int
    updated: int
    late: int
    deleted: int
    quarantined: Mapping[str, int]
    verified: int  # windows compared with the source
    repaired: int  # windows that differed and were pulled again
    bytes_written: int
    bytes_total: int
    seconds: float
    recipe: str  # digest of everything that decides which rows and columns are wanted
    since: str  # start of what is kept; empty: everything
    until: str  # rows before this had their label
    state: Mapping[str, Any]  # of the source
    quarantine: str = ""  # file of the rows set aside
    audited: str = ""  # end of the older window that was compared last, in turn

    @property
    def name(self) -> str:
        """Name of the record's file, by as_of, then wall clock."""
        return pull_name(self.as_of, self.at)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pull:
        """Read what `to_json` wrote."""
        times = {k: datetime.fromisoformat(data[k]) for k in ("as_of", "at")}
        return cls(**{**data, **times})

    def to_json(self) -> dict[str, Any]:
        """As a document."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**content, "as_of": self.as_of.isoformat(), "at": self.at.isoformat()}


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the history of one problem lies."""

    root: Path

    @property
    def parts(self) -> Path:
        """Immutable rows."""
        return self.root / "parts"

    @property
    def snapshots(self) -> Path:
        """Manifests of labelled history."""
        return self.root / "snapshots"

    @property
    def batches(self) -> Path:
        """Manifests of rows to predict."""
        return self.root / "batches"

    @property
    def pulls(self) -> Path:
        """One record per as_of."""
        return self.root / "pulls"

    @property
    def quarantine(self) -> Path:
        """Rows set aside, with their reasons."""
        return self.root / "quarantine"


def pull_name(as_of: datetime, at: datetime) -> str:
    """Name of the files that a pull leaves, by as_of, then wall clock."""
    return f"{as_of:%Y%m%dT%H%M%S}-{at:%Y%m%dT%H%M%S%f}"


def freeze(
    folder: Path,
    problem: Problem,
    kinds: Mapping[str, ColumnKind],
    parts: Sequence[Part],
    digest: str,
) -> Snapshot:
    """Write the manifest of a snapshot; it replaces one of the same rows in other parts or versions."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest[:24]}.json"
    if not _manifest_lists(path, parts):
        content = {
            "digest": digest,
            "problem": problem.name,
            "rows": sum(p.rows for p in parts),
            "first": parts[0].first if parts else "",
            "last": parts[-1].last if parts else "",
            "time": problem.history.time,
            "key": list(problem.history.key),
            "later": learning_only(problem),
            "kinds": dict(sorted(kinds.items())),
            "updated": any(p.changed for p in parts),
            "parts": [p.to_json() for p in parts],
        }
        write_json(path, content)
    return Snapshot(
        path=path,
        digest=digest,
        rows=sum(p.rows for p in parts),
        first=utc_moment(parts[0].first) if parts else None,
        last=utc_moment(parts[-1].last) if parts else None,
    )


def frozen_batch(folders: Folders, digest: str) -> Snapshot | None:
    """The frozen rows of an earlier batch; None if their manifest was removed."""
    return _frozen(folders.batches / f"{digest[:24]}.json")


def frozen_history(folders: Folders, digest: str) -> Snapshot | None:
    """The labelled rows that an earlier pull froze; None if their manifest was removed."""
    return _frozen(folders.snapshots / f"{digest[:24]}.json")


def _frozen(path: Path) -> Snapshot | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Snapshot(
        path=path,
        digest=content["digest"],
        rows=content["rows"],
        first=None,
        last=None,
        offered=tuple(content["kinds"]),
    )


def _manifest_lists(path: Path, parts: Sequence[Part]) -> bool:
    """Whether the manifest lists exactly these files; equal rows may lie in parts that are gone."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["parts"]
    except (OSError, ValueError):
        return False
    return [p["name"] for p in stored] == [p.name for p in parts]


def load(path: Path) -> tuple[dict[str, Any], list[Part], pa.Schema]:
    """Manifest, parts and Arrow schema of a snapshot.

    Raises
    ------
    HistoryError
        The snapshot is gone.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HistoryError(
            f"{path}: no such snapshot: {error}",
            code="no_snapshot",
            next_step="Run the cycle again with --again --reason; that pulls the history again.",
        ) from error
    parts = [Part.from_json(p) for p in content["parts"]]
    fields = [pa.field(n, ARROW[k]) for n, k in content["kinds"].items()]
    if content["updated"]:
        fields.append(pa.field(UPDATED, ARROW["time"]))
    return content, parts, pa.schema(fields)


def read(
    snapshot: Snapshot, *, since: datetime | None = None, until: datetime | None = None
) -> pd.DataFrame:
    """The rows of a snapshot, or a view of them (`since <= time < until`), by time and key.

    Times are naive UTC. Rows of a problem without a key carry `row_id`.
    """
    content, parts, schema = load(snapshot.path)
    folder = snapshot.path.parent.parent / "parts"
    if since or until:
        parts = [p for p in parts if _overlaps(p, since, until)]
    names = [n for n in schema.names if n != UPDATED]
    table = read_parts(folder, parts, schema).select(names)
    frame = table.to_pandas()
    if not content["key"]:
        frame = row_ids(frame, content["time"], content["later"])
    if since is not None:
        frame = frame[frame[content["time"]] >= utc_naive(since)]
    if until is not None:
        frame = frame[frame[content["time"]] < utc_naive(until)]
    return frame.reset_index(drop=True)


def verified(snapshot: Snapshot) -> bool:
    """Whether the rows on disk are those of the digest; reads all of them.

    Raises
    ------
    HistoryError, OSError
        The manifest or a part is gone.
    """
    content, parts, schema = load(snapshot.path)
    folder = snapshot.path.parent.parent / "parts"
    found = []
    for part in parts:
        table = read_parts(folder, [part], schema)
        days = stamps(table[content["time"]]).astype("datetime64[D]")
        found.append(replace(part, days=day_digests(table, days)))
    return digest_of(schema, found) == snapshot.digest


def scan(snapshot: Snapshot) -> ds.Dataset:
    """The rows as an Arrow dataset in time order; nothing is read before it is used."""
    _, parts, schema = load(snapshot.path)
    return open_parts(snapshot.path.parent.parent / "parts", parts, schema)


def row_ids(frame: pd.DataFrame, time: str, later: Sequence[str]) -> pd.DataFrame:
    """`frame` with `row_id`: content hash and occurrence, so that equal rows get the same ids in every pull.

    `later` are the columns that a row to predict does not have; they do not count.
    """
    later = [name for name in later if name in frame.columns]
    ordered = frame.sort_values(later, kind="stable") if later else frame
    content = pd.util.hash_pandas_object(ordered.drop(columns=later), index=False)
    occurrence = content.groupby(content).cumcount()
    ids = content.map("{:016x}".format).astype("str") + "-" + occurrence.astype("str")
    identified = ordered.assign(**{ROW_ID: ids})
    return identified.sort_values([time, ROW_ID], kind="stable", ignore_index=True)


def pulls(folders: Folders) -> list[Pull]:
    """All recorded pulls, oldest as_of first."""
    found = [
        json.loads(f.read_text(encoding="utf-8")) for f in sorted(folders.pulls.glob("*.json"))
    ]
    return sorted((Pull.from_json(content) for content in found), key=lambda p: (p.as_of, p.at))


def record(folders: Folders, pull: Pull) -> None:
    """Write the record of a pull."""
    folders.pulls.mkdir(parents=True, exist_ok=True)
    write_json(folders.pulls / f"{pull.name}.json", pull.to_json())


def newest_pull(folders: Folders) -> Pull | None:
    """The recorded pull of the latest as_of; the names of records are in that order."""
    name = max((f.name for f in folders.pulls.glob("*.json")), default=None)
    if name is None:
        return None
    return Pull.from_json(json.loads((folders.pulls / name).read_text(encoding="utf-8")))


def _overlaps(part: Part, since: datetime | None, until: datetime | None) -> bool:
    after = since is None or utc_moment(part.last) >= since
    return after and (until is None or utc_moment(part.first) < until)
