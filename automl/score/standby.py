"""The standby: during probation, the same batch scored by the previous version, so that a rollback is instant."""

from __future__ import annotations

import logging
from datetime import datetime

from automl import history, predictions
from automl.cycles.job import Job
from automl.cycles.steps import Runner, step
from automl.errors import PredictError
from automl.problem import Problem
from automl.promotion.decide import PROBATION_CYCLES
from automl.score.batch import predict_batch, pull_batch
from automl.store import Release, Store

__all__ = ["previous_release", "stage_standby", "try_standby"]

_log = logging.getLogger(__name__)


def try_standby(job: Job, champion: Release, generation: int, run: Runner) -> None:
    """Stage predictions of the previous version for the batch of this generation, during probation.

    A failure is logged and harms nothing: a rollback then scores first.
    """
    try:
        previous = previous_release(job.store, job.problem, champion, job.as_of)
        if previous is not None:
            run(stage_standby, job, previous, generation)
    except Exception as error:  # noqa: BLE001  the previous version may fail in any way
        _log.warning("no standby: %s [no_standby]", history.error_text(error, job.problem))


def previous_release(
    store: Store, problem: Problem, champion: Release, as_of: datetime
) -> Release | None:
    """The release before this one, while this one is on probation; None if it is the same version."""
    releases = [r for r in store.releases(problem.name) if r.as_of <= as_of]
    ids = [r.id for r in releases]  # during a cycle its champion is not released yet
    before = releases[ids.index(champion.id) + 1 :] if champion.id in ids else releases
    scored = {
        c.as_of
        for c in store.cycles(problem.name, limit=100)
        if c.verb == "score" and c.ended and champion.as_of <= c.as_of < as_of
    }
    if not before or len(scored) >= PROBATION_CYCLES:
        return None
    return before[0] if before[0].model_version != champion.model_version else None


@step("stand by")
def stage_standby(job: Job, previous: Release, generation: int) -> None:
    """Stage the batch of a generation as scored by the previous release."""
    staged = predict_batch(job, previous, pull_batch(job)).generation
    try:
        predictions.audit(job.store, job.problem, staged)
    except PredictError:
        predictions.discard(job.store, job.hold, job.problem, staged)
        raise
    _log.info("generation %d is the standby for generation %d", staged, generation)
