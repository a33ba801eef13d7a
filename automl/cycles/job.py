"""What both stories share: how a step is called, what a job is, how a cycle begins and ends.

A story takes `run=call`, a plain call by default and a Prefect task in `flows/`; so the engine knows no
scheduler, and notebook, test, cron and scheduler run the same code.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from automl.cycles.options import (
    BACKWARDS,
    CycleResult,
    RunOptions,
    already_ended,
    default_as_of,
    same_problem,
)
from automl.errors import AutomlError, HistoryError, ProblemError, UnreachableError
from automl.modeling.families import Family, load_families, load_retired
from automl.modeling.features.user_transformer import Columns, load_columns
from automl.predictions import check_owner
from automl.problem import Problem
from automl.store import Cycle, Hold, Release, Store
from automl.testing import fault
from automl.tracking import Registry, cycle_tag
from automl.workspace import Workspace, now

__all__ = ["Job", "Run", "call", "open_job"]

REMEMBERED = 100  # cycles in which the file of a family that is no longer offered is looked for
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Run(Protocol):
    """How a step is run; `io` says that it may be tried again when a server or disk hiccups."""

    def __call__(self, name: str, step: Callable[..., T], *args: Any, io: bool = False) -> T:
        """Run `step(*args)` under a name that people read."""


def call(name: str, step: Callable[..., T], *args: Any, io: bool = False) -> T:  # noqa: ARG001
    """The default way to run a step: a plain call, one line in the log."""
    started = time.monotonic()
    result = step(*args)
    _log.info("%s: %.1f s", name, time.monotonic() - started)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One cycle being worked on, by whoever holds its lock."""

    problem: Problem
    workspace: Workspace
    store: Store
    hold: Hold
    cycle: Cycle
    registry: Registry
    families: dict[str, Family]
    options: RunOptions
    columns: Columns | None = None  # the user's own

    @property
    def as_of(self) -> datetime:
        """The logical now."""
        return self.cycle.as_of

    @property
    def tag(self) -> str:
        """How the cycle is called in MLflow."""
        return cycle_tag(self.as_of, self.cycle.attempt)

    @property
    def champion(self) -> Release | None:
        """The release that a retraining follows, of an earlier as_of.

        In review mode also one of its own as_of: what a person has approved is not undone by a cycle that is
        run again.
        """
        return _followed(self.store, self.problem, self.as_of)


@contextmanager
def open_job(
    problem: Problem, workspace: Workspace, verb: str, options: RunOptions
) -> Iterator[Job | CycleResult]:
    """Hold the problem's lock and open its cycle, or say how it has ended already.

    Whatever the story raises ends the cycle as refused or failed, with its reason; nothing published or
    released changes by that.

    Raises
    ------
    ProblemError
        The problem file changed since this cycle ran, as_of goes backwards, or the table is not ours.
    BusyError, UnreachableError
        Another run holds the problem; the store or MLflow does not answer.
    """
    as_of = options.as_of or default_as_of(problem, verb, now())
    store = Store(workspace)
    found = store.find_cycle(problem.name, verb, as_of)
    if found and found.ended and not options.again:
        same_problem(found, problem)
        yield already_ended(store, problem, found)
        return
    families = load_families(problem.sweep.families, problem.file.parent)
    columns = load_columns(problem.transformer)
    with store.hold(problem.name) as hold:
        found = store.find_cycle(problem.name, verb, as_of)
        if found and found.ended and not options.again:  # another run finished it while we waited
            yield already_ended(store, problem, found)
            return
        _not_backwards(store, problem, verb, as_of, options)
        check_owner(store, problem)
        registry = Registry(problem, workspace)
        store.sweep_dead(hold, [found.id] if found else [])
        registry.end_dead_runs()
        attempt = (found.attempt + (1 if found.ended else 0)) if found else 1
        cycle = store.open_cycle(problem.name, verb, as_of, attempt, problem.digest)
        if verb == "retrain":
            families |= _retired(problem, store, cycle, families)
        asked = _with_budget(problem, options)
        job = Job(asked, workspace, store, hold, cycle, registry, families, options, columns)
        fault(f"{verb}.opened")
        try:
            yield job
        except BaseException as error:
            if not _taken_over(job):
                _close_badly(job, error)
            elif isinstance(error, Exception):
                store.require(hold)  # whatever went wrong, this is why
            raise


def _followed(store: Store, problem: Problem, as_of: datetime) -> Release | None:
    if problem.promotion.mode == "review":
        return store.champion(problem.name, at=as_of)
    return store.champion(problem.name, before=as_of)


def _retired(
    problem: Problem, store: Store, cycle: Cycle, offered: Mapping[str, Family]
) -> dict[str, Family]:
    """Families of the champion that are no longer offered: in review mode it is refit all the same.

    Of those that are given as paths, the cycle remembers where they lie.
    """
    root, places = problem.file.parent, dict(zip(offered, problem.sweep.families, strict=True))
    champion = _followed(store, problem, cycle.as_of)
    missing = [n for n in champion.blend.families if n not in offered] if champion else []
    retired: dict[str, Family] = {}
    if missing and problem.promotion.mode == "review":
        before = store.cycles(problem.name, limit=REMEMBERED)
        known = [c.receipts.get("families") or {} for c in before]  # newest first
        entries = {n: next((k[n] for k in known if n in k), n) for n in missing}
        retired = load_retired(entries, root, offered)
        places |= entries
    paths = {name: entry for name, entry in places.items() if name != entry}
    if paths:
        store.note(cycle, families=paths)
    return retired


def _not_backwards(
    store: Store, problem: Problem, verb: str, as_of: datetime, options: RunOptions
) -> None:
    newest = store.newest_as_of(problem.name, verb)
    if newest and as_of < newest and not options.backfill:
        raise ProblemError(
            f"as_of {as_of:%Y-%m-%d %H:%M} is earlier than the newest cycle, {newest:%Y-%m-%d %H:%M}",
            code=BACKWARDS,
            next_step="Add --backfill if an older cycle is really meant.",
        )
    clock = now()
    if as_of > problem.until(default_as_of(problem, verb, clock)):
        _log.warning(
            "as_of %s lies ahead of the clock; cycles before it will be refused [as_of_ahead]",
            f"{as_of:%Y-%m-%d %H:%M}",
        )
    if options.again and not options.reason:
        raise ProblemError(
            "--again: found no --reason; wanted one, it is kept with the decision", code="no_reason"
        )


def _with_budget(problem: Problem, options: RunOptions) -> Problem:
    if options.budget is None:
        return problem
    section = problem.sweep.model_copy(update={"budget": options.budget})
    return problem.model_copy(update={"sweep": section})


def _taken_over(job: Job) -> bool:
    """Whether the cycle and its run are somebody else's now."""
    try:
        return job.store.taken(job.hold)
    except UnreachableError:
        return False


def _close_badly(job: Job, error: BaseException) -> None:
    status = "refused" if isinstance(error, HistoryError) else "failed"
    reason = str(error) if isinstance(error, AutomlError) else f"{type(error).__name__}: {error}"
    if isinstance(error, KeyboardInterrupt):
        reason = "interrupted"
    try:
        current = job.store.find_cycle(job.problem.name, job.cycle.verb, job.as_of)
    except UnreachableError:  # the next run finds the cycle running and its process gone
        _log.warning("the cycle could not be closed: the store does not answer")
        return
    if (
        current is not None and not current.ended
    ):  # after the commit nothing can be undone, nor need be
        job.store.end_cycle(job.cycle, status, reason)
    run_id = (current.receipts if current else {}).get("run_id")
    if run_id:
        try:
            job.registry.close_cycle(
                run_id,
                metrics={},
                tags={"decision": status},
                artifacts={},
                failed=True,
                note=f"✘ {status.capitalize()}: {reason}\n\nChampion and predictions are as they were.",
            )
        except Exception:  # noqa: BLE001  MLflow may be what failed
            _log.warning("the run %s could not be closed", run_id)
