"""How far a sweep has come, as a progress artifact of its run: read from the store, never able to fail a cycle."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext, TaskRunContext

from automl.problem import HIGHER_IS_BETTER, Problem
from automl.store import Store
from automl.workspace import Workspace
from flows.keys import artifact_key

__all__ = ["followed", "in_words", "showing_progress"]

SECONDS = 3.0  # between two looks
SWEEP = "sweep"  # the step that is followed
DONE = 100.0
ALMOST = 99.0  # a sweep is done when its step ends, not before
_log = logging.getLogger(__name__)


class _Followed(NamedTuple):
    problem: Problem
    workspace: Workspace


_followed: ContextVar[_Followed | None] = ContextVar("followed", default=None)


@contextmanager
def followed(problem: Problem, workspace: Workspace) -> Iterator[None]:
    """Name the problem whose sweep is shown."""
    token = _followed.set(_Followed(problem, workspace))
    try:
        yield
    finally:
        _followed.reset(token)


@contextmanager
def showing_progress(step: str) -> Iterator[None]:
    """Update the artifact while the step runs, if it is the sweep."""
    shown = _followed.get()
    if step != SWEEP or shown is None:
        yield
        return
    ended = threading.Event()
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    run = flow.flow_run.id if flow and flow.flow_run else None
    arguments = (shown, run, task.task_run.id if task else None, ended)
    thread = threading.Thread(target=_follow, args=arguments, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()  # not waited for: Prefect's server may be away


def _follow(shown: _Followed, run: UUID | None, task: UUID | None, ended: threading.Event) -> None:
    began = time.monotonic()
    try:
        with get_client(sync_client=True) as client:
            artifact: UUID | None = None
            before = ""
            while not ended.wait(SECONDS):
                share, words = in_words(shown.problem, _trials(shown), time.monotonic() - began)
                if words == before:
                    continue
                if artifact is None:
                    made = ArtifactCreate(
                        type="progress",
                        key=artifact_key("sweep", shown.problem.name),
                        description=words,
                        data=share,
                        flow_run_id=run,
                        task_run_id=task,
                    )
                    artifact = client.create_artifact(made).id
                else:
                    client.update_artifact(artifact, ArtifactUpdate(data=share, description=words))
                before = words
            if artifact is not None:
                _, words = in_words(shown.problem, _trials(shown), time.monotonic() - began)
                client.update_artifact(artifact, ArtifactUpdate(data=DONE, description=words))
    except Exception as error:  # noqa: BLE001  a view of a cycle is no reason to disturb it
        _log.debug("the progress of the sweep is not shown: %s", error)


def _trials(shown: _Followed) -> list[dict[str, Any]]:
    with suppress(Exception):
        store = Store(shown.workspace)
        cycle = next(iter(store.cycles(shown.problem.name, verb="retrain", limit=1)), None)
        return store.trials(cycle) if cycle and cycle.status == "running" else []
    return []


def in_words(problem: Problem, trials: list[dict[str, Any]], elapsed: float) -> tuple[float, str]:
    """Percent done, and what was tried: `14 trials (lightgbm 9, linear 5); best roc_auc 0.713 by lightgbm`."""
    limit, budget = problem.sweep.trials, problem.sweep.budget
    shares = [len(trials) / limit if limit else 0.0, elapsed / budget.seconds if budget else 0.0]
    share = min(DONE * max(shares), ALMOST)
    counts: dict[str, int] = {}
    for trial in trials:
        family = trial["recipe"]["family"]
        counts[family] = counts.get(family, 0) + 1
    text = f"{len(trials)} trials"
    if counts:
        ordered = sorted(counts.items(), key=lambda item: -item[1])
        text += f" ({', '.join(f'{family} {count}' for family, count in ordered)})"
    best = _best(problem, trials)
    return share, text + (f"; best {best}" if best else "")


def _best(problem: Problem, trials: list[dict[str, Any]]) -> str:
    complete = [t for t in trials if t["status"] == "complete" and t["scores"]]
    if not complete:
        return ""
    sign = -1 if problem.metric.name in HIGHER_IS_BETTER else 1
    scored = [(sum(t["scores"]) / len(t["scores"]), t["recipe"]["family"]) for t in complete]
    score, family = min(scored, key=lambda pair: sign * pair[0])
    return f"{problem.metric.name} {score:.4g} by {family}"
