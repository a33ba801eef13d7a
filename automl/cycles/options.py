"""What somebody asked for, and how it ended; light enough to answer "done already" at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from automl.errors import ProblemError
from automl.problem import Problem, Span
from automl.store import Cycle, Store

if TYPE_CHECKING:  # a sweep's nouns load scikit-learn; most commands never need it
    from automl.promotion.decide import Decision
    from automl.sweep import Leaderboard

__all__ = [
    "BACKWARDS",
    "CycleResult",
    "RunOptions",
    "already_ended",
    "default_as_of",
    "same_problem",
]

BACKWARDS = "backwards"  # code of the error of a cycle that is older than the newest one


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What somebody asked for beyond the problem file."""

    as_of: datetime | None = None
    budget: Span | None = None
    again: bool = False
    reason: str = ""
    backfill: bool = False
    dry_run: bool = False
    plan: str = "auto"  # auto | refit | warm | full
    trigger: str = "command"


@dataclass(frozen=True, slots=True, eq=False)
class CycleResult:
    """How a command ended, for people and for `--json`."""

    problem: Problem
    as_of: datetime
    status: str  # published | released | kept | waiting | refused | failed | dry-run
    reason: str
    already: bool = False
    model_version: int | None = None
    generation: int | None = None
    rows: int | None = None
    leaderboard: Leaderboard | None = None
    decision: Decision | None = None
    run_id: str = ""
    experiment: str = ""
    warnings: list[str] = field(default_factory=list)


def default_as_of(problem: Problem, verb: str, moment: datetime) -> datetime:
    """The newest slot of the problem's cron that is not later than `moment`; without one, its local midnight.

    Never the wall clock itself, so that the same command again is the same cycle.
    """
    slots = problem.slots(verb)
    if slots is not None:
        return slots.newest(moment)
    local = moment.astimezone(problem.zone)
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)


def already_ended(store: Store, problem: Problem, found: Cycle) -> CycleResult:
    """How a cycle ended, from the store alone."""
    release = store.champion(problem.name, at=found.as_of)
    live = store.live(problem.table)
    return CycleResult(
        problem=problem,
        as_of=found.as_of,
        status=found.status,
        reason=found.reason,
        already=True,
        model_version=release.model_version if release else None,
        generation=live.id if live else None,
        rows=live.rows if live else None,
        run_id=release.run_id if release else "",
    )


def same_problem(found: Cycle, problem: Problem) -> None:
    """Raise ProblemError if the file says something else than when that cycle ran."""
    if found.problem_digest != problem.digest:
        raise ProblemError(
            f"{problem.file.name} has changed since the cycle of {found.as_of:%Y-%m-%d %H:%M} {found.status}",
            code="problem_changed",
            next_step='To decide that cycle anew: --again --reason "why". The next cycle takes the new file by itself.',
        )
