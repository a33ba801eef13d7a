"""Slots that a schedule missed, and cycles ahead of the clock."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Literal, NamedTuple

from automl.cycles.options import default_as_of
from automl.problem import Problem
from automl.store import UNSCORED, Store

__all__ = ["NewestSlot", "ahead_of", "missed_slots", "newest_slot"]

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


class NewestSlot(NamedTuple):
    """The newest slot of a verb, and what the store knows of its cycle."""

    slot: datetime
    status: Literal["done", "refused", "failed", "running", "missing"]
    reason: str = ""
    outcome: str = ""  # how the cycle ended


def newest_slot(
    store: Store, problem: Problem, verb: Literal["cycle", "retrain", "score"], moment: datetime
) -> NewestSlot:
    """The newest slot at `moment`: done if its cycle, or one of a later as_of, has ended.

    The store alone is read, whatever started the cycle. A cycle whose process died is still `running` there.
    """
    slot = default_as_of(problem, verb, moment)
    first = "score" if verb == "score" else "retrain"
    found = store.find_cycle(problem.name, first, slot)
    if verb == "cycle" and found is not None and found.status in UNSCORED:
        first, found = "score", store.find_cycle(problem.name, "score", slot)
    later = store.newest_as_of(problem.name, first)
    if later is not None and later > slot:
        return NewestSlot(slot, "done", "a cycle of a later as_of has ended")
    if found is None:
        return NewestSlot(slot, "missing")
    if found.ended:
        return NewestSlot(slot, "done", found.reason, found.status)
    known: dict[str, Literal["refused", "failed", "running"]] = {
        "refused": "refused",
        "failed": "failed",
        "running": "running",
    }
    return NewestSlot(slot, known.get(found.status, "missing"), found.reason)  # missing: a dry run


def ahead_of(store: Store, problem: Problem, moment: datetime) -> datetime | None:
    """as_of of the newest cycle if it is later than `moment`: until then, commands without --as-of are refused."""
    as_ofs = [store.newest_as_of(problem.name, verb) for verb in ("retrain", "score")]
    newest = max((as_of for as_of in as_ofs if as_of), default=None)
    return newest if newest and newest > moment else None
