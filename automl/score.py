"""The story of scoring: the rows to predict, the champion, a generation, the pointer.

`cycle` is both stories in one: predictions are staged before anything is released, then champion and
pointer change in the same transaction.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import datetime

import pandas as pd

from automl import history, publish
from automl.ask import Ask, Ending
from automl.contract import check_batch, load_contract
from automl.errors import BusyError, HistoryError, NoModelError, PredictError
from automl.faults import fault
from automl.history import Snapshot
from automl.predict import predict
from automl.problem import Problem
from automl.registry import Registry
from automl.release import commit_publish, reconcile
from automl.retrain import retrain
from automl.store import Release, Store, naive
from automl.story import Job, Run, call, open_job
from automl.workspace import Workspace

__all__ = ["cycle", "roll_forward", "score"]

SHRUNK, GROWN = 0.5, 3.0  # share of the rows readers see now; beyond, some are missing or double
COMPARED = 100  # rows; below, numbers halve and double by chance
_log = logging.getLogger(__name__)


def score(
    problem: Problem, workspace: Workspace, ask: Ask | None = None, *, run: Run = call
) -> Ending:
    """Publish the champion's predictions for the batch of one as_of; again, it is a no-op.

    Raises
    ------
    AutomlError
        Refused or failed; readers still see what they saw before.
    """
    with open_job(problem, workspace, "score", ask or Ask()) as job:
        if isinstance(job, Ending):
            return job
        champion = _champion(job)
        run("let MLflow follow", reconcile, job.store, job.registry, problem, io=True)
        generation, rows = _stage(job, champion, run)
        reason = f"{rows} rows by version {champion.model_version}"
        run("publish", _publish, job, generation, reason)
        run("export", _finish, job, io=True)
        return Ending(
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
    problem: Problem, workspace: Workspace, ask: Ask | None = None, *, run: Run = call
) -> Ending:
    """Retrain and score: what is released and what readers see change in one transaction.

    Raises
    ------
    AutomlError
        As `retrain` and `score`; champion and predictions are then as they were.
    """

    def stage(job: Job, release: Release) -> tuple[int, int]:
        return _stage(job, release, call)

    ending = retrain(problem, workspace, ask, run=run, stage=stage)
    if ending.status == "released":  # by an earlier `automl retrain`: only the scoring is missing
        return score(problem, workspace, Ask(as_of=ending.as_of), run=run)
    run("export", roll_forward, problem, workspace, io=True)
    return ending


def roll_forward(problem: Problem, workspace: Workspace) -> None:
    """Bring aliases and the parquet copy up to the store, where an earlier command died before it did."""
    store = Store(workspace)
    champion, live = store.champion(problem.name), store.live(problem.table)
    behind = champion is not None and not champion.projected
    unexported = live is not None and live["exported_at"] is None and problem.publish.parquet
    if not behind and not unexported:
        return
    with contextlib.suppress(BusyError), store.hold(problem.name):  # busy: somebody else does it
        if behind:
            reconcile(store, Registry(problem, workspace), problem)
        if unexported:
            publish.export(store, problem)


def _champion(job: Job) -> Release:
    champion = job.store.champion(job.problem.name, at=job.as_of)
    if champion is None:
        raise NoModelError(
            f"{job.problem.name}: no model was released at or before {job.as_of:%Y-%m-%d %H:%M}",
            code="no_champion",
            next_step=f"automl retrain {job.problem.file.name}",
        )
    return champion


def _stage(job: Job, release: Release, run: Run) -> tuple[int, int]:
    batch = run("pull batch", _pull_batch, job, io=True)
    generation = run("predict and stage", _predict, job, release, batch)
    run("audit", publish.audit, job.store, job.problem, generation)
    fault("score.audited")
    return generation, batch.rows


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
    if live is None or job.problem.batch.resize == "allow" or naive(job.as_of) < live["as_of"]:
        return
    before, found = live["rows"], batch.rows
    alike = job.problem.until(live["as_of"]) == live["until"]
    few = max(before, found) < COMPARED
    if alike and not few and not SHRUNK * before <= found <= GROWN * before:
        raise HistoryError(
            f"batch: found {found} rows, generation {live['id']} has {before}; wanted between "
            f"{SHRUNK * before:.0f} and {GROWN * before:.0f}",
            code="batch_size",
            next_step='Mend the source; or, if this is right, set batch.resize = "allow".',
        )


def _predict(job: Job, release: Release, batch: Snapshot) -> int:
    contract = load_contract(job.problem)
    if contract is None:
        raise AssertionError("a model cannot be older than its contract")
    frame = history.read(batch)
    for finding in check_batch(frame, contract, job.problem, batch.offered):
        _log.warning(finding)
    for warning in batch.warnings:
        _log.warning(warning)
    model = job.registry.load(release.model_version, release.digests)
    fault("score.loaded")
    window: tuple[datetime, datetime] = (job.as_of, job.problem.until(job.as_of))
    predictions = predict(model, frame, job.problem, contract)
    _warn_if_constant(predictions[0])
    with history.discreet(job.problem):
        generation = publish.stage(
            job.store,
            job.hold,
            job.problem,
            release,
            _with_plain_keys(job, predictions),
            window=window,
            batch=batch.digest,
            attempt=job.cycle.attempt,
        )
    fault("score.staged")
    return generation


def _warn_if_constant(predictions: pd.DataFrame) -> None:
    """One answer for all rows may be right, for a calm week; a person should look."""
    said = predictions["probability" if "probability" in predictions.columns else "prediction"]
    if len(said) > 1 and (said == said.iloc[0]).all():
        _log.warning(
            "all %d predictions are %g [constant_predictions]", len(said), float(said.iloc[0])
        )


def _with_plain_keys(
    job: Job, predictions: tuple[pd.DataFrame, pd.DataFrame | None]
) -> list[pd.DataFrame | None]:
    """Predictions under the keys that analysts know; only here do personal keys stand in plain text."""
    keys = history.plain_keys(job.problem, job.workspace, job.as_of)
    if keys is None:
        return list(predictions)
    personal = history.personal_keys(job.problem)
    plain = {f"{name}:plain": name for name in personal}
    told: list[pd.DataFrame | None] = []
    for frame in predictions:
        if frame is None:
            told.append(None)
            continue
        joined = frame.merge(keys, on=personal, how="left", validate="many_to_one")
        lost = int(joined[list(plain)].isna().any(axis=1).sum())
        if lost:
            raise PredictError(
                f"{lost} rows of the batch are no longer in the source, so their key is not known",
                code="key_gone",
                next_step="Run the same command again: the batch is pulled anew.",
            )
        joined = joined.drop(columns=personal).rename(columns=plain)
        told.append(joined[list(frame.columns)])
    return told


def _publish(job: Job, generation: int, reason: str) -> None:
    commit_publish(
        job.store, job.hold, job.problem, job.cycle, generation=generation, reason=reason
    )


def _finish(job: Job) -> None:
    publish.export(job.store, job.problem)
    publish.clean(job.store, job.hold, job.problem)
