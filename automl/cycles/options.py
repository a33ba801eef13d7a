"""The options of a run, and the as_of that it has without them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from automl.problem import Problem, Span

__all__ = ["BACKWARDS", "RunOptions", "default_as_of"]

BACKWARDS = "backwards"  # error code of a cycle that is older than the newest cycle


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a command asks for beyond the problem file."""

    as_of: datetime | None = None
    budget: Span | None = None
    again: bool = False
    reason: str = ""
    backfill: bool = False
    dry_run: bool = False
    plan: str = "auto"  # auto | refit | warm | full
    trigger: str = "command"


def default_as_of(problem: Problem, verb: str, moment: datetime) -> datetime:
    """The newest slot of the problem's cron that is not later than `moment`; without a cron, its local midnight.

    Never the wall clock itself, so that the same command again is the same cycle.
    """
    slots = problem.slots(verb)
    if slots is not None:
        return slots.newest(moment)
    local = moment.astimezone(problem.zone)
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
