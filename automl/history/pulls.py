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
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from automl.errors import HistoryError
from automl.history.columns import (
    FIRST,
    LAST,
    Kind,
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
    all_differ,
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
    Rows,
    Shaper,
    Widen,
    Window,
    aside_table,
    leave_out,
    refuse_vanished,
)
from automl.history.snapshots import Folders, Pull, Snapshot, freeze, pulls, record
from automl.history.sources import Since, Source, open_source
from automl.history.upserts import Upsert, compared, upsert
from automl.problem import Problem
from automl.workspace import Workspace, now

__all__ = ["plain_keys", "pull", "pull_batch", "sample"]

OVERLAP = timedelta(
    hours=1
)  # longer than any transaction of a source, unless the file says otherwise
CLOCKS = timedelta(minutes=1)  # by which clocks may differ where open transactions are visible
EARLIEST = datetime(2, 1, 1, tzinfo=UTC)  # times before it are no times
TOUCHED = 8  # windows that a pull touched and compares with the source, newest first
SMALL_INCREMENT = 10  # rows of an increment that may be set aside whatever their share of it
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
        shaper = Shaper(problem, window, names, loose=source.loose, every=True)
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
            told: dict[str, pa.Array] = {}
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


class _AnewError(Exception):
    """Why everything is pulled after all."""


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
    audited: str = ""  # end of the older window that was compared last, in turn

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
                except _AnewError as error:
                    why = str(error)
                    self.warnings.clear()
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
        h = self.problem.history
        backwards = self.as_of < last.as_of or (self.as_of == last.as_of and not self.verify)
        since = datetime.fromisoformat(last.since) if last.since else None
        hurdles = [
            (self.kinds is None, "there is no contract"),
            (
                backwards,
                f"as_of is not later than that of the last pull, {last.as_of:%Y-%m-%d %H:%M}",
            ),
            (last.recipe != self._recipe(), "problem file or contract have changed"),
            (
                since is not None and (window.since is None or window.since < since),
                "history.keep has grown",
            ),
            (not h.key and bool(h.source), "there is no key"),
        ]
        why = next((reason for holds, reason in hurdles if holds), "")
        if why:
            return None, why
        try:
            _, parts, schema = load(folders.snapshots / f"{last.snapshot[:24]}.json")
        except HistoryError:
            return None, "the last snapshot is gone"
        if any(not p.path(folders.parts).exists() for p in parts):
            return None, "a part of the last snapshot is gone"
        return (last, parts, schema), ""

    def _edges(self, base: Pull) -> Since:
        """From where on rows may be new."""
        h = self.problem.history
        visible = base.state.get("watermark")
        overlap = (
            timedelta(seconds=h.overlap.seconds) if h.overlap else (CLOCKS if visible else OVERLAP)
        )
        if h.files:
            overlap = timedelta(0)  # files that have not changed hold nothing new
        moments = [base.as_of]
        if not h.files:
            # as_of may lie ahead of the clock: what was written after the pull began is new
            moments.append(base.at - timedelta(seconds=base.seconds))
        if visible:
            moments.append(datetime.fromisoformat(visible))
        changed = min(moments) - overlap
        by_time = min(datetime.fromisoformat(base.until), *moments) - overlap
        return Since(by_time, changed if h.updated_at or h.label_time else None)

    # ------------------------------------------------------------ everything

    def _pull_all(self, folders: Folders, source: Source, shaper: Shaper, why: str) -> Snapshot:
        while True:
            try:
                return self._pull_once(folders, source, shaper, why)
            except Widen as found:
                shaper = shaper.widened(found.name)

    def _pull_once(self, folders: Folders, source: Source, shaper: Shaper, why: str) -> Snapshot:
        writer: PartWriter | None = None
        aside: list[pa.Table] = []
        unlabelled: list[pa.Table] = []
        try:
            for chunk in source.chunks(self._wanted(shaper)):
                rows = shaper.shape(chunk)
                if rows is None:
                    continue
                aside.append(rows.aside)
                unlabelled += [rows.unlabelled] if len(rows.unlabelled) else []
                if shaper.layout is not None and rows.kept.column_names:
                    writer = writer or self._writer(folders, shaper, [])
                    writer.add(rows.kept)
            self.counts["fetched"] = shaper.seen
            _within_limit(self.problem, shaper, sum(map(len, aside)))
            parts = (
                _without_twins(writer, self.problem, shaper, aside, unlabelled) if writer else []
            )
            if not parts or writer is None:
                raise _nothing_left(self.problem, self.as_of, shaper)
            self.counts["new"] = sum(p.rows for p in parts)
            return self._finish(folders, source, shaper, writer, parts, aside, why)
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
        writer = self._writer(folders, shaper, list(held))
        try:
            if writer.schema != schema:
                raise _AnewError("the columns have changed")
            aside: list[pa.Table] = []
            fresh = self._fetch(source, [(shaper, self._edges(last))], aside)
            _within_limit(self.problem, shaper, sum(map(len, aside)), held=last.rows)
            self._upsert(writer, fresh, shaper.window, last)
            aside.append(self._old_aside(folders, last, fresh, shaper.window, aside))
            parts = self._audited(source, shaper, writer, base, fresh, aside)
            if not parts:
                raise _nothing_left(self.problem, self.as_of, shaper)
            return self._finish(folders, source, shaper, writer, parts, aside, "")
        finally:
            writer.close()

    def _fetch(
        self, source: Source, asked: Sequence[tuple[Shaper, Since]], aside: list[pa.Table]
    ) -> _Delta:
        kept: list[pa.Table] = []
        unlabelled: list[pa.Table] = []
        changed: list[pa.Table] = []
        count = 0
        for shaper, since in asked:
            every = self._every_key(shaper) if since.until is None else None
            for chunk in source.chunks(self._wanted(shaper), since):
                if every is not None:
                    changed += _changed(every.shape(chunk), since)
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
                    raise _AnewError(f"more than {DELTA_ROWS} rows have changed")
            self.counts["fetched"] += shaper.seen
        fresh = _resolve(self.problem, asked[0][0], kept, unlabelled, aside)
        return replace(fresh, changed=pa.concat_tables(changed)) if changed else fresh

    def _every_key(self, shaper: Shaper) -> Shaper | None:
        """Tells the keys of all versions, also of those that are not kept; None if none can change."""
        h = self.problem.history
        if not h.key or not h.updated_at or shaper.layout is None:
            return None
        kinds: dict[str, Kind] = {k: shaper.layout.kinds[k] for k in (*h.key, h.time)}
        always = Window(FIRST.to_pydatetime(), LAST.to_pydatetime(), LAST.to_pydatetime())
        layout = replace(shaper.layout, kinds=kinds)
        return Shaper(self.problem, always, shaper.names, batch=True, layout=layout)

    def _elsewhere(self, fresh: _Delta) -> tuple[pa.Table, np.ndarray]:
        """Keys whose known version is no row of this history, and keys that changed after as_of.

        Of the latter the version that was known stays, although the source no longer shows it.
        """
        changed = fresh.changed
        if not len(changed):
            return changed, np.array([], dtype="int64")
        key = self.problem.history.key
        stamps = np.asarray(changed[UPDATED].to_numpy()).astype("datetime64[us]")
        after = stamps >= np.datetime64(utc_naive(self.as_of), "us")
        ids = identities(changed, key)
        moved = ~after & ~np.isin(ids, identities(fresh.keys, key))
        return changed.filter(pa.array(moved)).select(list(key)), ids[after]

    def _upsert(self, writer: PartWriter, fresh: _Delta, window: Window, last: Pull) -> None:
        """Replace by key, then add; a part that does not change keeps its file."""
        h = self.problem.history
        spoken = fresh.keys
        moved, _ = self._elsewhere(fresh)
        if len(moved) and not h.source:  # a database is asked again, others are taken at their word
            spoken = pa.concat_tables([spoken, moved], promote_options="default")
        found = upsert(
            writer.folder,
            writer.parts,
            writer.schema,
            (h.time, h.key),
            (fresh.rows, spoken),
            window.since,
        )
        if h.files and (found.updated or found.removed):
            raise _AnewError("a new file holds other versions of known rows")
        self.counts["new"] += int(found.new.sum())
        self.counts["updated"] += found.updated
        self.counts["deleted"] += found.removed
        if h.key and not h.label_time and len(found.rows):
            stamps = np.asarray(found.rows[h.time].to_numpy()).astype("datetime64[us]")
            ripe = np.datetime64(utc_naive(datetime.fromisoformat(last.until)), "us")
            self.counts["late"] += int((found.new & (stamps < ripe)).sum())
        _place(writer, found)

    # ------------------------------------------------------------ against the source

    def _audited(
        self,
        source: Source,
        shaper: Shaper,
        writer: PartWriter,
        base: tuple[Pull, list[Part], pa.Schema],
        fresh: _Delta,
        aside: list[pa.Table],
    ) -> list[Part]:
        """Parts after comparing windows with the source: those touched, and an older one in turn."""
        last, held, _ = base
        h = self.problem.history
        parts = writer.finish()
        self.audited = last.audited
        if not h.source or not parts:
            return parts
        names = {p.name for p in held}
        tiles = _tiles(parts, shaper.window)
        # rows from here on were all read just now, in the same transaction
        read_from = None if self.verify else self._edges(last).time
        if read_from is None:
            chosen = tiles
        else:
            turn = ([t for t in tiles if t.part.first >= last.audited] or tiles)[:1]
            self.audited = f"{turn[0].high:%Y-%m-%d}"
            touched = [t for t in tiles if t.part.name not in names and t.high <= read_from]
            chosen = list(dict.fromkeys([*touched[-TOUCHED:], *turn]))
        moved, later = self._elsewhere(fresh)
        suspect = remove_keys(writer.folder, parts, writer.schema, h.key, moved)
        wrong = [t for t in tiles if t.part in suspect]
        wrong += [
            t
            for t in chosen
            if t.part not in suspect and not self._agrees(source, shaper, t, aside, read_from)
        ]
        self.counts["verified"] = len({*chosen, *wrong})
        if not wrong:
            return parts
        self.counts["repaired"] = len(wrong)
        repair = PartWriter(writer.folder, writer.schema, writer.time, writer.key, parts=parts)
        try:
            self._repair(source, shaper, repair, wrong, (moved, later), aside)
            repaired = repair.finish()
            writer.written += repair.written
            return repaired
        finally:
            repair.close()

    def _agrees(
        self,
        source: Source,
        shaper: Shaper,
        tile: _Tile,
        aside: Sequence[pa.Table],
        read_from: datetime | None,
    ) -> bool:
        """Whether the source has the part's keys in its window, with the same time, label and change.

        Rows from `read_from` on are not compared again.
        """
        assert shaper.layout is not None
        h = self.problem.history
        if read_from is not None and read_from < tile.high:
            if read_from <= tile.low:
                return True
            tile = tile._replace(high=read_from)
        layout = replace(
            shaper.layout, kinds={n: shaper.layout.kinds[n] for n in (*h.key, h.time, h.target)}
        )
        counter = Shaper(self.problem, self._inside(tile), shaper.names, layout=layout)
        wanted = [n for n in (*layout.names, h.updated_at, h.label_time) if n]
        chunks = source.chunks(list(dict.fromkeys(wanted)), Since(tile.low, None, tile.high))
        rows = [r for r in map(counter.shape, chunks) if r is not None and r.kept.column_names]
        without = [r.unlabelled for r in rows if len(r.unlabelled)]
        there = _resolve(self.problem, counter, [r.kept for r in rows], without, []).rows
        held = pq.read_table(
            tile.part.path(Folders(self.workspace.history(self.problem.name)).parts),
            columns=there.column_names,
        )
        if read_from is not None:
            times = np.asarray(held[h.time].to_numpy()).astype("datetime64[us]")
            held = held.filter(pa.array(times < np.datetime64(utc_naive(tile.high), "us")))
        missing, extra, same = compared(held, there, h.key)
        # of a row that changed after as_of an older version may be held
        later = counter.dropped["updated_after_as_of"]
        if later and self.verify:
            return False
        known = _keys_aside(aside)
        told = [
            _key_text(k) in known
            for k in there.filter(pa.array(missing)).select(list(h.key)).to_pylist()
        ]
        return same and extra <= later and all(told)

    def _inside(self, tile: _Tile) -> Window:
        keep = self.problem.history.keep
        since = max(tile.low, keep.before(self.as_of)) if keep else tile.low
        return Window(since, min(tile.high, self.problem.mature(self.as_of)), self.as_of)

    def _repair(
        self,
        source: Source,
        shaper: Shaper,
        writer: PartWriter,
        wrong: Sequence[_Tile],
        elsewhere: tuple[pa.Table, np.ndarray],
        aside: list[pa.Table],
    ) -> None:
        """Pull windows again; what the source no longer has follows `history.deleted`."""
        h = self.problem.history
        key = list(h.key)
        asked = [
            (
                Shaper(self.problem, self._inside(t), shaper.names, layout=shaper.layout),
                Since(t.low, None, t.high),
            )
            for t in wrong
        ]
        again: list[pa.Table] = []
        fresh = self._fetch(source, asked, again)
        aside[:] = [*(_outside(table, wrong) for table in aside), *again]
        before = read_parts(writer.folder, [t.part for t in wrong], writer.schema)
        held = identities(before, key)
        gone = ~np.isin(held, identities(fresh.keys, key))
        moved = np.isin(held, _ids(elsewhere[0], key))
        lost = gone & ~moved & ~np.isin(held, elsewhere[1])
        if lost.any():
            self._lost(before.filter(pa.array(lost)))
        goes = gone & moved if h.deleted == "keep" else (gone & moved) | lost
        leave = before.filter(pa.array(goes)).select(key)
        spoken = pa.concat_tables([fresh.keys, leave], promote_options="default")
        found = upsert(
            writer.folder,
            writer.parts,
            writer.schema,
            (h.time, h.key),
            (fresh.rows, spoken),
            None,
        )
        if found.new.any():
            self._late(found.rows.filter(pa.array(found.new)))
        self.counts["updated"] += found.updated
        self.counts["deleted"] += found.removed
        _place(writer, found)

    def _lost(self, rows: pa.Table) -> None:
        h = self.problem.history
        told = f"{len(rows)} rows of {_days_told(rows[h.time])} are gone from the source"
        if h.deleted == "refuse":
            raise HistoryError(
                f"history: {told}",
                code="rows_deleted",
                next_step='Bring them back, or set history.deleted = "drop" or "keep".',
            )
        self.warnings.append(f"{told} ({h.deleted})")

    def _late(self, rows: pa.Table) -> None:
        h = self.problem.history
        told = f"{len(rows)} rows of {_days_told(rows[h.time])} came later than the overlap"
        if h.late == "refuse":
            raise HistoryError(
                f"history: {told}",
                code="late_rows",
                next_step='Raise history.overlap, or set history.late = "take".',
            )
        self.counts["new"] += len(rows)
        self.counts["late"] += len(rows)
        self.warnings.append(f"{told}; their window was pulled again")

    # ------------------------------------------------------------ the end

    def _old_aside(
        self,
        folders: Folders,
        last: Pull,
        fresh: _Delta,
        window: Window,
        aside: Sequence[pa.Table],
    ) -> pa.Table:
        """Rows that are still set aside from earlier pulls, and not told again by this one."""
        file = folders.quarantine / last.quarantine
        if not last.quarantine or not file.exists():
            return pa.table({})
        table = pq.read_table(file)
        key = list(self.problem.history.key)
        spoken = {
            _key_text(k)
            for t in (fresh.keys, fresh.changed)
            if len(t)
            for k in t.select(key).to_pylist()
        }
        again = {
            (row["reason"], row["column"], row["key"], row["row"])
            for t in aside
            for row in (t.to_pylist() if key else [])
        }
        keep = np.array(
            [
                row["key"] not in spoken
                and (row["reason"], row["column"], row["key"], row["row"]) not in again
                for row in table.to_pylist()
            ],
            dtype=bool,
        )
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
                audited=self.audited,
            ),
        )
        kept = _told(snapshot, shaper, shaper.names, file)
        return replace(kept, quarantined=quarantined, warnings=(*kept.warnings, *self.warnings))


@dataclass(frozen=True, slots=True)
class _Delta:
    """Rows of an increment, one per key, and every key that the increment speaks of."""

    rows: pa.Table
    keys: pa.Table
    changed: pa.Table = field(
        default_factory=lambda: pa.table({})
    )  # key and change of all versions


class _Tile(NamedTuple):
    """A part and the window that it stands for, up to where the next one starts."""

    part: Part
    low: datetime
    high: datetime


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
    keys = pa.concat_tables(t.select(list(dict.fromkeys(names))) for t in [rows, *unlabelled])
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
    without = pa.concat_tables(list(unlabelled)) if unlabelled else None
    versions = UPDATED in writer.schema.names and without is not None and len(without)
    if not versions and all_differ(parts):
        return parts
    ids = [identities(_keys(writer, p, key), key) for p in parts]
    every = np.concatenate(ids)
    twice = _repeated(every)
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


def _tiles(parts: Sequence[Part], window: Window) -> list[_Tile]:
    """All time up to the window's end, cut where parts start."""
    midnight = {"hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    starts = [datetime.fromisoformat(p.first).replace(tzinfo=UTC, **midnight) for p in parts]  # type: ignore[arg-type]
    lows = [window.since or EARLIEST, *starts[1:]]
    highs = [*starts[1:], max(window.until, day_after(parts[-1].last))]
    return [_Tile(*told) for told in zip(parts, lows, highs, strict=True)]


def _outside(aside: pa.Table, tiles: Sequence[_Tile]) -> pa.Table:
    """Rows set aside whose time lies in none of the windows."""
    if not aside.column_names or not len(aside):
        return aside
    times = aside["time"].to_pandas()
    keep = np.ones(len(aside), dtype=bool)
    for tile in tiles:
        low, high = utc_naive(tile.low), utc_naive(tile.high)
        keep &= ~((times >= low) & (times < high)).to_numpy(bool)
    return aside.filter(pa.array(keep))


def _keys_aside(aside: Sequence[pa.Table]) -> set[str]:
    return {k for t in aside if t.column_names for k in t["key"].to_pylist()}


def _key_text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, default=str, ensure_ascii=False, sort_keys=True)


def _changed(rows: Rows | None, since: Since) -> list[pa.Table]:
    """Key and change of the rows that changed, if any."""
    if rows is None or since.changed is None or not len(rows.kept):
        return []
    stamps = np.asarray(rows.kept[UPDATED].to_numpy()).astype("datetime64[us]")
    return [rows.kept.filter(pa.array(stamps >= np.datetime64(utc_naive(since.changed), "us")))]


def _place(writer: PartWriter, found: Upsert) -> None:
    """Give a change to the writer; a small last part grows instead of being followed by another."""
    rests = dict(found.rests)
    tail = writer.parts[-1] if writer.parts else None
    if tail is not None and tail not in rests and len(found.rows) and tail.rows < _small():
        newest = np.asarray(found.rows[writer.time].to_numpy()).max()
        if newest >= np.datetime64(utc_naive(day_after(tail.last))):
            rests[tail] = read_parts(writer.folder, [tail], writer.schema)
    writer.take_out(rests)
    for rest in rests.values():
        writer.add(rest)
    if len(found.rows):
        writer.add(in_order(found.rows, writer.time, writer.key))


def _ids(table: pa.Table, key: Sequence[str]) -> np.ndarray:
    return identities(table, key) if len(table) else np.array([], dtype="int64")


def _days_told(times: pa.ChunkedArray) -> str:
    days = np.asarray(times.to_numpy()).astype("datetime64[D]")
    low, high = days.min(), days.max()
    return f"{low}" if low == high else f"{low} to {high}"


def _small() -> int:
    from automl.history import parts  # noqa: PLC0415  a test may shrink it

    return parts.PART_ROWS


def _within_limit(problem: Problem, shaper: Shaper, count: int, held: int = 0) -> None:
    """Refuse when too large a share of the rows that may be known had to be set aside.

    An increment to `held` rows may be small: a few bad rows of it are no reason to stop a cycle.
    """
    limit = problem.history.quarantine
    known = shaper.taken + shaper.dropped["no_label"] + count
    if count and count > max(limit * known, min(SMALL_INCREMENT, limit * held)):
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
