"""Slots that a schedule missed, and cycles ahead of the clock."""

from __future__ import annotations

from datetime import datetime
from itertools import islice

from automl.cycles.options import default_as_of
from automl.problem import Problem
from automl.store import Store

__all__ = ["ahead_of", "missed_slots"]

LOOKED_BACK = 100  # slots; older windows are filled by hand, with --backfill


def missed_slots(store: Store, problem: Problem, moment: datetime) -> list[datetime]:
    """Slots before the newest slot at `moment` that start in no published window, oldest first.

    Only the last hundred slots since the first publication count. A slot whose data were refused is not
    missed: the same rows would be refused again. Without a schedule no slot is.
    """
    slots = problem.slots("score")
    windows = store.windows(problem.name)
    if slots is None or not windows:
        return []
    first = min(start for start, _ in windows)
    newest = default_as_of(problem, "score", moment)
    before = islice(slots.backwards(newest), 1, LOOKED_BACK + 1)
    unpublished = [
        slot
        for slot in before
        if slot > first and not any(start <= slot < end for start, end in windows)
    ]
    refused = store.refused(problem.name) if unpublished else set()
    return sorted(slot for slot in unpublished if slot not in refused)


def ahead_of(store: Store, problem: Problem, moment: datetime) -> datetime | None:
    """as_of of the newest cycle if it is later than `moment`: until then, commands without --as-of are refused."""
    as_ofs = [store.newest_as_of(problem.name, verb) for verb in ("retrain", "score")]
    newest = max((as_of for as_of in as_ofs if as_of), default=None)
    return newest if newest and newest > moment else None
