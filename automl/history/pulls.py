"""One pull: everything the first time, afterwards what is new or changed, checked against the source.

New is what is younger than the last pull knew, by time, by `updated_at` and by `label_time`, with an
overlap for transactions that were open then. Rows are replaced by key. Each pull compares the windows
it touched, and one older window in rotation, with the source, and pulls a window that differs again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from automl.errors import HistoryError
from automl.history.columns import (
    FIRST,
    Kinds,
    also_named,
    as_times,
    require,
    unread,
    utc_naive,
)
from automl.history.disk import writing
from automl.history.oddities import mended_words, refuse_names
from automl.history.parts import (
    Part,
    PartWriter,
    day_after,
    digest_of,
    identities,
    in_order,
    read_parts,
    remove_keys,
)
from automl.history.personal import discreet, hashed, personal_keys, require_secret
from automl.history.shape import (
    UPDATED,
    Layout,
    Reason,
    Shaper,
    Widen,
    Window,
    aside_table,
    leave_out,
    refuse_vanished,
)
from automl.history.snapshots import Folders, Pull, Snapshot, freeze, pulls, record
from automl.history.sources import Since, Source, open_source
from automl.problem import Problem
from automl.workspace import Workspace, now

__all__ = ["plain_keys", "pull", "pull_batch", "sample"]

OVERLAP = timedelta(
    hours=1
)  # longer than any transaction of a source, unless the file says otherwise
CLOCKS = timedelta(minutes=1)  # by which clocks may differ where open transactions are visible
DELTA_ROWS = 1_500_000  # more changed rows than this are pulled as a whole
_log = logging.getLogger(__name__)


def pull(
    problem: Problem,
    workspace: Workspace,
    as_of: datetime,
    *,
    kinds: Kinds | None = None,
    nulls: Sequence[str] = (),
    verify: bool = False,
) -> Snapshot:
    """Pull the labelled rows known at `as_of` and freeze them.

    `kinds` are the declared column kinds; without them kinds are inferred from the rows that stay.
    `nulls` are texts that mean a gap. `verify` compares every window with the source.

    Raises
    ------
    HistoryError
        A declared column is missing, too many rows do not fit, the query fails, or no labelled row is
        left. Nothing of what was there before has changed.
    UnreachableError
        The database or the files are not there, or went away.
    ProblemError
        The URL or callable is wrong; a personal key needs a secret.
    """
    require_secret(problem)
    job = _Pulling(problem, workspace, as_of, kinds, tuple(nulls), verify)
    with discreet(problem), writing(workspace.history(problem.name)):
        snapshot = job.run()
    _log.info(
        "pulled %d labelled rows of %s until %s", snapshot.rows, problem.name, as_of.isoformat()
    )
    return snapshot


def pull_batch(
    problem: Problem,
    workspace: Workspace,
    as_of: datetime,
    *,
    kinds: Kinds,
    nulls: Sequence[str] = (),
) -> Snapshot:
    """Pull the rows to predict, `as_of <= time < until`, without target and ignored columns.

    Raises
    ------
    HistoryError
        As for `pull`; also when the window holds no row, or a key twice.
    """
    require_secret(problem)
    with discreet(problem), writing(workspace.history(problem.name)):
        return _pull_batch(problem, workspace, as_of, kinds, nulls)


def _pull_batch(
    problem: Problem, workspace: Workspace, as_of: datetime, kinds: Kinds, nulls: Sequence[str]
) -> Snapshot:
    h = problem.history
    until = problem.until(as_of)
    folders = Folders(workspace.history(problem.name))
    layout = Layout(leave_out(problem, kinds, batch=True), tuple(nulls))
    source = _open_batch(problem, workspace, as_of)
    writer = None
    try:
        names = source.names()
        refuse_names(problem, names)
        require(names, {"history.time": h.time}, {f"history.key {k!r}": k for k in h.key})
        refuse_vanished(layout.kinds, names)
        shaper = Shaper(problem, Window(as_of, until, as_of), names, batch=True, layout=layout)
        updated = bool(h.updated_at) and h.updated_at in names
        wanted = list(dict.fromkeys([*layout.names, *([h.updated_at] if updated else [])]))
        schema = layout.schema(updated=updated)
        writer = PartWriter(folders.parts, schema, h.time, h.key)
        aside: list[pa.Table] = []
        for chunk in source.chunks(wanted):
            rows = shaper.shape(chunk)
            if rows is not None:
                aside.append(rows.aside)
                if len(rows.kept.column_names):
                    writer.add(rows.kept)
        _within_limit(problem, shaper, sum(map(len, aside)))
        if not shaper.taken and not shaper.reasons:
            raise _empty_batch(problem, as_of, until, shaper)
        parts = _without_twins(writer, problem, shaper, aside, batch=True)
        if not parts:
            raise _empty_batch(problem, as_of, until, shaper)
        snapshot = freeze(folders.batches, problem, layout.kinds, parts, digest_of(schema, parts))
        file = _keep_aside(folders, f"batch-{as_of:%Y%m%dT%H%M%S}", aside)
        return _told(snapshot, shaper, names, file)
    finally:
        source.close()
        if writer is not None:
            writer.close()


def sample(
    problem: Problem, workspace: Workspace, as_of: datetime, since: datetime
) -> tuple[pd.DataFrame, tuple[str, ...], Mapping[str, str]]:
    """The labelled rows from `since` on as they would be pulled without a contract.

    Returns the rows, all columns that the source offers, and why some are left out.

    Raises
    ------
    HistoryError, UnreachableError, ProblemError
        As for `pull`.
    """
    require_secret(problem)
    with discreet(problem):
        return _sample(problem, workspace, as_of, since)


def _sample(
    problem: Problem, workspace: Workspace, as_of: datetime, since: datetime
) -> tuple[pd.DataFrame, tuple[str, ...], Mapping[str, str]]:
    h = problem.history
    source = open_source(problem, workspace, h.query, {"as_of": as_of})
    try:
        names = source.names()
        refuse_names(problem, names)
        require(names, {"history.time": h.time, "history.target": h.target}, also_named(problem))
        window = Window(since, problem.mature(as_of), as_of)
        shaper = Shaper(problem, window, names, loose=source.loose)
        wanted = [name for name in names if name not in unread(problem)]
        tables: list[pa.Table] = []
        while True:
            try:
                for chunk in source.chunks(wanted, Since(since)):
                    rows = shaper.shape(chunk)
                    if rows is not None and rows.kept.column_names:
                        tables.append(rows.kept)
                break
            except Widen as found:
                tables.clear()
                shaper = shaper.widened(found.name)
        if not tables:
            raise _nothing_left(problem, as_of, shaper)
        unused = dict(shaper.layout.unused) if shaper.layout else {}
        table = pa.concat_tables(tables)
        keep = [n for n in table.column_names if n != UPDATED]
        return table.select(keep).to_pandas(), tuple(names), unused
    finally:
        source.close()


def plain_keys(problem: Problem, workspace: Workspace, as_of: datetime) -> pd.DataFrame | None:
    """Hashed and plain personal keys of a batch, `name` and `name:plain`; None without personal keys.

    The plain ones are for the publish target alone: they are read again when they are needed and never
    written anywhere else.
    """
    h = problem.history
    personal = personal_keys(problem)
    if not personal:
        return None
    source = _open_batch(problem, workspace, as_of)
    try:
        tables = []
        for chunk in source.chunks(list(dict.fromkeys([*personal, h.time]))):
            times = as_times(chunk[h.time], h.timezone).cells
            stamps = np.asarray(times.to_numpy(zero_copy_only=False)).astype("datetime64[us]")
            inside = (stamps >= np.datetime64(utc_naive(as_of), "us")) & (
                stamps < np.datetime64(utc_naive(problem.until(as_of)), "us")
            )
            told = {}
            for name in personal:
                plain = _as_text(chunk[name]).filter(pa.array(inside))
                told |= {name: hashed(plain), f"{name}:plain": plain}
            tables.append(pa.table(told))
        return pa.concat_tables(tables).to_pandas().drop_duplicates(ignore_index=True)
    finally:
        source.close()


def _as_text(column: Any) -> pa.Array:
    from automl.history.columns import as_kind  # noqa: PLC0415

    return as_kind(column, "text").cells


def _open_batch(problem: Problem, workspace: Workspace, as_of: datetime) -> Source:
    until = problem.until(as_of)
    # without a batch query the history query is asked for everything before the end of the window
    bound = (
        {"as_of": as_of, "until": until}
        if problem.batch.query
        else {"as_of": until, "until": until}
    )
    return open_source(problem, workspace, problem.batch.query or problem.history.query, bound)


class _TooMuchError(Exception):
    """More has changed than an increment should hold: everything is pulled."""


@dataclass(slots=True)
class _Pulling:
    """The state of one pull of labelled history."""

    problem: Problem
    workspace: Workspace
    as_of: datetime
    kinds: Kinds | None
    nulls: tuple[str, ...]
    verify: bool
    started: float = field(default_factory=time.monotonic)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("fetched", "new", "updated", "late", "deleted", "verified", "repaired"), 0
        )
    )
    warnings: list[str] = field(default_factory=list)

    def run(self) -> Snapshot:
        """Pull, whole or in part."""
        h = self.problem.history
        keep = h.keep.before(self.as_of) if h.keep else None
        window = Window(keep, self.problem.mature(self.as_of), self.as_of)
        folders = Folders(self.workspace.history(self.problem.name))
        base, why = self._base(folders, window)
        source = open_source(
            self.problem,
            self.workspace,
            h.query,
            {"as_of": self.as_of},
            base[0].state if base else None,
        )
        try:
            names = source.names()
            refuse_names(self.problem, names)
            require(
                names,
                {"history.time": h.time, "history.target": h.target},
                also_named(self.problem),
            )
            layout = None
            if self.kinds is not None:
                layout = Layout(leave_out(self.problem, self.kinds, batch=False), self.nulls)
                layout.kinds.pop(
                    h.updated_at if h.updated_at not in (h.time, h.target) else "", None
                )
                refuse_vanished(layout.kinds, names)
            shaper = Shaper(self.problem, window, names, loose=source.loose, layout=layout)
            if base and not source.incremental:
                base, why = None, "the source cannot tell what is new"
            if base:
                try:
                    return self._pull_new(folders, source, shaper, base)
                except _TooMuchError:
                    why = f"more than {DELTA_ROWS} rows have changed"
                    self.counts = dict.fromkeys(self.counts, 0)
                    shaper = shaper.start(shaper.layout)
            return self._pull_all(folders, source, shaper, why)
        finally:
            source.close()

    # ------------------------------------------------------------ what was there

    def _recipe(self) -> str:
        """Digest of all that decides which rows and columns are wanted, and what they look like."""
        h = self.problem.history
        told = h.model_dump(
            mode="json", exclude={"keep", "overlap", "deleted", "late", "quarantine"}
        )
        kinds = dict(sorted((self.kinds or {}).items()))
        content = [told, str(self.problem.task), kinds, list(self.nulls)]
        if personal_keys(self.problem):  # under another secret every key is another one
            content.append(hashed(pa.array([self.problem.name]))[0].as_py())
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def _base(
        self, folders: Folders, window: Window
    ) -> tuple[tuple[Pull, list[Part], pa.Schema] | None, str]:
        """The pull to go on from, or why there is none."""
        from automl.history.snapshots import load  # noqa: PLC0415

        told = pulls(folders)
        if not told:
            return None, "the first pull"
        last = told[-1]
        if self.kinds is None:
            return None, "there is no contract"
        if self.as_of < last.as_of or (self.as_of == last.as_of and not self.verify):
            return (
                None,
                f"as_of is not later than that of the last pull, {last.as_of:%Y-%m-%d %H:%M}",
            )
        if last.recipe != self._recipe():
            return None, "problem file or contract have changed"
        if last.since and (
            window.since is None or window.since < datetime.fromisoformat(last.since)
        ):
            return None, "history.keep has grown"
        if not self.problem.history.key and self.problem.history.source:
            return None, "there is no key"
        try:
            _, parts, schema = load(folders.snapshots / f"{last.snapshot[:24]}.json")
        except HistoryError:
            return None, "the last snapshot is gone"
        if any(not p.path(folders.parts).exists() for p in parts):
            return None, "a part of the last snapshot is gone"
        return (last, parts, schema), ""

    def _edges(self, base: Pull, source: Source) -> Since:
        """From where on rows may be new."""
        h = self.problem.history
        visible = base.state.get("watermark")
        overlap = (
            timedelta(seconds=h.overlap.seconds) if h.overlap else (CLOCKS if visible else OVERLAP)
        )
        if self.problem.history.files:
            overlap = timedelta(0)  # files that have not changed hold nothing new
        moments = [base.as_of] + ([datetime.fromisoformat(visible)] if visible else [])
        changed = min(moments) - overlap
        ripe = datetime.fromisoformat(base.until)
        by_time = (
            ripe if h.updated_at else min(ripe, *moments) - overlap if visible else ripe - overlap
        )
        del source
        return Since(by_time, changed if h.updated_at or h.label_time else None)

    # ------------------------------------------------------------ everything

    def _pull_all(self, folders: Folders, source: Source, shaper: Shaper, why: str) -> Snapshot:
        while True:
            writer: PartWriter | None = None
            try:
                aside: list[pa.Table] = []
                unlabelled: list[pa.Table] = []
                wanted = self._wanted(shaper)
                for chunk in source.chunks(wanted):
                    rows = shaper.shape(chunk)
                    if rows is None:
                        continue
                    aside.append(rows.aside)
                    if shaper.layout is None:
                        continue
                    if writer is None:
                        writer = self._writer(folders, shaper, [])
                    if len(rows.unlabelled):
                        unlabelled.append(rows.unlabelled)
                    if rows.kept.column_names:
                        writer.add(rows.kept)
                self.counts["fetched"] = shaper.seen
                _within_limit(self.problem, shaper, sum(map(len, aside)))
                if writer is None:
                    raise _nothing_left(self.problem, self.as_of, shaper)
                parts = _without_twins(writer, self.problem, shaper, aside, unlabelled)
                if not parts:
                    raise _nothing_left(self.problem, self.as_of, shaper)
                self.counts["new"] = sum(p.rows for p in parts)
                return self._finish(folders, source, shaper, writer, parts, aside, why)
            except Widen as found:
                assert shaper.layout is not None
                kinds = {**shaper.layout.kinds, found.name: "text"}
                shaper = shaper.start(replace(shaper.layout, kinds=kinds))  # type: ignore[arg-type]
            finally:
                if writer is not None:
                    writer.close()

    def _wanted(self, shaper: Shaper) -> list[str]:
        """Columns that leave the source: all allowed ones until kinds are known."""
        h = self.problem.history
        updated = [h.updated_at] if h.updated_at and h.updated_at in shaper.names else []
        if shaper.layout is not None:
            return list(dict.fromkeys([*shaper.layout.names, *updated]))
        left_out = unread(self.problem)
        return [name for name in shaper.names if name not in left_out]

    def _writer(self, folders: Folders, shaper: Shaper, parts: list[Part]) -> PartWriter:
        h = self.problem.history
        assert shaper.layout is not None
        updated = bool(h.updated_at) and h.updated_at in shaper.names
        schema = shaper.layout.schema(updated=updated)
        return PartWriter(folders.parts, schema, h.time, h.key, parts=parts)

    # ------------------------------------------------------------ what is new

    def _pull_new(
        self,
        folders: Folders,
        source: Source,
        shaper: Shaper,
        base: tuple[Pull, list[Part], pa.Schema],
    ) -> Snapshot:
        last, held, schema = base
        since = self._edges(last, source)
        writer = self._writer(folders, shaper, list(held))
        try:
            if writer.schema != schema:
                raise _TooMuchError
            self._forget_old(writer, shaper.window)
            aside: list[pa.Table] = []
            fresh = self._fetch(source, shaper, since, aside)
            _within_limit(self.problem, shaper, sum(map(len, aside)))
            self._upsert(writer, fresh, last)
            old_aside = self._old_aside(folders, last, fresh, shaper.window)
            parts = self._audited(source, shaper, writer, held, [*aside, old_aside])
            if not parts:
                raise _nothing_left(self.problem, self.as_of, shaper)
            return self._finish(folders, source, shaper, writer, parts, [*aside, old_aside], "")
        finally:
            writer.close()

    def _fetch(self, source: Source, shaper: Shaper, since: Since, aside: list[pa.Table]) -> _Delta:
        kept: list[pa.Table] = []
        unlabelled: list[pa.Table] = []
        count = 0
        for chunk in source.chunks(self._wanted(shaper), since):
            rows = shaper.shape(chunk)
            if rows is None:
                continue
            aside.append(rows.aside)
            if len(rows.unlabelled):
                unlabelled.append(rows.unlabelled)
            if rows.kept.column_names:
                kept.append(rows.kept)
                count += len(rows.kept)
            if count > DELTA_ROWS:
                raise _TooMuchError
        self.counts["fetched"] += shaper.seen
        return _resolve(self.problem, shaper, kept, unlabelled, aside)

    def _upsert(self, writer: PartWriter, fresh: _Delta, last: Pull) -> None:
        """Replace by key, then add; a part that does not change keeps its file."""
        key = list(self.problem.history.key)
        time_name = self.problem.history.time
        ripe = np.datetime64(utc_naive(datetime.fromisoformat(last.until)), "us")
        hits = remove_keys(writer.folder, writer.parts, writer.schema, key, fresh.keys)
        known = 0
        if hits:
            wanted = set(identities(fresh.rows, key).tolist()) if len(fresh.rows) else set()
            for part, rest in hits.items():
                ids = identities(read_parts(writer.folder, [part], writer.schema), key)
                found = sum(1 for i in ids.tolist() if i in wanted)
                known += found
                self.counts["deleted"] += part.rows - len(rest) - found
        tail = writer.parts[-1:] if writer.parts and writer.parts[-1].rows < _small() else []
        for part in tail:
            if part not in hits:
                hits[part] = read_parts(writer.folder, [part], writer.schema)
        changed = self._changed(writer, hits, fresh.rows, key) if hits else 0
        writer.take_out(hits)
        for rest in hits.values():
            writer.add(rest)
        if len(fresh.rows):
            times = np.asarray(fresh.rows[time_name].to_numpy()).astype("datetime64[us]")
            fresh_rows = len(fresh.rows) - known
            self.counts["new"] += fresh_rows
            self.counts["updated"] += changed
            if key and fresh_rows:
                self.counts["late"] += max(0, int((times < ripe).sum()) - known)
            writer.add(in_order(fresh.rows, time_name, key))

    def _changed(
        self, writer: PartWriter, hits: Mapping[Part, pa.Table], rows: pa.Table, key: list[str]
    ) -> int:
        """How many of the replaced rows really differ."""
        if not key or not len(rows):
            return 0
        names = [n for n in writer.schema.names if n != UPDATED]
        before = read_parts(writer.folder, list(hits), writer.schema).select(names).to_pandas()
        after = rows.select(names).to_pandas()
        old = pd.Series(
            pd.util.hash_pandas_object(before, index=False).to_numpy(), index=_index(before, key)
        )
        new = pd.Series(
            pd.util.hash_pandas_object(after, index=False).to_numpy(), index=_index(after, key)
        )
        both = old.index.intersection(new.index)
        return int((old.loc[both].to_numpy() != new.loc[both].to_numpy()).sum())

    def _forget_old(self, writer: PartWriter, window: Window) -> None:
        """Drop what `history.keep` does not want any more."""
        if window.since is None:
            return
        since = np.datetime64(utc_naive(window.since), "us")
        gone = [p for p in writer.parts if np.datetime64(p.last, "us") < since]
        cut = [
            p
            for p in writer.parts
            if np.datetime64(p.first, "us") < since <= np.datetime64(p.last, "us")
        ]
        rest = []
        for part in cut:
            table = read_parts(writer.folder, [part], writer.schema)
            times = np.asarray(table[self.problem.history.time].to_numpy()).astype("datetime64[us]")
            rest.append(table.filter(pa.array(times >= since)))
        if gone or cut:
            writer.take_out([*gone, *cut])
            for table in rest:
                writer.add(table)

    # ------------------------------------------------------------ against the source

    def _audited(
        self,
        source: Source,
        shaper: Shaper,
        writer: PartWriter,
        held: Sequence[Part],
        aside: list[pa.Table],
    ) -> list[Part]:
        """Parts after comparing windows with the source: those touched, and an older one in turn."""
        parts = writer.finish()
        if not self.problem.history.source or not parts:
            return parts
        names = {p.name for p in held}
        touched = [p for p in parts if p.name not in names]
        older = [p for p in parts if p.name in names]
        chosen = older if self.verify else older[_turn(self.as_of, len(older)) :][:1]
        wrong = [part for part in [*touched[-8:], *chosen] if not self._agrees(source, part, aside)]
        self.counts["verified"] = len(touched[-8:]) + len(chosen)
        if not wrong:
            return parts
        self.counts["repaired"] = len(wrong)
        repair = PartWriter(
            writer.folder, writer.schema, writer.time, writer.key, parts=list(parts)
        )
        try:
            for part in wrong:
                self._repair(source, shaper, repair, part, aside)
            repaired = repair.finish()
            writer.written += repair.written
            return repaired
        finally:
            repair.close()

    def _agrees(self, source: Source, part: Part, aside: Sequence[pa.Table]) -> bool:
        """Whether the source counts as many labelled rows in the part's days, none of them changed since."""
        h = self.problem.history
        low, high = _span(part)
        names = [n for n in dict.fromkeys([h.time, h.target, h.updated_at, h.label_time]) if n]
        shaper = Shaper(
            self.problem, self._inside(low, high), names, layout=Layout({h.time: "time"})
        )
        count, newest = 0, ""
        for chunk in source.chunks(names, Since(low, None, high)):
            found = shaper.count(chunk)
            count += found[0]
            newest = max(newest, found[1])
        waiting = 0
        for table in aside:
            if table.column_names:
                times = table["time"].to_pandas()
                waiting += int(((times >= utc_naive(low)) & (times < utc_naive(high))).sum())
        return count == part.rows + waiting and newest <= part.changed

    def _inside(self, low: datetime, high: datetime) -> Window:
        keep = self.problem.history.keep
        since = max(low, keep.before(self.as_of)) if keep else low
        return Window(since, min(high, self.problem.mature(self.as_of)), self.as_of)

    def _repair(
        self,
        source: Source,
        shaper: Shaper,
        writer: PartWriter,
        part: Part,
        aside: list[pa.Table],
    ) -> None:
        """Pull one window again; what the source no longer has follows `history.deleted`."""
        h = self.problem.history
        low, high = _span(part)
        again = Shaper(self.problem, self._inside(low, high), shaper.names, layout=shaper.layout)
        fresh = self._fetch(source, again, Since(low, None, high), aside)
        key = list(h.key)
        before = read_parts(writer.folder, [part], writer.schema)
        held, found = identities(before, key), identities(fresh.rows, key)
        gone = ~np.isin(held, found)
        late = int((~np.isin(found, held)).sum())
        if gone.any() and h.deleted == "refuse":
            raise HistoryError(
                f"history: {int(gone.sum())} rows from {low:%Y-%m-%d} to {high:%Y-%m-%d} are no longer in the "
                "source",
                code="rows_deleted",
                next_step='Bring them back, or set history.deleted = "drop" or "keep".',
            )
        if late and h.late == "refuse":
            raise HistoryError(
                f"history: {late} rows from {low:%Y-%m-%d} to {high:%Y-%m-%d} came later than the overlap",
                code="late_rows",
                next_step='Raise history.overlap, or set history.late = "take".',
            )
        if late:
            self.counts["late"] += late
            self.warnings.append(
                f"{late} rows of {low:%Y-%m-%d} came late; their window was pulled again"
            )
        if gone.any():
            self.counts["deleted"] += int(gone.sum())
            self.warnings.append(
                f"{int(gone.sum())} rows of {low:%Y-%m-%d} are gone from the source ({h.deleted})"
            )
        elsewhere = remove_keys(
            writer.folder, [p for p in writer.parts if p != part], writer.schema, key, fresh.keys
        )
        writer.take_out([part, *elsewhere])
        for rest in elsewhere.values():
            writer.add(rest)
        if gone.any() and h.deleted == "keep":
            writer.add(before.filter(pa.array(gone)))
        if len(fresh.rows):
            writer.add(in_order(fresh.rows, h.time, key))

    # ------------------------------------------------------------ the end

    def _old_aside(self, folders: Folders, last: Pull, fresh: _Delta, window: Window) -> pa.Table:
        """Rows that are still set aside from earlier pulls."""
        file = folders.quarantine / last.quarantine
        if not last.quarantine or not file.exists():
            return pa.table({})
        table = pq.read_table(file)
        keep = np.ones(len(table), dtype=bool)
        if len(fresh.keys):
            again = {
                json.dumps(k, default=str, ensure_ascii=False, sort_keys=True)
                for k in fresh.keys.to_pylist()
            }
            keep &= np.array([k not in again for k in table["key"].to_pylist()], dtype=bool)
        if window.since is not None:
            times = table["time"].to_pandas()
            keep &= ~(times < utc_naive(window.since)).to_numpy(bool)
        return table.filter(pa.array(keep))

    def _finish(
        self,
        folders: Folders,
        source: Source,
        shaper: Shaper,
        writer: PartWriter,
        parts: list[Part],
        aside: list[pa.Table],
        why: str,
    ) -> Snapshot:
        assert shaper.layout is not None
        snapshot = freeze(
            folders.snapshots,
            self.problem,
            shaper.layout.kinds,
            parts,
            digest_of(writer.schema, parts),
        )
        at = now()
        file = _keep_aside(folders, f"{self.as_of:%Y%m%dT%H%M%S}-{at:%Y%m%dT%H%M%S%f}", aside)
        quarantined: dict[str, int] = {}
        for table in aside:
            if table.column_names:
                for reason in table["reason"].to_pylist():
                    quarantined[reason] = quarantined.get(reason, 0) + 1
        recipe = replace(self, kinds=self.kinds or shaper.layout.kinds)
        record(
            folders,
            Pull(
                as_of=self.as_of,
                at=at,
                snapshot=snapshot.digest,
                rows=snapshot.rows,
                first=parts[0].first,
                last=parts[-1].last,
                full=why,
                **self.counts,
                quarantined=quarantined,
                bytes_written=writer.written,
                bytes_total=sum(p.size for p in parts),
                seconds=round(time.monotonic() - self.started, 3),
                recipe=recipe._recipe(),
                since=shaper.window.since.isoformat() if shaper.window.since else "",
                until=shaper.window.until.isoformat(),
                state=dict(source.state),
                quarantine=file,
            ),
        )
        kept = _told(snapshot, shaper, shaper.names, file)
        return replace(kept, quarantined=quarantined, warnings=(*kept.warnings, *self.warnings))


@dataclass(frozen=True, slots=True)
class _Delta:
    """Rows of an increment, one per key, and every key that the increment speaks of."""

    rows: pa.Table
    keys: pa.Table


def _resolve(
    problem: Problem,
    shaper: Shaper,
    kept: list[pa.Table],
    unlabelled: list[pa.Table],
    aside: list[pa.Table],
) -> _Delta:
    """Of several versions of a key the newest; equal twins are one; others that tie are set aside."""
    h = problem.history
    assert shaper.layout is not None
    updated = bool(h.updated_at) and h.updated_at in shaper.names
    schema = shaper.layout.schema(updated=updated)
    rows = pa.concat_tables(kept) if kept else schema.empty_table()
    key = list(h.key)
    if not key:
        return _Delta(rows, pa.table({}))
    names = [*key, *([UPDATED] if updated else [])]
    frame = rows.select(list(dict.fromkeys(names))).to_pandas()
    frame["__row"] = np.arange(len(frame))
    if unlabelled:
        without = pa.concat_tables(unlabelled).select(list(dict.fromkeys(names))).to_pandas()
        frame = pd.concat([frame, without.assign(__row=-1)], ignore_index=True)
    keys = pa.Table.from_pandas(frame[key].drop_duplicates(), preserve_index=False)
    if not frame.duplicated(key).any():
        return _Delta(rows, keys)
    told = frame[UPDATED].fillna(FIRST) if updated else pd.Series(FIRST, index=frame.index)
    newest = told.groupby([frame[k] for k in key], sort=False, dropna=False).transform("max")
    old = (told < newest).to_numpy()
    shaper.dropped["older_version"] += int((old & (frame["__row"] >= 0)).sum())
    winners = frame.loc[~old & (frame["__row"] >= 0).to_numpy(), "__row"].to_numpy()
    rows = rows.take(pa.array(np.sort(winners)))
    return _Delta(_one_each(problem, shaper, rows, aside), keys)


def _one_each(problem: Problem, shaper: Shaper, rows: pa.Table, aside: list[pa.Table]) -> pa.Table:
    """One row per key: equal ones are one, ones that differ are set aside together."""
    key = list(problem.history.key)
    names = [n for n in rows.column_names if n != UPDATED]
    frame = rows.select(names).to_pandas()
    if not frame.duplicated(key).any():
        return rows
    first = ~frame.duplicated(names).to_numpy()
    shaper.mended["same_row", ""] += int((~first).sum())
    clash = frame[first].duplicated(key, keep=False)
    positions = np.flatnonzero(first)
    keep = positions[~clash.to_numpy()]
    if clash.any():
        losers = frame[first][clash]
        example = losers[key].head(1).to_dict("records")[0]
        reason = Reason(
            "duplicate_key",
            f"history.key {key}",
            f"found {len(losers)} rows that share a key but differ, for example {example}; "
            "wanted one row per key",
        )
        shaper.reasons[reason] += len(losers)
        aside.append(aside_table(problem, reason, rows.take(pa.array(positions[clash.to_numpy()]))))
    return rows.take(pa.array(keep))


def _without_twins(
    writer: PartWriter,
    problem: Problem,
    shaper: Shaper,
    aside: list[pa.Table],
    unlabelled: Sequence[pa.Table] = (),
    *,
    batch: bool = False,
) -> list[Part]:
    """All parts with one row per key; versions and twins are rare and looked at alone."""
    parts = writer.finish()
    key = list(problem.history.key)
    if not key or not parts:
        return parts
    ids = [identities(_keys(writer, p, key), key) for p in parts]
    every = np.concatenate(ids)
    twice = _repeated(every)
    without = pa.concat_tables(list(unlabelled)) if unlabelled else None
    versions = UPDATED in writer.schema.names and without is not None and len(without)
    if versions:
        assert without is not None
        taken_back = identities(without, key)
        twice = np.union1d(twice, taken_back[np.isin(taken_back, every)])
    if not len(twice):
        return parts
    before = sum(map(len, aside))
    hit = [p for p, i in zip(parts, ids, strict=True) if np.isin(i, twice).any()]
    again = PartWriter(writer.folder, writer.schema, writer.time, writer.key, parts=list(parts))
    again.written = writer.written
    candidates, rests = [], []
    for part in hit:
        table = read_parts(writer.folder, [part], writer.schema)
        mask = np.isin(identities(table, key), twice)
        candidates.append(table.filter(pa.array(mask)))
        rests.append(table.filter(pa.array(~mask)))
    told = (
        [without.filter(pa.array(np.isin(identities(without, key), twice)))]
        if versions and without
        else []
    )
    resolved = _resolve(problem, shaper, candidates, told, aside)
    again.take_out(hit)
    for table in [*rests, resolved.rows]:
        again.add(in_order(table, writer.time, key) if len(table) else table)
    try:
        found = again.finish()
    finally:
        again.close()
        writer.written = again.written
    apart = sum(map(len, aside)) - before
    if apart and batch:
        raise _first_reason(problem, shaper, "duplicate_key")
    _within_limit(problem, shaper, sum(map(len, aside)))
    return found


def _keys(writer: PartWriter, part: Part, key: list[str]) -> pa.Table:
    return pq.read_table(part.path(writer.folder), columns=key)


def _repeated(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "iu" and (np.diff(values) > 0).all():
        return values[:0]
    ordered = np.sort(values)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def _index(frame: pd.DataFrame, key: list[str]) -> pd.Index:
    return pd.Index(frame[key[0]]) if len(key) == 1 else pd.MultiIndex.from_frame(frame[key])


def _span(part: Part) -> tuple[datetime, datetime]:
    first = datetime.fromisoformat(part.first).replace(tzinfo=UTC)
    return first.replace(hour=0, minute=0, second=0, microsecond=0), day_after(part.last)


def _turn(as_of: datetime, count: int) -> int:
    """Which of the older windows is this pull's turn; another one each day."""
    return as_of.toordinal() % count if count else 0


def _small() -> int:
    from automl.history import parts  # noqa: PLC0415  a test may shrink it

    return parts.PART_ROWS


def _within_limit(problem: Problem, shaper: Shaper, count: int) -> None:
    """Refuse when too large a share of the rows that may be known had to be set aside."""
    limit = problem.history.quarantine
    known = shaper.taken + shaper.dropped["no_label"] + count
    if count and count > limit * known:
        worst = max(shaper.reasons, key=lambda r: (shaper.reasons[r], r))
        told = "; ".join(
            r.told(n) for r, n in sorted(shaper.reasons.items(), key=lambda i: -i[1])[:5]
        )
        raise HistoryError(
            f"{told} ({count} of {known} rows do not fit; at most {limit:.1%} are set aside)",
            code=worst.code,
            next_step=_ADVICE.get(worst.code, "Mend the source, or raise history.quarantine."),
        )


_ADVICE = {
    "bad_time": "Wanted ISO 8601; a local time that a clock change skips or repeats has no meaning.",
    "kind_changed": "Mend the source, or take the change: automl contract FILE --accept",
    "duplicate_key": "Return one row per key, or name updated_at so that the newest version wins.",
    "infinite_target": "Mend them in the source, or leave them out in history.query.",
    "null_key": "Return rows with a key only, or choose another history.key.",
}


def _first_reason(problem: Problem, shaper: Shaper, code: str) -> HistoryError:
    reason, count = next((r, n) for r, n in shaper.reasons.items() if r.code == code)
    return HistoryError(
        f"batch of {problem.name}: {reason.told(count)}", code=code, next_step=_ADVICE[code]
    )


def _keep_aside(folders: Folders, name: str, aside: Sequence[pa.Table]) -> str:
    tables = [t for t in aside if t.column_names and len(t)]
    if not tables:
        return ""
    folders.quarantine.mkdir(parents=True, exist_ok=True)
    path = folders.quarantine / f"{name}.parquet"
    staged = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        pq.write_table(pa.concat_tables(tables), staged)
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)
    return path.name


def _told(snapshot: Snapshot, shaper: Shaper, names: Sequence[str], file: str) -> Snapshot:
    del file
    counted: dict[str, int] = {}
    for reason, count in shaper.reasons.items():
        counted[reason.code] = counted.get(reason.code, 0) + count
    return replace(
        snapshot,
        dropped={reason: count for reason, count in shaper.dropped.items() if count},
        quarantined=counted,
        unused=dict(shaper.layout.unused) if shaper.layout else {},
        offered=tuple(names),
        warnings=tuple(mended_words(shaper.mended)),
    )


def _nothing_left(problem: Problem, as_of: datetime, shaper: Shaper) -> HistoryError:
    why = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in shaper.dropped.items() if n)
    span = (
        f"{shaper.seen} rows from {shaper.span[0]} to {shaper.span[1]}"
        if shaper.span
        else "no rows at all"
    )
    return HistoryError(
        f"history: found {span}; none is labelled at {as_of:%Y-%m-%d %H:%M} ({why or 'source is empty'})",
        code="no_history",
        next_step=f"Check history.target {problem.history.target!r}, history.time and --as-of.",
    )


def _empty_batch(
    problem: Problem, as_of: datetime, until: datetime, shaper: Shaper
) -> HistoryError:
    name = problem.history.time
    if shaper.dropped["updated_after_as_of"] and shaper.span:
        found = shaper.dropped["updated_after_as_of"]
        return HistoryError(
            f"batch: found {found} rows, all with {problem.history.updated_at} >= {as_of:%Y-%m-%d %H:%M}",
            code="empty_batch",
            next_step="Give a later --as-of, or load the coming rows before it.",
        )
    span = f"{shaper.span[0]} to {shaper.span[1]}" if shaper.span else "no rows at all"
    return HistoryError(
        f"batch: found {span}; wanted rows with "
        f"{as_of:%Y-%m-%d %H:%M} <= {name} < {until:%Y-%m-%d %H:%M}",
        code="empty_batch",
        next_step="Check that the coming rows are already in the source, or give another --as-of.",
    )
