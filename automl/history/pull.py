"""One pull: everything the first time, afterwards what is new or changed, checked against the source.

New is what is younger than the last pull knew, by time, by `updated_at` and by `label_time`, with an
overlap for transactions that were open then. Rows are replaced by key. Each pull compares the windows
it touched, and one older window in rotation, with the source, and pulls a window that differs again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from automl.errors import HistoryError
from automl.history.audit import Audit
from automl.history.increments import FullPullError, Tally, elsewhere, fetch, wanted
from automl.history.limits import accounted, nothing_left, within_limit
from automl.history.rows.casting import Kinds, also_named, require, utc_naive
from automl.history.rows.names import refuse_names
from automl.history.rows.personal import discreet, hashed, personal_keys, require_secret
from automl.history.rows.quarantine import keep_aside, still_aside
from automl.history.rows.shaping import (
    Layout,
    Shaper,
    Widen,
    Window,
    leave_out,
    refuse_vanished,
)
from automl.history.rows.versions import Delta, without_twins
from automl.history.sources.base import Since, Source, open_source
from automl.history.storage.disk import writing
from automl.history.storage.parts import Part, digest_of
from automl.history.storage.snapshots import Folders, Pull, Snapshot, freeze, load, pulls, record
from automl.history.storage.upserts import place, upsert
from automl.history.storage.writer import PartWriter
from automl.problem import Problem
from automl.workspace import Workspace, now

__all__ = ["pull"]

# longer than any transaction of a source, unless the file says otherwise
OVERLAP = timedelta(hours=1)
CLOCKS = timedelta(minutes=1)  # by which clocks may differ where open transactions are visible
# part of what a pull is recognised by: pulls of another rule for naive times are made anew
LOCAL_TIMES = "naive times of all columns are local, also where clocks change"
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
    tally: Tally = field(default_factory=Tally)

    def run(self) -> Snapshot:
        """Pull, whole or in part."""
        h = self.problem.history
        keep = h.keep.before(self.as_of, zone=self.problem.zone) if h.keep else None
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
                except FullPullError as error:
                    why = str(error)
                    self.tally.clear()
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
        if h.timezone != "UTC":
            content.append(LOCAL_TIMES)
        if personal_keys(self.problem):  # under another secret every key is another one
            content.append(hashed(pa.array([self.problem.name]))[0].as_py())
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def _base(
        self, folders: Folders, window: Window
    ) -> tuple[tuple[Pull, list[Part], pa.Schema] | None, str]:
        """The pull to go on from, or why there is none."""
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
            for chunk in source.chunks(wanted(shaper)):
                rows = shaper.shape(chunk)
                if rows is None:
                    continue
                aside.append(rows.aside)
                unlabelled += [rows.unlabelled] if len(rows.unlabelled) else []
                if shaper.layout is not None and rows.kept.column_names:
                    writer = writer or self._writer(folders, shaper, [])
                    writer.add(rows.kept)
            self.tally.counts["fetched"] = shaper.seen
            within_limit(self.problem, shaper, sum(map(len, aside)))
            parts = without_twins(writer, self.problem, shaper, aside, unlabelled) if writer else []
            if not parts or writer is None:
                raise nothing_left(self.problem, self.as_of, shaper)
            self.tally.counts["new"] = sum(p.rows for p in parts)
            return self._finish(folders, source, shaper, writer, parts, aside, why)
        finally:
            if writer is not None:
                writer.close()

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
                raise FullPullError("the columns have changed")
            aside: list[pa.Table] = []
            edges = self._edges(last)
            fresh = fetch(source, [(shaper, edges)], aside, self.tally)
            within_limit(self.problem, shaper, sum(map(len, aside)), held=last.rows)
            self._upsert(writer, fresh, shaper, last)
            file = folders.quarantine / last.quarantine
            if last.quarantine and file.exists():
                spoken = [fresh.keys, fresh.changed]
                since = shaper.window.since
                aside.append(still_aside(file, self.problem.history.key, spoken, since, aside))
            audit = Audit(source, shaper, self.tally, self.verify, edges.time)
            parts = audit.parts(writer, last, held, fresh, aside)
            if not parts:
                raise nothing_left(self.problem, self.as_of, shaper)
            return self._finish(folders, source, shaper, writer, parts, aside, "")
        finally:
            writer.close()

    def _upsert(self, writer: PartWriter, fresh: Delta, shaper: Shaper, last: Pull) -> None:
        """Replace by key, then add; a part that does not change keeps its file."""
        h = self.problem.history
        spoken = fresh.keys
        moved, _ = elsewhere(shaper, fresh)
        if len(moved) and not h.source:  # a database is asked again, others are taken at their word
            spoken = pa.concat_tables([spoken, moved], promote_options="default")
        found = upsert(
            writer.folder,
            writer.parts,
            writer.schema,
            (h.time, h.key),
            (fresh.rows, spoken),
            shaper.window.since,
        )
        if h.files and (found.updated or found.removed):
            raise FullPullError("a new file holds other versions of known rows")
        self.tally.counts["new"] += int(found.new.sum())
        self.tally.counts["updated"] += found.updated
        self.tally.counts["deleted"] += found.removed
        if h.key and not h.label_time and len(found.rows):
            stamps = np.asarray(found.rows[h.time].to_numpy()).astype("datetime64[us]")
            ripe = np.datetime64(utc_naive(datetime.fromisoformat(last.until)), "us")
            self.tally.counts["late"] += int((found.new & (stamps < ripe)).sum())
        place(writer, found)

    # ------------------------------------------------------------ the end

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
        file = keep_aside(
            folders.quarantine, f"{self.as_of:%Y%m%dT%H%M%S}-{at:%Y%m%dT%H%M%S%f}", aside
        )
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
                **self.tally.counts,
                quarantined=quarantined,
                bytes_written=writer.written,
                bytes_total=sum(p.size for p in parts),
                seconds=round(time.monotonic() - self.started, 3),
                recipe=recipe._recipe(),
                since=shaper.window.since.isoformat() if shaper.window.since else "",
                until=shaper.window.until.isoformat(),
                state=dict(source.state),
                quarantine=file,
                audited=self.tally.audited,
            ),
        )
        kept = accounted(snapshot, shaper, shaper.names)
        warnings = (*kept.warnings, *self.tally.warnings)
        return replace(kept, quarantined=quarantined, warnings=warnings)
