"""The batch of a cycle: pulled, checked, predicted piece by piece, staged as a generation and audited."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import pandas as pd

from automl import history, predictions
from automl.cycles.job import Job
from automl.cycles.result import Staged
from automl.cycles.steps import Runner, step
from automl.errors import HistoryError, PredictError
from automl.history import Snapshot
from automl.history.contract import Contract, load_contract
from automl.predictions import (
    KeySum,
    Predictions,
    Provenance,
    check_table,
    find_reusable,
    predict_pieces,
    read_pieces,
    specimen,
    stage_pieces,
    sum_keys,
)
from automl.problem import Problem
from automl.score.notices import BatchNotices
from automl.store import Release, Store
from automl.testing import fault
from automl.tracking import closing_model, load_model

__all__ = ["audit", "predict_batch", "pull_batch", "pull_checked_batch", "stage_batch"]

SHRUNK, GROWN = 0.5, 3.0  # share of the rows that readers see; beyond, rows are missing or double
TRIED = 32  # earlier batches that are looked for rows when one is empty
COMPARED = 100  # rows; smaller batches halve and double by chance
_log = logging.getLogger(__name__)

audit = step("audit")(predictions.audit)


def stage_batch(job: Job, release: Release, run: Runner, batch: Snapshot | None = None) -> Staged:
    """Score a batch by a release into an audited generation that readers do not see yet.

    Parameters
    ----------
    batch
        Rows that were frozen before; None: they are pulled.
    """
    batch = batch or run(pull_batch, job)
    staged = run(predict_batch, job, release, batch)
    run(audit, job.store, job.problem, staged.generation)
    fault("score.audited")
    return staged


@step("pull batch", io=True)
def pull_batch(job: Job) -> Snapshot:
    """The frozen rows to predict.

    Raises
    ------
    HistoryError
        The rows break the contract, or the batch is much smaller or larger than the last.
    """
    try:
        batch = _pulled(job, job.as_of)
    except HistoryError as error:
        if error.code != "empty_batch":
            raise
        raise HistoryError(str(error), code=error.code, next_step=_advice(job, error)) from error
    _check_size(job.store, job.problem, job.as_of, batch)
    return batch


@step("pull batch", io=True)
def pull_checked_batch(job: Job) -> Snapshot:
    """The frozen rows to predict, checked against contract and table before there is a model to predict them.

    Raises
    ------
    HistoryError
        As `pull_batch`, or a row breaks the contract.
    ProblemError
        The table cannot hold their predictions.
    """
    batch = pull_batch(job)
    contract, frames = _contract(job.problem), read_pieces(batch, job.problem)
    first: pd.DataFrame | None = None
    for frame in BatchNotices(batch).check(frames, contract, job.problem):
        first = frame.head(1) if first is None else first
    # personal keys are text in the table, and hashes in the batch
    if first is not None:
        check_table(job.store, job.problem, specimen(first, job.problem, contract))
    return batch


def _pulled(job: Job, as_of: datetime) -> Snapshot:
    contract = _contract(job.problem)
    return history.pull_batch(
        job.problem,
        job.workspace,
        as_of,
        kinds=contract.kinds(job.problem),
        nulls=contract.nulls,
        gaps=contract.gaps,
    )


def _advice(job: Job, error: HistoryError) -> str:
    """What to type after an empty batch: the newest earlier --as-of whose batch has rows, if there is one."""
    newest = job.store.newest_as_of(job.problem.name, job.cycle.verb)
    for as_of in _earlier(job.problem, job.cycle.verb, job.as_of):
        try:
            batch = _pulled(job, as_of)
        except HistoryError:
            continue
        backfill = " --backfill" if newest is not None and as_of < newest else ""
        done = "; it was published already" if as_of == newest else ""
        shown = f"--as-of {as_of:%Y-%m-%dT%H:%M}{backfill}{done}"
        return f"{error.next_step} The newest batch with rows ({batch.rows}) is that of {shown}."
    return error.next_step


def _earlier(problem: Problem, verb: str, as_of: datetime) -> Iterator[datetime]:
    """Earlier slots of the schedule, newest first; without one, local midnights."""
    slots = problem.slots(verb)
    if slots is not None:
        yield from islice((s for s in slots.backwards(as_of) if s < as_of), TRIED)
        return
    local = as_of.astimezone(problem.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    for days in range(TRIED):
        midnight = (local - timedelta(days=days)).replace(fold=0).astimezone(UTC)
        if midnight < as_of:
            yield midnight


@step("predict and stage")
def predict_batch(job: Job, release: Release, batch: Snapshot) -> Staged:
    """Read, check, predict and write the batch piece by piece."""
    problem, contract = job.problem, _contract(job.problem)
    model = load_model(job.registry, release.model_version, release.digests, release.blend.families)
    fault("score.loaded")
    notices = BatchNotices(batch)
    frames = notices.check(read_pieces(batch, problem), contract, problem)

    def predict(frames: Iterable[pd.DataFrame]) -> Generator[Predictions, None, None]:
        return predict_pieces(model, frames, problem, contract, workers=job.workspace.workers)

    reusable = find_reusable(job.store, problem, release, batch, contract)
    pieces = reusable.complete(frames, predict) if reusable else predict(frames)
    provenance = Provenance(
        release=release,
        window=(job.as_of, problem.until(job.as_of)),
        batch=batch.digest,
        attempt=job.cycle.attempt,
        keys=_keys(batch, problem),
    )
    with (
        history.hide_error_text(problem),
        contextlib.closing(pieces),
        closing_model(model),  # before its threads are waited for
    ):
        rows = _with_plain_keys(job, notices.watch(pieces))
        generation = stage_pieces(job.store, job.hold, problem, provenance, rows)
    notices.warn()
    fault("score.staged")
    reused = reusable.rows if reusable else 0
    if reusable:
        _log.info(
            "%d of %d rows reused from generation %d", reused, batch.rows, reusable.generation
        )
    return Staged(generation, batch.rows, reused)


def _contract(problem: Problem) -> Contract:
    contract = load_contract(problem)
    if contract is None:
        raise AssertionError("a model cannot be older than its contract")
    return contract


def _check_size(store: Store, problem: Problem, as_of: datetime, batch: Snapshot) -> None:
    """Refuse a batch much smaller or larger than the one that readers see, if both windows are equally long."""
    live = store.live(problem.table)
    if live is None or problem.batch.resize == "allow" or as_of < live.as_of:
        return
    before, found = live.rows, batch.rows
    same_window = problem.until(live.as_of) == live.until
    few = max(before, found) < COMPARED
    if same_window and not few and not SHRUNK * before <= found <= GROWN * before:
        raise HistoryError(
            f"batch: found {found} rows, generation {live.id} has {before}; wanted between "
            f"{SHRUNK * before:.0f} and {GROWN * before:.0f}",
            code="batch_size",
            next_step='Fix the source, or set batch.resize = "allow" if this size is expected.',
        )


def _keys(batch: Snapshot, problem: Problem) -> KeySum | None:
    """Checksum of the keys of the frozen batch, read apart from the rows that are scored.

    None where published keys are not in the batch: made from the content, or hashed.
    """
    key = list(problem.history.key)
    if not key or history.personal_keys(problem):
        return None
    checksum = KeySum()
    for part in history.scan(batch).to_batches(columns=key):
        checksum += sum_keys(part.to_pandas(), key)
    return checksum


def _with_plain_keys(job: Job, pieces: Iterable[Predictions]) -> Iterator[Predictions]:
    """Predictions under the keys that analysts know; only here are personal keys in plain text."""
    keys = history.plain_keys(job.problem, job.workspace, job.as_of)
    if keys is None:
        yield from pieces
        return
    for rows, classes in pieces:
        yield (
            _plain(job.problem, rows, keys),
            None if classes is None else _plain(job.problem, classes, keys),
        )


def _plain(problem: Problem, rows: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    personal = history.personal_keys(problem)
    plain = {f"{name}:plain": name for name in personal}
    joined = rows.merge(keys, on=personal, how="left", validate="many_to_one")
    lost = int(joined[list(plain)].isna().any(axis=1).sum())
    if lost:
        raise PredictError(
            f"{lost} rows of the batch are no longer in the source, so their key is not known",
            code="key_gone",
            next_step="Run the same command again: it pulls the batch again.",
        )
    return joined.drop(columns=personal).rename(columns=plain)[list(rows.columns)]
