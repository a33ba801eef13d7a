"""Slots that a schedule passed over, and cycles that lie ahead of the clock."""

from __future__ import annotations

from datetime import datetime
from itertools import islice

from automl.cycles.options import default_as_of
from automl.problem import Problem
from automl.store import Store

__all__ = ["ahead_of", "missed_slots"]

LOOKED_BACK = 100  # slots, at most: older windows are history, to be filled by hand


def missed_slots(store: Store, problem: Problem, moment: datetime) -> list[datetime]:
    """Slots before the newest one of `moment` that start in no published window, oldest first.

    Only slots since the first publication count, at most the last hundred; and not those whose data were
    refused: the same rows would be refused again. Without a schedule there are none.
    """
    slots = problem.slots("score")
    windows = store.windows(problem.name)
    if slots is None or not windows:
        return []
    first = min(start for start, _ in windows)
    newest = default_as_of(problem, "score", moment)
    before = islice(slots.backwards(newest), 1, LOOKED_BACK + 1)
    passed = [
        slot
        for slot in before
        if slot > first and not any(start <= slot < end for start, end in windows)
    ]
    refused = store.refused(problem.name) if passed else set()
    return sorted(slot for slot in passed if slot not in refused)


def ahead_of(store: Store, problem: Problem, moment: datetime) -> datetime | None:
    """as_of of the newest cycle, if it is later than `moment`: until then commands without one are refused."""
    found = [store.newest_as_of(problem.name, verb) for verb in ("retrain", "score")]
    newest = max((as_of for as_of in found if as_of), default=None)
    return newest if newest and newest > moment else None
