"""Pull labelled history: everything the first time, then what is new or changed, checked against the source.

New is what is younger than the last pull knew, by time, by `updated_at` and by `label_time`, with an
overlap for transactions that were open then. Rows are replaced by key. Each pull compares the windows
it touched, and one older window in rotation, with the source; a window that differs is pulled again.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pyarrow as pa

from automl import progress
from automl.errors import HistoryError
from automl.history import continuation, sources
from automl.history.audit import Audit
from automl.history.continuation import LastPull, last_pull, recipe_digest
from automl.history.increments import FullPullError, Tally, elsewhere, fetch, wanted
from automl.history.limits import accounted, nothing_left, within_limit
from automl.history.rows.kinds import ColumnKinds
from automl.history.rows.layout import Layout, Widen, kinds_to_pull, refuse_vanished
from automl.history.rows.local_time import utc_naive
from automl.history.rows.names import refuse_names
from automl.history.rows.personal import hide_error_text, require_secret
from automl.history.rows.quarantine import keep_aside, still_aside
from automl.history.rows.roles import also_named, require
from automl.history.rows.shaping import Shaper, Window
from automl.history.rows.versions import Delta, one_row_per_key
from automl.history.sources import Source
from automl.history.storage.disk import writing
from automl.history.storage.parts import Part, digest_of, stamps
from automl.history.storage.snapshots import Folders, Pull, Snapshot, freeze, pull_name, record
from automl.history.storage.upserts import Change, place, upsert
from automl.history.storage.writer import PartWriter
from automl.problem import Problem
from automl.workspace import Workspace, day_of, now

__all__ = ["pull"]

_log = logging.getLogger(__name__)


def pull(
    problem: Problem,
    workspace: Workspace,
    as_of: datetime,
    *,
    kinds: ColumnKinds | None = None,
    nulls: Sequence[str] = (),
    gaps: Mapping[str, Sequence[str]] | None = None,
    verify: bool = False,
) -> Snapshot:
    """Pull the labelled rows known at `as_of` and freeze them.

    `kinds` are the declared column kinds; without them kinds are inferred from the rows that stay.
    `nulls` are texts that mean a gap, `gaps` those of one column. `verify` compares every window with the source.

    Raises
    ------
    HistoryError
        A declared column is missing, too many rows do not fit, the query fails, or no labelled row is
        left. Earlier snapshots are unchanged.
    UnreachableError
        The database or the files are not there, or the connection was lost.
    ProblemError
        The URL or callable is wrong; a personal key needs a secret.
    """
    require_secret(problem)
    with hide_error_text(problem), writing(workspace.history(problem.name)):
        job = _Pulling(
            problem=problem,
            workspace=workspace,
            window=_window(problem, as_of),
            kinds=kinds,
            nulls=tuple(nulls),
            gaps=dict(gaps or {}),
            verify=verify,
        )
        snapshot = job.run()
    _log.info("pulled %d labelled rows of %s until %s", snapshot.rows, problem.name, day_of(as_of))
    return snapshot


def _window(problem: Problem, as_of: datetime) -> Window:
    keep = problem.history.keep
    since = keep.before(as_of, zone=problem.zone) if keep else None
    return Window(since, problem.mature(as_of), as_of)


@dataclass(slots=True, kw_only=True)
class _Pulling:
    """The state of one pull of labelled history."""

    problem: Problem
    workspace: Workspace
    window: Window
    kinds: ColumnKinds | None
    nulls: tuple[str, ...]
    gaps: Mapping[str, Sequence[str]]
    verify: bool
    started: float = field(default_factory=time.monotonic)
    tally: Tally = field(default_factory=Tally)
    aside: list[pa.Table] = field(default_factory=list)  # rows that do not fit

    @property
    def as_of(self) -> datetime:
        return self.window.known_before

    @property
    def folders(self) -> Folders:
        return Folders(self.workspace.history(self.problem.name))

    def run(self) -> Snapshot:
        """Pull what is new, or everything if that is not possible."""
        last, why = self._last()
        source = sources.open_source(
            self.problem,
            self.workspace,
            self.problem.history.query,
            {"as_of": self.as_of},
            before=last.record.state if last else None,
        )
        try:
            shaper = self._shaper(source)
            if last and not source.incremental:
                last, why = None, "the source cannot tell what is new"
            if last:
                try:
                    return self._pull_new(source, shaper, last)
                except FullPullError as error:
                    why = str(error)
                    self.tally.clear()
                    shaper = shaper.start(shaper.layout)
            return self._pull_all(source, shaper, why)
        except HistoryError:
            for warning in source.warnings:  # such as files that are not read: they may be why
                _log.warning(warning)
            raise
        finally:
            source.close()

    def _last(self) -> tuple[LastPull | None, str]:
        """The pull to continue from, or why there is none."""
        try:
            recipe = recipe_digest(self.problem, self.kinds, self.nulls, self.gaps)
            last = last_pull(
                self.problem,
                self.folders,
                self.window,
                "" if self.kinds is None else recipe,
                verify=self.verify,
            )
        except FullPullError as error:
            return None, str(error)
        return last, ""

    def _shaper(self, source: Source) -> Shaper:
        h = self.problem.history
        names = source.names()
        refuse_names(self.problem, names)
        roles = {"history.time": h.time, "history.target": h.target}
        require(names, roles, also_named(self.problem))
        layout = None
        if self.kinds is not None:
            pulled = kinds_to_pull(self.problem, self.kinds, batch=False)
            layout = Layout(pulled, self.nulls, self.gaps)
            if h.updated_at not in (h.time, h.target):
                layout.kinds.pop(h.updated_at, None)
            refuse_vanished(layout.kinds, names)
        return Shaper(self.problem, self.window, names, loose=source.loose, layout=layout)

    # ------------------------------------------------------------ everything

    def _pull_all(self, source: Source, shaper: Shaper, why: str) -> Snapshot:
        while True:
            try:
                return self._pull_once(source, shaper, why)
            except Widen as wider:
                shaper = shaper.widened(wider.name)

    def _pull_once(self, source: Source, shaper: Shaper, why: str) -> Snapshot:
        writer: PartWriter | None = None
        self.aside.clear()
        unlabelled: list[pa.Table] = []
        try:
            for chunk in source.chunks(wanted(shaper)):
                rows = shaper.shape(chunk)
                progress.show(f"{shaper.seen:,} rows")
                if rows is None:
                    continue
                self.aside.append(rows.aside)
                unlabelled += [rows.unlabelled] if len(rows.unlabelled) else []
                if shaper.layout is not None and rows.kept.column_names:
                    writer = writer or self._writer(shaper, [])
                    writer.add(rows.kept)
            self.tally.counts["fetched"] = shaper.seen
            within_limit(self.problem, shaper, sum(map(len, self.aside)))
            if writer is None:
                raise nothing_left(self.problem, self.as_of, shaper)
            parts = one_row_per_key(writer, self.problem, shaper, self.aside, unlabelled)
            self.tally.counts["new"] = sum(p.rows for p in parts)
            return self._finish(source, shaper, writer, parts, full=why)
        finally:
            if writer is not None:
                writer.close()

    def _writer(self, shaper: Shaper, parts: list[Part]) -> PartWriter:
        h = self.problem.history
        assert shaper.layout is not None
        updated = bool(h.updated_at) and h.updated_at in shaper.names
        return PartWriter(
            folder=self.folders.parts,
            schema=shaper.layout.schema(updated=updated),
            time=h.time,
            key=h.key,
            parts=parts,
        )

    # ------------------------------------------------------------ what is new

    def _pull_new(self, source: Source, shaper: Shaper, last: LastPull) -> Snapshot:
        writer = self._writer(shaper, list(last.parts))
        self.aside.clear()
        try:
            if writer.schema != last.schema:
                raise FullPullError("the columns have changed")
            edges = continuation.edges(self.problem, last.record)
            fresh = fetch(source, [(shaper, edges)], self.aside, self.tally)
            count = sum(map(len, self.aside))
            within_limit(self.problem, shaper, count, stored=last.record.rows)
            self._upsert(writer, fresh, shaper, last.record)
            file = self.folders.quarantine / last.record.quarantine
            if last.record.quarantine and file.exists():
                changed = [fresh.keys, fresh.changed]
                since, key = shaper.window.since, self.problem.history.key
                self.aside.append(still_aside(file, key, changed, since, self.aside))
            audit = Audit(
                source=source,
                shaper=shaper,
                tally=self.tally,
                verify=self.verify,
                read_from=edges.time,
            )
            parts = audit.parts(writer, last, fresh, self.aside)
            return self._finish(source, shaper, writer, parts, full="")
        finally:
            writer.close()

    def _upsert(self, writer: PartWriter, fresh: Delta, shaper: Shaper, last: Pull) -> None:
        """Replace by key, then add; a part that does not change keeps its file."""
        h = self.problem.history
        keys = fresh.keys
        moved, _ = elsewhere(shaper, fresh)
        if len(moved) and not h.source:  # a database is queried again, other sources are trusted
            keys = pa.concat_tables([keys, moved], promote_options="default")
        found = upsert(writer, Change(fresh.rows, keys, since=shaper.window.since))
        if h.files and (found.updated or found.removed):
            raise FullPullError("a new file has other versions of known rows")
        self.tally.counts["new"] += int(found.new.sum())
        self.tally.counts["updated"] += found.updated
        self.tally.counts["deleted"] += found.removed
        if h.key and not h.label_time and len(found.rows):
            mature = np.datetime64(utc_naive(datetime.fromisoformat(last.until)), "us")
            late = found.new & (stamps(found.rows[h.time]) < mature)
            self.tally.counts["late"] += int(late.sum())
        place(writer, found)

    # ------------------------------------------------------------ the end

    def _finish(
        self, source: Source, shaper: Shaper, writer: PartWriter, parts: list[Part], *, full: str
    ) -> Snapshot:
        """Freeze the parts and record the pull."""
        if not parts:
            raise nothing_left(self.problem, self.as_of, shaper)
        assert shaper.layout is not None
        kinds = shaper.layout.kinds
        digest = digest_of(writer.schema, parts)
        snapshot = freeze(self.folders.snapshots, self.problem, kinds, parts, digest)
        at = now()
        file = keep_aside(self.folders.quarantine, pull_name(self.as_of, at), self.aside)
        reasons = [t["reason"] for t in self.aside if t.column_names]
        quarantined = dict(Counter(code for column in reasons for code in column.to_pylist()))
        entry = Pull(
            as_of=self.as_of,
            at=at,
            snapshot=snapshot.digest,
            rows=snapshot.rows,
            first=parts[0].first,
            last=parts[-1].last,
            full=full,
            **self.tally.counts,
            quarantined=quarantined,
            bytes_written=writer.written,
            bytes_total=sum(p.size for p in parts),
            seconds=round(time.monotonic() - self.started, 3),
            recipe=recipe_digest(
                self.problem, self.kinds or kinds, self.nulls, self.gaps or shaper.gaps
            ),
            since=self.window.since.isoformat() if self.window.since else "",
            until=self.window.until.isoformat(),
            state=dict(source.state),
            quarantine=file,
            audited=self.tally.audited,
        )
        record(self.folders, entry)
        snapshot = accounted(snapshot, shaper, shaper.names)
        warnings = (*snapshot.warnings, *source.warnings, *self.tally.warnings)
        return replace(snapshot, quarantined=quarantined, warnings=warnings)
