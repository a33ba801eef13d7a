"""A cycle that is being worked on: how it is opened, what its steps share, how it ends when a step raises."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from automl.cycles.options import BACKWARDS, RunOptions, default_as_of
from automl.cycles.result import CycleResult, ended_result
from automl.disk import naming_disk_errors
from automl.errors import AutomlError, DiskError, HistoryError, ProblemError, UnreachableError
from automl.files import umask
from automl.modeling.families import Family, load_families, load_retired
from automl.modeling.features import Columns, load_columns
from automl.modeling.user_files import try_user_files
from automl.predictions import check_owner
from automl.problem import Problem
from automl.promotion.records import leave_record, write_record, write_records
from automl.redaction import redact
from automl.store import Cycle, Hold, Release, Store
from automl.testing import fault
from automl.tracking import CycleRecord, Registry, cycle_tag, open_registry
from automl.workspace import Workspace, now

__all__ = ["AlreadyEndedError", "Job", "open_job"]

REMEMBERED = 100  # cycles that are searched for the file of a family that is no longer offered
_log = logging.getLogger(__name__)


class AlreadyEndedError(Exception):
    """Another run ended the cycle after `finished` had found it open."""

    def __init__(self, result: CycleResult) -> None:
        super().__init__(repr(result))
        self.result = result


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Job:
    """One cycle being worked on by the process that holds the problem's lock."""

    problem: Problem
    workspace: Workspace
    store: Store
    hold: Hold
    cycle: Cycle
    registry: Registry
    families: Mapping[str, Family]
    options: RunOptions
    columns: Columns | None = None  # the user's transformer

    @property
    def as_of(self) -> datetime:
        """The logical now."""
        return self.cycle.as_of

    @property
    def tag(self) -> str:
        """The name of the cycle in MLflow."""
        return cycle_tag(self.as_of, self.cycle.attempt)

    @property
    def champion(self) -> Release | None:
        """The release that a retraining follows, of an earlier as_of.

        In review mode it may have the same as_of: running a cycle again does not undo an approval.
        """
        return _champion(self.store, self.problem, self.as_of)

    def require_hold(self) -> None:
        """Raise BusyError if another run has taken the problem over."""
        self.store.require(self.hold)


@contextmanager
def open_job(
    problem: Problem, workspace: Workspace, verb: str, options: RunOptions
) -> Iterator[Job]:
    """Hold the problem's lock and open its cycle.

    Any exception ends the cycle as refused or failed, with its reason; nothing published or released
    changes by that.

    Raises
    ------
    AlreadyEndedError
        Another run has just ended the cycle.
    ProblemError
        as_of goes backwards, or the table belongs to another problem.
    BusyError, UnreachableError
        Another run holds the problem; the store or MLflow is out of reach.
    """
    as_of = options.as_of or default_as_of(problem, verb, now())
    try_user_files(problem)
    families = load_families(problem.sweep.families, problem.file.parent)
    columns = load_columns(problem.transformer)
    store = Store(workspace)
    with umask(workspace.umask), store.hold(problem.name) as hold:
        found = store.find_cycle(problem.name, verb, as_of)
        if found and found.ended and not options.again:
            raise AlreadyEndedError(ended_result(store, problem, found))
        _refuse_backwards(store, problem, verb, as_of, options)
        if options.again and not options.reason:
            raise ProblemError(
                "--again needs --reason; it is recorded with the decision",
                code="no_reason",
                next_step="Say why, such as --again --reason 'prices were corrected'",
            )
        check_owner(store, problem)
        registry = open_registry(problem, workspace)
        write_records(store, registry, problem)
        store.close_dead(hold, [found.id] if found else [])
        registry.end_dead_runs()
        attempt = (found.attempt + (1 if found.ended else 0)) if found else 1
        cycle = store.open_cycle(problem.name, verb, as_of, attempt, problem.digest)
        if verb == "retrain":
            families |= _retired_families(problem, store, cycle, families)
        job = Job(
            problem=_with_budget(problem, options),
            workspace=workspace,
            store=store,
            hold=hold,
            cycle=cycle,
            registry=registry,
            families=families,
            options=options,
            columns=columns,
        )
        fault(f"{verb}.opened")
        try:
            with naming_disk_errors(workspace.home):
                yield job
        except BaseException as error:
            if not _taken_over(job):
                _close_failed(job, error)
            elif isinstance(error, Exception):
                job.require_hold()  # the takeover is the cause of any other error
            raise


def _champion(store: Store, problem: Problem, as_of: datetime) -> Release | None:
    if problem.promotion.mode == "review":
        return store.champion(problem.name, at=as_of)
    return store.champion(problem.name, before=as_of)


def _retired_families(
    problem: Problem, store: Store, cycle: Cycle, offered: Mapping[str, Family]
) -> dict[str, Family]:
    """Families of the champion that are no longer offered: review mode refits the champion all the same.

    The cycle records the path of each family that is given as a path.
    """
    root, places = problem.file.parent, dict(zip(offered, problem.sweep.families, strict=True))
    champion = _champion(store, problem, cycle.as_of)
    missing = [n for n in champion.blend.families if n not in offered] if champion else []
    retired: dict[str, Family] = {}
    if missing and problem.promotion.mode == "review":
        before = store.cycles(problem.name, limit=REMEMBERED)
        recorded = [c.receipts.get("families") or {} for c in before]  # newest first
        entries = {n: next((r[n] for r in recorded if n in r), n) for n in missing}
        retired = load_retired(entries, root, offered)
        places |= entries
    paths = {name: entry for name, entry in places.items() if name != entry}
    if paths:
        store.note(cycle, families=paths)
    return retired


def _refuse_backwards(
    store: Store, problem: Problem, verb: str, as_of: datetime, options: RunOptions
) -> None:
    """Refuse an as_of older than the newest cycle's; warn of one that is ahead of the clock."""
    newest = store.newest_as_of(problem.name, verb)
    if newest and as_of < newest and not options.backfill:
        raise ProblemError(
            f"as_of {as_of:%Y-%m-%d %H:%M} is earlier than the newest cycle, {newest:%Y-%m-%d %H:%M}",
            code=BACKWARDS,
            next_step="Add --backfill if you mean to fill in an older cycle.",
        )
    if as_of > problem.until(default_as_of(problem, verb, now())):
        _log.warning(
            "as_of %s is ahead of the clock; cycles before it will be refused [as_of_ahead]",
            f"{as_of:%Y-%m-%d %H:%M}",
        )


def _with_budget(problem: Problem, options: RunOptions) -> Problem:
    if options.budget is None:
        return problem
    section = problem.sweep.model_copy(update={"budget": options.budget})
    return problem.model_copy(update={"sweep": section})


def _taken_over(job: Job) -> bool:
    """Whether another run holds the problem now."""
    try:
        return job.store.taken(job.hold)
    except (DiskError, UnreachableError):
        return False


def _close_failed(job: Job, error: BaseException) -> None:
    """End the cycle and its MLflow run with the reason of the failure."""
    status = "refused" if isinstance(error, HistoryError) else "failed"
    reason = str(error) if isinstance(error, AutomlError) else f"{type(error).__name__}: {error}"
    # Ctrl-C, or the signal by which a scheduler ends a run
    if not isinstance(error, Exception | SystemExit | GeneratorExit):
        reason = "interrupted"
    note = f"✘ {status.capitalize()}: {redact(reason)}\n\nChampion and predictions are unchanged."
    record: CycleRecord | None = None
    try:
        current = job.store.find_cycle(job.problem.name, job.cycle.verb, job.as_of)
        # a cycle that has committed stays as it ended, in MLflow too
        if current is not None and current.ended:
            return
        run_id = (current.receipts if current else {}).get("run_id")
        if (
            run_id
        ):  # before the end: a record of the decision may be there, which was never committed
            record = CycleRecord(run_id=run_id, tags={"decision": status}, note=note, failed=True)
            leave_record(job.store, job.cycle, record)
        job.store.end_cycle(job.cycle, status, reason)
    except (DiskError, UnreachableError) as failure:
        # the next run finds the cycle running and its process gone
        _log.warning("the cycle could not be closed: %s", failure)
        return
    if record is None:
        return
    try:
        write_record(job.store, job.registry, job.cycle, record)
    except Exception:  # noqa: BLE001  MLflow may be what failed
        _log.warning("MLflow run %s could not be closed; the next command closes it", record.run_id)
