"""Which cycles a backtest replays: the slots of a window, and the problem as it runs on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from automl.errors import ProblemError
from automl.modeling.user_files import is_path
from automl.problem import POLICIES, Problem, RetrainingSection, Span
from automl.workspace import day_of

__all__ = ["DEFAULT_POLICIES", "Event", "Options", "Window", "known_policies", "window_of"]

Verb = Literal["cycle", "retrain", "score"]
# what a backtest compares unless policies are named; the problem's own comes first
DEFAULT_POLICIES = ("full", "warm", "refit", "never", "on_degradation", "cost_aware")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a backtest replays."""

    start: datetime
    end: datetime
    every: Span | None = None  # None: the slots of the schedule
    policies: tuple[str, ...] = ()  # none: the problem's own and the usual ones
    budget: Span | None = None  # wall clock of the whole backtest
    workers: int = 1  # policies that are replayed at once


class Event(NamedTuple):
    """What runs at one slot."""

    as_of: datetime
    verb: Verb


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Window:
    """The events of a backtest, oldest first, and the problem whose batches meet at them."""

    problem: Problem
    start: datetime
    end: datetime
    events: Sequence[Event]

    @property
    def labels_at(self) -> datetime:
        """When every label of the window is known, if the problem says after how long; else its end."""
        delay = self.problem.history.label_delay
        return delay.after(self.end, zone=self.problem.zone) if delay else self.end


def window_of(problem: Problem, options: Options) -> Window:
    """The events whose batches lie in the window.

    Raises
    ------
    ProblemError
        The window ends before it starts, or is shorter than a block or than one batch.
    """
    start, end = options.start, options.end
    if start >= end:
        raise ProblemError(
            f"the window from {day_of(start)} to {day_of(end)} ends before it starts",
            code="backtest_window",
            next_step="Give --from a date before --to.",
        )
    block = problem.validation.block
    if block.after(start, zone=problem.zone) > end:
        raise ProblemError(
            f"the window from {day_of(start)} to {day_of(end)} is shorter than one block ({block})",
            code="backtest_window",
            next_step="Widen --from and --to to several blocks.",
        )
    problem = _with_steps(problem, options.every)
    events = [e for e in _events(problem, start, end) if problem.until(e.as_of) <= end]
    first = next((i for i, e in enumerate(events) if e.verb != "score"), len(events))
    events = events[first:]  # nothing can be scored before there is a model
    if not any(e.verb != "retrain" for e in events):
        raise ProblemError(
            f"from {day_of(start)} to {day_of(end)} no batch begins and ends; wanted a window of several "
            "slots of the schedule",
            code="backtest_window",
            next_step="Widen --from and --to, or give --every.",
        )
    return Window(problem=problem, start=start, end=end, events=events)


def known_policies(problem: Problem, wanted: Sequence[str]) -> list[str]:
    """The policies to replay; each once, a path of a file as an absolute one.

    Raises
    ------
    ProblemError
        A name is unknown, or a file does not exist.
    """
    root, known = problem.file.parent, []
    for name in wanted or (problem.retraining.when, *DEFAULT_POLICIES):
        try:
            RetrainingSection(when=name)
        except ValidationError as error:
            said = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise ProblemError(
                f"--policies: {said}",
                code="unknown_policy",
                next_step=f"Name some of {', '.join(POLICIES)}, or the path of a Python file.",
            ) from None
        if name in POLICIES:
            known.append(name)
            continue
        path, colon, function = name.partition(":")
        file = (root / path).resolve()
        if not file.is_file():
            raise ProblemError(
                f"--policies: found no file {file}",
                code="unknown_policy",
                next_step="Give the path of a Python file, relative to the problem file, or a name of retraining.when.",
            )
        known.append(f"{file}{colon}{function}")
    return list(dict.fromkeys(known))


def _with_steps(problem: Problem, every: Span | None) -> Problem:
    """The problem on slots that are `every` apart; unchanged if its schedule has these slots already."""
    slots = problem.slots("retrain")
    if every is None and slots is not None:
        return problem
    if every is not None and slots is not None and slots.apart_by(every):
        return problem
    step = every or problem.horizon
    schedule = problem.schedule.model_copy(update={"retrain": "", "score": ""})
    batch = problem.batch.model_copy(update={"horizon": step})
    return problem.model_copy(update={"schedule": schedule, "batch": batch})


def _events(problem: Problem, start: datetime, end: datetime) -> list[Event]:
    retrain, score = problem.slots("retrain"), problem.slots("score")
    if retrain is None or score is None:
        step, moment, times = problem.horizon, start, 0
        moments = []
        while moment < end:
            moments.append(moment)
            times += 1
            moment = step.after(start, times, zone=problem.zone)
        return [Event(m.astimezone(UTC), "cycle") for m in moments]
    before = start - timedelta(microseconds=1)
    trains = {s for s in retrain.between(before, end) if s < end}
    scores = {s for s in score.between(before, end) if s < end}
    verbs: dict[bool, dict[bool, Verb]] = {
        True: {True: "cycle", False: "retrain"},
        False: {True: "score"},
    }
    return [Event(s, verbs[s in trains][s in scores]) for s in sorted(trains | scores)]


def absolute(problem: Problem) -> Problem:
    """The problem with the paths of users' files absolute, so that the file itself may lie elsewhere."""
    root: Path = problem.file.parent
    families = tuple(str((root / f).resolve()) if is_path(f) else f for f in problem.sweep.families)
    transformer = str(problem.transformer) if problem.transformer else ""
    return problem.model_copy(
        update={
            "sweep": problem.sweep.model_copy(update={"families": families}),
            "features": problem.features.model_copy(update={"transformer": transformer}),
        }
    )
