"""The story of scoring: the rows to predict, the champion, a generation, the pointer.

`cycle` is both stories in one: predictions are staged before anything is released, then champion and
pointer change in the same transaction.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from typing import NamedTuple

import pandas as pd

from automl import history
from automl import predictions as publish
from automl.cycles.job import Job, Run, call, open_job
from automl.cycles.options import CycleResult, RunOptions
from automl.errors import HistoryError, NoModelError, PredictError
from automl.history import Snapshot
from automl.history.contract import Contract, Finding, check_batch, load_contract
from automl.predictions.predict import Predictions, predict_pieces, read_pieces
from automl.problem import Problem
from automl.promotion.release import commit_publish, reconcile, roll_forward
from automl.retrain.pipeline import retrain
from automl.store import UNSCORED, Release
from automl.testing import fault
from automl.workspace import Workspace

__all__ = ["cycle", "score", "stage_batch"]

SHRUNK, GROWN = 0.5, 3.0  # share of the rows readers see now; beyond, some are missing or double
COMPARED = 100  # rows; below, numbers halve and double by chance
PROBATION = 3  # scorings after a release during which the former version's predictions stand by
_log = logging.getLogger(__name__)


def score(
    problem: Problem, workspace: Workspace, options: RunOptions | None = None, *, run: Run = call
) -> CycleResult:
    """Publish the champion's predictions for the batch of one as_of; again, it is a no-op.

    Raises
    ------
    AutomlError
        Refused or failed; readers still see what they saw before.
    """
    with open_job(problem, workspace, "score", options or RunOptions()) as job:
        if isinstance(job, CycleResult):
            run("export", roll_forward, problem, workspace, io=True)
            return job
        champion = _champion(job)
        run("let MLflow follow", reconcile, job.store, job.registry, problem, io=True)
        generation, rows, reused = stage_batch(job, champion, run)
        before = f", {reused} of them as before" if reused else ""
        reason = f"{rows} rows by version {champion.model_version}{before}"
        run("publish", _publish, job, generation, reason)
        run("export", _finish, job, io=True)
        _stand_by(job, champion, generation, run)
        return CycleResult(
            problem,
            job.as_of,
            "published",
            reason,
            model_version=champion.model_version,
            generation=generation,
            rows=rows,
            run_id=champion.run_id,
            experiment=job.registry.experiment,
        )


def cycle(
    problem: Problem, workspace: Workspace, options: RunOptions | None = None, *, run: Run = call
) -> CycleResult:
    """Retrain and score: what is released and what readers see change in one transaction.

    Raises
    ------
    AutomlError
        As `retrain` and `score`; champion and predictions are then as they were.
    """

    def stage(job: Job, release: Release) -> tuple[int, int]:
        staged = stage_batch(job, release, call)
        _stand_by(job, release, staged.generation, call)
        return staged.generation, staged.rows

    result = retrain(problem, workspace, options, run=run, stage=stage)
    if result.status in UNSCORED:  # by an earlier `automl retrain`: only the scoring is missing
        return score(problem, workspace, RunOptions(as_of=result.as_of), run=run)
    run("export", roll_forward, problem, workspace, io=True)
    return result


def _champion(job: Job) -> Release:
    champion = job.store.champion(job.problem.name, at=job.as_of)
    if champion is None:
        raise NoModelError(
            f"{job.problem.name}: no model was released at or before {job.as_of:%Y-%m-%d %H:%M}",
            code="no_champion",
            next_step=f"automl retrain {job.problem.file.name}",
        )
    return champion


class Staged(NamedTuple):
    """A generation that nobody sees yet."""

    generation: int
    rows: int
    reused: int  # of them, from an earlier generation


def stage_batch(job: Job, release: Release, run: Run) -> Staged:
    """Score the batch by a release into an audited generation that nobody sees."""
    batch = run("pull batch", _pull_batch, job, io=True)
    generation, reused = run("predict and stage", _predict, job, release, batch)
    run("audit", publish.audit, job.store, job.problem, generation)
    fault("score.audited")
    return Staged(generation, batch.rows, reused)


def _stand_by(job: Job, champion: Release, generation: int, run: Run) -> None:
    """Stage what the former version says of the same batch, so that a rollback need only point at it.

    Whatever goes wrong is told and harms nothing: a rollback then scores first.
    """
    try:
        former = _former(job, champion)
        if former is not None:
            run("stand by", _stage_standby, job, former, generation)
    except Exception as error:  # noqa: BLE001  the former version may fail in any way
        _log.warning("no standby: %s [no_standby]", history.words(error, job.problem))


def _former(job: Job, champion: Release) -> Release | None:
    """The release before this one, while this one is on probation; None if it is the same version."""
    told = [r for r in job.store.releases(job.problem.name) if r.as_of <= job.as_of]
    ids = [r.id for r in told]  # in a cycle the champion is not released yet
    before = told[ids.index(champion.id) + 1 :] if champion.id in ids else told
    scored = {
        c.as_of
        for c in job.store.cycles(job.problem.name, limit=100)
        if c.verb == "score" and c.ended and champion.as_of <= c.as_of < job.as_of
    }
    if not before or len(scored) >= PROBATION:
        return None
    return before[0] if before[0].model_version != champion.model_version else None


def _stage_standby(job: Job, former: Release, generation: int) -> None:
    batch = _pull_batch(job)
    staged, _ = _predict(job, former, batch)
    try:
        publish.audit(job.store, job.problem, staged)
    except PredictError:
        publish.discard(job.store, job.hold, job.problem, staged)
        raise
    _log.info("generation %d stands by for %d", staged, generation)


def _pull_batch(job: Job) -> Snapshot:
    contract = load_contract(job.problem)
    if contract is None:
        raise AssertionError("a model cannot be older than its contract")
    batch = history.pull_batch(
        job.problem,
        job.workspace,
        job.as_of,
        kinds=contract.kinds(job.problem),
        nulls=contract.nulls,
    )
    _check_size(job, batch)
    return batch


def _check_size(job: Job, batch: Snapshot) -> None:
    """Refuse a batch of another size than the one that readers see, if both windows are equally long."""
    live = job.store.live(job.problem.table)
    if live is None or job.problem.batch.resize == "allow" or job.as_of < live.as_of:
        return
    before, found = live.rows, batch.rows
    alike = job.problem.until(live.as_of) == live.until
    few = max(before, found) < COMPARED
    if alike and not few and not SHRUNK * before <= found <= GROWN * before:
        raise HistoryError(
            f"batch: found {found} rows, generation {live.id} has {before}; wanted between "
            f"{SHRUNK * before:.0f} and {GROWN * before:.0f}",
            code="batch_size",
            next_step='Mend the source; or, if this is right, set batch.resize = "allow".',
        )


def _predict(job: Job, release: Release, batch: Snapshot) -> tuple[int, int]:
    """Read, check, predict and write the batch piece by piece.

    Returns the staged generation, and how many of its rows are an earlier one's.
    """
    contract = load_contract(job.problem)
    if contract is None:
        raise AssertionError("a model cannot be older than its contract")
    model = job.registry.load(release.model_version, release.digests)
    fault("score.loaded")
    told = _Told(batch)
    frames = told.check(read_pieces(batch, job.problem), contract, job.problem)

    def answer(frames: Iterable[pd.DataFrame]) -> Generator[Predictions, None, None]:
        return predict_pieces(model, frames, job.problem, contract, workers=job.workspace.workers)

    kept = publish.find_reusable(job.store, job.problem, release, batch, contract)
    pieces = kept.complete(frames, answer) if kept else answer(frames)
    origin = publish.Origin(
        release,
        (job.as_of, job.problem.until(job.as_of)),
        batch.digest,
        job.cycle.attempt,
        _keys(batch, job.problem),
    )
    with history.discreet(job.problem), contextlib.closing(pieces):
        generation = publish.stage_pieces(
            job.store, job.hold, job.problem, origin, _with_plain_keys(job, told.watch(pieces))
        )
    told.warn()
    fault("score.staged")
    return generation, _tell_reused(kept, batch)


def _tell_reused(kept: publish.Kept | None, batch: Snapshot) -> int:
    if kept is None:
        return 0
    _log.info(
        "%d of %d rows are those of generation %d, as they were predicted",
        kept.rows,
        batch.rows,
        kept.generation,
    )
    return kept.rows


class _Told:
    """What a person should know of a batch that passes by in pieces."""

    def __init__(self, batch: Snapshot) -> None:
        self.batch = batch
        self.rows: Counter[tuple[str, str]] = Counter()  # (code, column) -> rows that show it
        self.first: dict[tuple[str, str], Finding] = {}
        self.low, self.high = float("inf"), float("-inf")

    def check(
        self, frames: Iterable[pd.DataFrame], contract: Contract, problem: Problem
    ) -> Iterator[pd.DataFrame]:
        """The frames, each refused if a model cannot score it."""
        for frame in frames:
            for finding in check_batch(frame, contract, problem, self.batch.offered):
                what = finding.code, finding.text.partition(":")[0]
                self.rows[what] += len(frame)
                self.first.setdefault(what, finding)
            yield frame

    def watch(self, pieces: Iterable[Predictions]) -> Iterator[Predictions]:
        """The predictions, and between which numbers they lie."""
        for predictions, classes in pieces:
            name = "probability" if "probability" in predictions.columns else "prediction"
            self.low = min(self.low, float(predictions[name].min()))
            self.high = max(self.high, float(predictions[name].max()))
            yield predictions, classes

    def warn(self) -> None:
        """A finding is told once, if half of the rows show it; an empty column only if all do."""
        for what, finding in self.first.items():
            share = 1.0 if what[0] == "all_missing" else 0.5
            if self.rows[what] >= share * self.batch.rows:
                _log.warning(finding)
        for warning in self.batch.warnings:
            _log.warning(warning)
        if self.batch.rows > 1 and self.low == self.high:
            # one answer for all rows may be right, for a calm week; a person should look
            _log.warning(
                "all %d predictions are %g [constant_predictions]", self.batch.rows, self.low
            )


def _keys(batch: Snapshot, problem: Problem) -> publish.KeySum | None:
    """The keys of the frozen batch, read apart from the rows that are scored.

    None where they are not in it as they are published: made from the content, or hashed.
    """
    key = list(problem.history.key)
    if not key or history.personal_keys(problem):
        return None
    told = publish.KeySum()
    for part in history.scan(batch).to_batches(columns=key):
        told += publish.sum_keys(part.to_pandas(), key)
    return told


def _with_plain_keys(job: Job, pieces: Iterable[Predictions]) -> Iterator[publish.Piece]:
    """Predictions under the keys that analysts know; only here do personal keys stand in plain text."""
    keys = history.plain_keys(job.problem, job.workspace, job.as_of)
    if keys is None:
        yield from pieces
        return
    for predictions, classes in pieces:
        rows = _plain(job.problem, predictions, keys)
        yield rows, None if classes is None else _plain(job.problem, classes, keys)


def _plain(problem: Problem, rows: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    personal = history.personal_keys(problem)
    plain = {f"{name}:plain": name for name in personal}
    joined = rows.merge(keys, on=personal, how="left", validate="many_to_one")
    lost = int(joined[list(plain)].isna().any(axis=1).sum())
    if lost:
        raise PredictError(
            f"{lost} rows of the batch are no longer in the source, so their key is not known",
            code="key_gone",
            next_step="Run the same command again: the batch is pulled anew.",
        )
    return joined.drop(columns=personal).rename(columns=plain)[list(rows.columns)]


def _publish(job: Job, generation: int, reason: str) -> None:
    commit_publish(
        job.store, job.hold, job.problem, job.cycle, generation=generation, reason=reason
    )


def _finish(job: Job) -> None:
    publish.export(job.store, job.problem)
    publish.clean(job.store, job.hold, job.problem)
