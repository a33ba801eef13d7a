"""Pull the rows to predict under a contract, their plain keys, and a sample without a contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from automl.history import sources
from automl.history.limits import accounted, empty_batch, nothing_left, within_limit
from automl.history.rows.casting import as_kind, as_times
from automl.history.rows.kinds import ColumnKinds
from automl.history.rows.layout import Layout, Widen, kinds_to_pull, refuse_vanished
from automl.history.rows.local_time import utc_naive
from automl.history.rows.names import UPDATED, refuse_names
from automl.history.rows.personal import hashed, hide_error_text, personal_keys, require_secret
from automl.history.rows.quarantine import keep_aside
from automl.history.rows.roles import also_named, require, unread
from automl.history.rows.shaping import Shaper, Window
from automl.history.rows.versions import one_row_per_key
from automl.history.sources import Since, Source
from automl.history.storage.disk import writing
from automl.history.storage.parts import digest_of
from automl.history.storage.snapshots import Folders, Snapshot, freeze
from automl.history.storage.writer import PartWriter
from automl.problem import Problem
from automl.workspace import Workspace

__all__ = ["plain_keys", "probe", "pull_batch", "sample"]


def pull_batch(
    problem: Problem,
    workspace: Workspace,
    as_of: datetime,
    *,
    kinds: ColumnKinds,
    nulls: Sequence[str] = (),
    gaps: Mapping[str, Sequence[str]] | None = None,
) -> Snapshot:
    """Pull the rows to predict, `as_of <= time < until`, without target and ignored columns.

    Raises
    ------
    HistoryError
        As for `pull`; also if the window has no row, or a key twice.
    """
    require_secret(problem)
    with hide_error_text(problem), writing(workspace.history(problem.name)):
        pulled = kinds_to_pull(problem, kinds, batch=True)
        return _pull_batch(problem, workspace, as_of, Layout(pulled, tuple(nulls), gaps or {}))


def sample(
    problem: Problem, workspace: Workspace, as_of: datetime, since: datetime
) -> tuple[pd.DataFrame, tuple[str, ...], Mapping[str, str], Mapping[str, Collection[str]]]:
    """The labelled rows from `since` on, as a pull without a contract would read them.

    Returns the rows, all columns of the source, why some of them are left out, and the texts of each column
    that were read as missing.

    Raises
    ------
    HistoryError, UnreachableError, ProblemError
        As for `pull`.
    """
    require_secret(problem)
    with hide_error_text(problem):
        return _sample(problem, workspace, as_of, since)


def probe(
    problem: Problem, workspace: Workspace, as_of: datetime, *, batch: bool
) -> tuple[str, ...]:
    """The columns of the history or of the batch, after opening the source; no row is read.

    Raises
    ------
    HistoryError, UnreachableError, ProblemError
        As for `pull`, of what shows before a row is read.
    """
    require_secret(problem)
    h = problem.history
    source = (
        _open_batch(problem, workspace, as_of)
        if batch
        else sources.open_source(problem, workspace, h.query, {"as_of": as_of})
    )
    try:
        names = source.names()
        refuse_names(problem, names)
        keys = {f"history.key {k!r}": k for k in h.key}
        roles = keys if batch else {"history.target": h.target} | also_named(problem)
        require(names, {"history.time": h.time}, roles)
        return tuple(names)
    finally:
        source.close()


def plain_keys(problem: Problem, workspace: Workspace, as_of: datetime) -> pd.DataFrame | None:
    """Hashed and plain personal keys of a batch, `name` and `name:plain`; None without personal keys.

    Plain keys are for the publish target alone: they are read again when needed and never written
    anywhere else.
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
            keys: dict[str, pa.Array] = {}
            for name in personal:
                plain = as_kind(chunk[name], "text").cells.filter(pa.array(inside))
                keys |= {name: hashed(plain), f"{name}:plain": plain}
            tables.append(pa.table(keys))
        return pa.concat_tables(tables).to_pandas().drop_duplicates(ignore_index=True)
    finally:
        source.close()


def _pull_batch(
    problem: Problem,
    workspace: Workspace,
    as_of: datetime,
    layout: Layout,
) -> Snapshot:
    h = problem.history
    until = problem.until(as_of)
    folders = Folders(workspace.history(problem.name))
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
        writer = PartWriter(folder=folders.parts, schema=schema, time=h.time, key=h.key)
        aside: list[pa.Table] = []
        for chunk in source.chunks(wanted):
            rows = shaper.shape(chunk)
            if rows is not None:
                aside.append(rows.aside)
                if len(rows.kept.column_names):
                    writer.add(rows.kept)
        within_limit(problem, shaper, sum(map(len, aside)))
        if not shaper.taken and not shaper.reasons:
            raise empty_batch(problem, as_of, until, shaper)
        parts = one_row_per_key(writer, problem, shaper, aside, batch=True)
        if not parts:
            raise empty_batch(problem, as_of, until, shaper)
        snapshot = freeze(folders.batches, problem, layout.kinds, parts, digest_of(schema, parts))
        keep_aside(folders.quarantine, f"batch-{as_of:%Y%m%dT%H%M%S}", aside)
        return accounted(snapshot, shaper, names)
    finally:
        source.close()
        if writer is not None:
            writer.close()


def _sample(
    problem: Problem, workspace: Workspace, as_of: datetime, since: datetime
) -> tuple[pd.DataFrame, tuple[str, ...], Mapping[str, str], Mapping[str, Collection[str]]]:
    h = problem.history
    source = sources.open_source(problem, workspace, h.query, {"as_of": as_of})
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
            except Widen as wider:
                tables.clear()
                shaper = shaper.widened(wider.name)
        if not tables:
            raise nothing_left(problem, as_of, shaper)
        unused = dict(shaper.layout.unused) if shaper.layout else {}
        table = pa.concat_tables(tables)
        keep = [n for n in table.column_names if n != UPDATED]
        return table.select(keep).to_pandas(), tuple(names), unused, shaper.gaps
    finally:
        source.close()


def _open_batch(problem: Problem, workspace: Workspace, as_of: datetime) -> Source:
    until = problem.until(as_of)
    # without a batch query the history query returns everything before the end of the window
    as_history = problem.history.source and not problem.batch.query
    bound = {"as_of": until if as_history else as_of, "until": until}
    return sources.open_source(
        problem, workspace, problem.batch.query or problem.history.query, bound
    )
