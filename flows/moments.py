"""The as_of of a run, and its name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from automl.api.arguments import moment_of
from automl.cycles.options import default_as_of
from automl.problem import Problem

__all__ = ["PIPELINES", "as_of_of", "name_of", "run_name", "utc"]

PIPELINES = ("cycle", "retrain", "score")  # verbs whose slots have cycles in the store


def as_of_of(
    problem: Problem, verb: str, parameters: Mapping[str, Any], moment: datetime
) -> datetime:
    """As given; of an event its minute; else the slot that the run was scheduled for, at `moment`.

    Not the newest slot now: a run that starts late would take the slot of the next.
    """
    given = moment_of(parameters.get("as_of"))
    if given is not None:
        return given
    slots = problem.slots(verb)
    if parameters.get("event") or (slots is None and verb not in PIPELINES):
        return moment.replace(second=0, microsecond=0)
    return slots.newest(moment) if slots else default_as_of(problem, verb, moment)


def name_of(problem: Problem, verb: str, parameters: Mapping[str, Any], moment: datetime) -> str:
    """The name of a run."""
    as_of = as_of_of(problem, verb, parameters, moment)
    return run_name(problem.name, as_of, "" if verb in PIPELINES else verb)


def run_name(problem: str, as_of: datetime, verb: str = "") -> str:
    """Problem and as_of, in UTC.

    >>> run_name("flights", datetime(2026, 3, 2, 3, tzinfo=UTC))
    'flights · 2026-03-02 03:00'
    """
    shown = f"{problem} · {as_of:%Y-%m-%d %H:%M}" + (f":{as_of:%S}" if as_of.second else "")
    return f"{shown} · {verb}" if verb else shown


def utc(moment: datetime) -> datetime:
    """A moment of Prefect in UTC; its own type of dates loses the zone in arithmetic."""
    return datetime.fromtimestamp(moment.timestamp(), UTC)
