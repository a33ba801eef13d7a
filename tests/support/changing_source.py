"""A source that changes while it is pulled, with late commits, and the rows a pull should find.

The expected rows are computed with pandas from the whole table, without watermarks or parts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from automl.history import ColumnKinds, Folders, Pull, Snapshot, pull, pulls, read
from automl.history.rows.layout import Chunk
from automl.history.sources import Since, base
from automl.problem import Problem, load_problem
from automl.workspace import open_workspace

START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NAMES = ("id", "code", "at", "changed", "known_at", "x", "kind", "y")
TIMES = ("at", "changed", "known_at")
KINDS: ColumnKinds = {
    "id": "whole",
    "code": "text",
    "at": "time",
    "x": "number",
    "kind": "text",
    "y": "whole",
}
PROBLEM = """
name = "{name}"
task = "binary"
[history]
{source}
time = "at"
target = "y"
{lines}
[metric]
name = "roc_auc"
[sweep]
trials = 1
[validation]
block = "7d"
"""
SQLITE = 'source = "sqlite:///rows.db"\nquery = "select * from rows"'
Row = dict[str, Any]


def write_problem(folder: Path, source: str = SQLITE, **lines: str) -> Problem:
    """A problem on such rows; `lines` are those of its history, as TOML."""
    settings = {"key": '["id"]', "ignore": '["changed", "known_at"]', **lines}
    text = "\n".join(f"{name} = {value}" for name, value in settings.items() if value)
    file = folder / "problem.toml"
    file.write_text(PROBLEM.format(name="rows", source=source, lines=text), encoding="utf-8")
    return load_problem(file)


def kinds_of(problem: Problem) -> dict[str, Any]:
    """What the contract of such a problem declares."""
    label_time = problem.history.label_time
    return {**KINDS, label_time: "time"} if label_time else dict(KINDS)


def pulled(problem: Problem, as_of: datetime, **options: Any) -> Snapshot:
    """`pull` as a cycle does it after the first, under a contract."""
    options = {"kinds": kinds_of(problem), **options}
    return pull(problem, open_workspace(problem.file), as_of, **options)


def folders(problem: Problem) -> Folders:
    """Where the history of a problem lies."""
    return Folders(open_workspace(problem.file).history(problem.name))


def newest(problem: Problem) -> Pull:
    """The record of the newest pull."""
    return pulls(folders(problem))[-1]


def insert(folder: Path, rows: Sequence[Row], *, replace: bool = False) -> None:
    """Append rows to the table of `rows.db`."""
    frame = pd.DataFrame([[r[n] for n in NAMES] for r in rows], columns=list(NAMES))
    for name in TIMES:
        frame[name] = frame[name].map(lambda v: f"{v:%Y-%m-%d %H:%M:%S.%f}", na_action="ignore")
    engine = sa.create_engine(f"sqlite:///{folder / 'rows.db'}")
    frame.to_sql("rows", engine, index=False, if_exists="replace" if replace else "append")
    engine.dispose()


def execute(folder: Path, statement: str) -> None:
    """Run a statement on `rows.db`."""
    engine = sa.create_engine(f"sqlite:///{folder / 'rows.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def some_row(number: int, at: datetime, **other: Any) -> Row:
    """A row whose content follows from its number."""
    return {
        "id": number,
        "code": f"k{number:04d}",
        "at": at.replace(tzinfo=None),
        "changed": at.replace(tzinfo=None),
        "known_at": at.replace(tzinfo=None),
        "x": None if number % 7 == 3 else number / 8,
        "kind": None if number % 11 == 5 else ("ant", "bee")[number % 2],
        "y": number % 2,
        **other,
    }


def truth(rows: Sequence[Row], problem: Problem, as_of: datetime) -> pd.DataFrame:
    """What may be known at `as_of`: one row per key, the newest version, labelled, in time order."""
    h = problem.history
    frame = pd.DataFrame(list(rows), columns=list(NAMES))
    for name in TIMES:
        frame[name] = frame[name].astype("datetime64[us]")
    now = pd.Timestamp(as_of).tz_localize(None)
    frame = frame[frame["at"] < now]
    if h.updated_at:
        frame = frame[~(frame["changed"] >= now)]
    if h.label_delay:
        frame = frame[frame["at"] < pd.Timestamp(problem.mature(as_of)).tz_localize(None)]
    if h.label_time:
        frame = frame[frame["known_at"] < now]
    if h.keep:
        frame = frame[frame["at"] >= pd.Timestamp(h.keep.before(as_of)).tz_localize(None)]
    key = list(h.key)
    if h.updated_at:
        frame = frame.sort_values("changed", kind="stable", na_position="first")
        frame = frame.drop_duplicates(key, keep="last")
    frame = frame[frame["y"].notna()]
    frame = frame.drop_duplicates(key) if key else frame
    names = sorted(kinds_of(problem))
    expected = frame.sort_values(["at", *(key or ["id"])], kind="stable")[names]
    return expected.reset_index(drop=True)


def differences(snapshot: Snapshot, wanted: pd.DataFrame, key: Sequence[str]) -> dict[str, int]:
    """Rows of the snapshot against the truth: how many are missing, stale, too many or twice."""
    found = read(snapshot)
    names = list(key)
    twice = int(found.duplicated(names).sum())
    both = wanted.merge(found, on=names, how="outer", indicator=True, suffixes=("", ":found"))
    common = both[both["_merge"] == "both"]
    stale = pd.Series(data=False, index=common.index)
    for name in wanted.columns.difference(names):
        a, b = common[name], common[f"{name}:found"]
        stale |= (a != b) & ~(a.isna() & b.isna())
    return {
        "missing": int((both["_merge"] == "left_only").sum()),
        "too many": int((both["_merge"] == "right_only").sum()),
        "stale": int(stale.sum()),
        "twice": twice,
    }


NONE = {"missing": 0, "too many": 0, "stale": 0, "twice": 0}


@dataclass
class Memory:
    """A source in memory that compares times exactly and hands over rows in any order."""

    rows: list[Row]
    seed: int = 0
    incremental: bool = True
    loose: bool = False
    state: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    updated_at: str = ""
    label_time: str = ""

    def names(self) -> list[str]:
        return list(NAMES)

    def chunks(self, names: Sequence[str], since: Since | None = None) -> Iterator[Chunk]:
        rows = [r for r in self.rows if since is None or self._new(r, since)]
        random.Random(self.seed).shuffle(rows)
        size = base.CHUNK_ROWS
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            yield {name: pa.array([r[name] for r in part]) for name in names}

    def close(self) -> None:
        pass

    def _new(self, row: Row, since: Since) -> bool:
        low = since.time.replace(tzinfo=None)
        if since.until is not None:
            return bool(low <= row["at"] < since.until.replace(tzinfo=None))
        edge = since.changed.replace(tzinfo=None) if since.changed else None
        named = [n for n in (self.updated_at, self.label_time) if n and row[n] is not None]
        return bool(row["at"] >= low or (edge and any(row[n] >= edge for n in named)))


@dataclass
class Life:
    """Random transactions on a table; a statement is visible once it is committed."""

    random: random.Random
    acts: Sequence[str]
    versions: bool = False  # a change appends a version instead of replacing the row
    delay: timedelta = 50 * timedelta(minutes=1)  # the longest transaction; overlap is an hour
    rows: list[Row] = field(default_factory=list)
    waiting: list[tuple[datetime, str, Any]] = field(default_factory=list)
    count: int = 0

    def go_on(self, start: datetime, until: datetime, count: int) -> None:
        """`count` statements between two moments; then all commits that are due happen."""
        span = (until - start).total_seconds()
        for moment in sorted(self.random.uniform(0, span) for _ in range(count)):
            self._state(start + timedelta(microseconds=int(moment * 1e6)))
        self.commit(until)

    def commit(self, until: datetime | None = None) -> None:
        """Everything whose commit is due, in the order of the commits."""
        due = sorted(
            (w for w in self.waiting if until is None or w[0] <= until), key=lambda w: w[0]
        )
        self.waiting = [w for w in self.waiting if until is not None and w[0] > until]
        for _, act, content in due:
            if act in ("insert", "late", "twin"):
                self.rows.append(content)
            elif act == "delete":
                self.rows = [r for r in self.rows if r["id"] != content]
            elif self.versions:
                self.rows += [{**r, **content} for r in self._newest(content["id"])]
            else:
                self.rows = [{**r, **content} if r["id"] == content["id"] else r for r in self.rows]

    def _newest(self, number: int) -> list[Row]:
        return sorted((r for r in self.rows if r["id"] == number), key=lambda r: r["changed"])[-1:]

    def _state(self, moment: datetime) -> None:
        rng = self.random
        commit = moment + self.delay * rng.random()
        act = rng.choice(self.acts) if rng.random() < 0.4 and self.rows else "insert"
        stamp = moment.replace(tzinfo=None)
        victim = rng.choice(self.rows) if self.rows else None
        busy = {w[2]["id"] if isinstance(w[2], dict) else w[2] for w in self.waiting}
        if act != "insert" and (victim is None or victim["id"] in busy):
            return
        assert victim is not None or act == "insert"
        content: Any
        if act in ("insert", "late"):
            at = stamp - (timedelta(days=rng.uniform(0.5, 9)) if act == "late" else timedelta(0))
            label = stamp + rng.choice([0, 0, 1, 30]) * HOUR
            content = some_row(self.count, at, changed=stamp, known_at=label)
            content["y"] = None if rng.random() < 0.1 else content["y"]
            content["changed"] = stamp if self.versions or rng.random() < 0.9 else None
            if act == "late":
                content["changed"] = stamp
            self.count += 1
        elif act == "twin":
            content = dict(victim)
        elif act == "delete":
            content = victim["id"]
        else:
            content = {"id": victim["id"], "changed": stamp}
            if act == "update":
                content |= {"x": rng.random(), "y": rng.choice([0, 1])}
            elif act == "take back":
                content |= {"y": None} if rng.random() < 0.5 else {"known_at": None}
            elif act == "move":
                days = rng.choice([-9, -3, -1, 1, 3, 40])
                content |= {"at": victim["at"] + days * DAY}
        self.waiting.append((commit, act, content))
