"""Run the missed cycles of a window for real, oldest first: the schedule's slots that retrained or scored nothing.

Each slot runs as `--backfill` does: readers keep the newest predictions, the others join `<table>_history`, and a
release of an older as_of never becomes champion. A slot that has ended is a no-op, so the same command again goes on
where an interrupted one stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from automl import progress
from automl.cycles.options import RunOptions, default_as_of
from automl.cycles.result import CycleResult
from automl.cycles.steps import Runner, call
from automl.errors import AutomlError, BusyError, HistoryError, ProblemError, UnreachableError
from automl.problem import Problem
from automl.retrain import retrain
from automl.score import cycle, score
from automl.store import Cycle, Store
from automl.workspace import Workspace, day_of, now

__all__ = ["Backfill", "Filled", "backfill", "missing"]

Verbs = dict[str, Callable[..., CycleResult]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What became of one slot."""

    as_of: datetime
    verb: str  # cycle | retrain | score
    status: str  # as of a cycle; refused or failed with the reason
    reason: str
    exit_code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """What became of the missed slots of a window, oldest first."""

    problem: str
    start: datetime
    end: datetime
    slots: tuple[Filled, ...]
    there: int = 0  # slots of the window that had ended before

    @property
    def exit_code(self) -> int:
        """That of the first slot that was refused or failed; 0 without one."""
        return next((s.exit_code for s in self.slots if s.exit_code), 0)

    @property
    def reason(self) -> str:
        """One sentence."""
        done = sum(not s.exit_code for s in self.slots)
        refused = len(self.slots) - done
        text = f"{done} of {len(self.slots)} missed slots filled, {self.there} were there"
        return f"{text}; {refused} refused or failed" if refused else text

    @property
    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "problem": self.problem,
            "from": day_of(self.start),
            "to": day_of(self.end),
            "reason": self.reason,
            "there": self.there,
            "slots": [
                {
                    "as_of": day_of(s.as_of),
                    "verb": s.verb,
                    "status": s.status,
                    "reason": s.reason,
                    "exit_code": s.exit_code,
                }
                for s in self.slots
            ],
        }


def backfill(
    problem: Problem,
    workspace: Workspace,
    start: datetime,
    end: datetime,
    *,
    run: Runner = call,
) -> Backfill:
    """Run every missed slot with `start <= as_of < end`; a slot that is refused does not stop the others.

    Raises
    ------
    ProblemError
        The window is empty, or has no slot before now.
    BusyError, UnreachableError
        Another run holds the problem; the store or MLflow is out of reach. What was filled stays.
    """
    end = min(end, default_as_of(problem, "retrain", now()) + timedelta(microseconds=1))
    slots = list(_slots(problem, start, end))
    if not slots:
        raise ProblemError(
            f"{problem.name}: found no slot from {day_of(start)} until before {day_of(end)}, at the latest now",
            code="no_slots",
            next_step="Give an earlier --from, or a later --to.",
        )
    workspace = replace(
        workspace, reports=False
    )  # `automl report --cycle` writes them where they are wanted
    store = Store(workspace)
    wanted = [(slot, verb) for slot, verb in slots if missing(store, problem, slot, verb)]
    filled: list[Filled] = []
    with progress.step("backfill"):
        for slot, verb in wanted:
            progress.show(f"{verb} of {day_of(slot)}", done=len(filled), of=len(wanted))
            found = _fill(problem, workspace, slot, verb, run)
            _log.info("%s %s: %s, %s", verb, day_of(slot), found.status, found.reason)
            filled.append(found)
    there = len(slots) - len(wanted)
    return Backfill(problem=problem.name, start=start, end=end, slots=tuple(filled), there=there)


def missing(store: Store, problem: Problem, slot: datetime, verb: str) -> bool:
    """Whether a slot has retrained or scored nothing yet; another batch may have covered its window."""
    trained = _ended(store.find_cycle(problem.name, "retrain", slot))
    if verb == "retrain":
        return not trained
    covered = any(a <= slot < b for a, b in store.windows(problem.name))
    scored = covered or _ended(store.find_cycle(problem.name, "score", slot))
    return not scored or (verb == "cycle" and not trained)


def _ended(cycle: Cycle | None) -> bool:
    return cycle is not None and cycle.ended


def _slots(problem: Problem, start: datetime, end: datetime) -> Iterator[tuple[datetime, str]]:
    """Slots of a window, oldest first, with the verb that the schedule runs there.

    Without a schedule one cycle follows the other by a horizon, from `start` on.
    """
    s = problem.schedule
    if not (s.retrain or s.score):
        at = start
        while at < end:
            yield at, "cycle"
            at = problem.horizon.after(at, zone=problem.zone)
        return
    both = not s.retrain or not s.score or s.retrain == s.score
    lines: Sequence[str] = ("cycle",) if both else ("retrain", "score")
    before = start - timedelta(microseconds=1)
    found = []
    for order, verb in enumerate(lines):
        slots = problem.slots(verb)
        between = slots.between(before, end) if slots else []
        found += [(slot, order, verb) for slot in between if start <= slot < end]
    yield from ((slot, verb) for slot, _, verb in sorted(found))


def _fill(problem: Problem, workspace: Workspace, slot: datetime, verb: str, run: Runner) -> Filled:
    verbs: Verbs = {"cycle": cycle, "retrain": retrain, "score": score}
    options = RunOptions(as_of=slot, backfill=True)
    try:
        result = verbs[verb](problem, workspace, options, run=run)
    except AutomlError as error:
        if isinstance(error, BusyError | UnreachableError):  # no other slot could run either
            raise
        status = "refused" if isinstance(error, HistoryError) else "failed"
        return Filled(
            as_of=slot, verb=verb, status=status, reason=str(error), exit_code=error.exit_code
        )
    return Filled(as_of=slot, verb=verb, status=result.status, reason=result.reason)
