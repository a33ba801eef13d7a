"""What a problem file would say about a table, guessed from a sample of its rows, each guess with its reason.

Pure functions: nothing here reads a source, writes a file or runs a cycle. What the caller already knows
is passed as `given` and not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from automl.guessing.columns import (
    choose_ignored,
    choose_key,
    choose_label_delay,
    choose_personal,
    suspects,
)
from automl.guessing.frames import Table
from automl.guessing.guess_values import Guess, Guesses
from automl.guessing.periods import choose_as_of, choose_block, choose_horizon
from automl.guessing.sample import TableSample, refuse_times
from automl.guessing.targets import choose_metric, choose_positive, choose_task, refuse_target

__all__ = ["guess"]

ONLY = "the only column of dates"


def guess(
    table: Table, target: str, given: Mapping[str, Any], *, time_reason: str = ONLY, every: int = 1
) -> Guesses:
    """Guess what the problem file of a table says; `given` holds known values by key of the problem file.

    Parameters
    ----------
    time_reason
        Why the table's column of times was chosen.
    every
        1 for a whole table; 4 if every fourth row was read.

    Raises
    ------
    ProblemError
        The target is missing or constant, all times are equal, or there are too few rows.
    """
    known = {k: v for k, v in given.items() if v is not None}
    sample = TableSample(table, target, known, every)
    refuse_target(sample)
    refuse_times(sample)
    settled = _Settled(sample.given)
    settle = settled.settle
    settle("history.time", lambda: (table.time, time_reason))
    settle("history.timezone", lambda: (table.timezone, _zone_reason(table)))
    task = settle("task", lambda: choose_task(sample))
    settle("history.positive", lambda: choose_positive(sample, task))
    settle("metric.name", lambda: choose_metric(task))
    personal = settle("history.personal", lambda: choose_personal(sample))
    key = settle("history.key", lambda: choose_key(sample, personal))
    ignored = settle("history.ignore", lambda: choose_ignored(sample, task, personal))
    delay = settle("history.label_delay", lambda: choose_label_delay(sample))
    block = settle("validation.block", lambda: choose_block(sample))
    as_of = settle("as_of", lambda: choose_as_of(sample, block, delay))
    settle("batch.horizon", lambda: choose_horizon(sample, as_of))
    settle("validation.origins", lambda: ("auto", "as many as history and budget allow"))
    warnings = (*table.notes, *suspects(sample, task, {*ignored, *personal, *key}))
    entries = tuple(settled.entries)
    return Guesses(entries=entries, warnings=warnings, columns=tuple(sample.frame.columns))


class _Settled:
    """Guesses in the order in which they are made; given values are not guessed."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.entries: list[Guess] = []

    def settle(self, key: str, find: Callable[[], tuple[Any, str]]) -> Any:
        given = key in self.given
        value, reason = (self.given[key], "given") if given else find()
        self.entries.append(Guess(key=key, value=value, reason=reason, given=given))
        return value


def _zone_reason(table: Table) -> str:
    if table.timezone != "UTC":
        return f"the zone of {table.time!r}"
    return "times without a zone are taken for UTC"
