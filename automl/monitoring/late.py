"""The dead-man check: whether a schedule has stopped without a word.

A cycle that fails says so itself. One that never starts cannot: a server that is gone, a machine that sleeps, a
deployment that was removed. So another process asks the store when a cycle last ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

from automl.errors import AutomlError
from automl.monitoring.alerts import raise_alert, recover
from automl.problem import Problem, Slots
from automl.store import Store
from automl.workspace import Workspace, now

__all__ = ["check_late", "late"]

LATE = "late"  # kind of the alert


def late(problem: Problem, workspace: Workspace, moment: datetime | None = None) -> str:
    """A sentence if no cycle has ended for `monitoring.late_after`; empty otherwise, and without a schedule.

    A problem that never ran is as old as its file.
    """
    moment = moment or now()
    store = Store(workspace)
    found = []
    for verb, slots in _scheduled(problem).items():
        newest = store.newest_as_of(problem.name, verb)
        since = newest or datetime.fromtimestamp(problem.file.stat().st_mtime, UTC)
        missed = list(islice(_later(slots, since, moment), problem.monitoring.late_slots))
        if len(missed) >= problem.monitoring.late_slots:
            last = f"the last as of {newest:%Y-%m-%d %H:%M} UTC" if newest else "none so far"
            found.append(f"no {verb} has ended for {problem.monitoring.late_after} ({last})")
    return f"{problem.name}: {'; '.join(found)}" if found else ""


def check_late(problem: Problem, workspace: Workspace, moment: datetime | None = None) -> str:
    """As `late`; alerts when a problem becomes late, and when it has recovered."""
    try:
        sentence = late(problem, workspace, moment)
    except AutomlError as error:
        sentence = f"{problem.name}: cannot tell when a cycle last ended: {error}"
    if not sentence:
        recover(problem, workspace, LATE, f"{problem.name}: cycles end again")
        return ""
    text = (
        f"What broke: {sentence}.\n"
        "What still works: what was published last.\n"
        f"What to do: look whether the scheduler runs; then automl cycle {problem.file}"
    )
    raise_alert(problem, workspace, LATE, f"{problem.name}: its schedule has stopped", text)
    return sentence


def _scheduled(problem: Problem) -> dict[str, Slots]:
    """The cron lines that the problem file has; a line that is missing is no schedule of its own."""
    s = problem.schedule
    crons = {"retrain": s.retrain, "score": s.score}
    return {verb: Slots(cron, s.timezone) for verb, cron in crons.items() if cron}


def _later(slots: Slots, since: datetime, moment: datetime) -> Iterator[datetime]:
    """Slots after `since`, newest first."""
    for slot in slots.backwards(moment):
        if slot <= since:
            return
        yield slot
