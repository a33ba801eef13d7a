"""A problem file, the families and the schedule as documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from automl.cycles.options import default_as_of
from automl.errors import ProblemError
from automl.modeling.families import Family, load_family
from automl.problem import METRICS, Problem, Slots, family_names
from automl.workspace import Workspace, day_of, now

__all__ = [
    "automations_text",
    "checked",
    "deployments",
    "families",
    "schedule",
    "schedule_text",
]


def checked(
    problem: Problem,
    workspace: Workspace,
    families: Mapping[str, Family],
    *,
    connections: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """A valid problem file with its defaults filled in, and what opening all that it names has found."""
    as_of = default_as_of(problem, "retrain", now())
    opened = {} if connections is None else {"connections": [*connections]}
    return opened | {
        "problem": problem.name,
        "task": problem.task,
        "file": str(problem.file),
        "digest": problem.digest,
        "families": {name: f.doc for name, f in families.items()},
        "metric": problem.metric.name,
        "table": problem.table,
        "horizon": str(problem.horizon),
        "as_of": day_of(as_of),
        "batch": [day_of(as_of), day_of(problem.until(as_of))],
        "workspace": str(workspace.home),
    }


def families() -> dict[str, Any]:
    """The shipped families."""
    loaded = [load_family(name, Path.cwd()) for name in family_names()]
    return {
        "families": [
            {
                "name": f.name,
                "short": f.short,
                "tasks": sorted(f.tasks),
                "encoding": f.encoding,
                "start_points": len(f.start),
                "about": f.doc,
            }
            for f in loaded
        ],
        "metrics": METRICS,
    }


def schedule(problems: Sequence[Problem]) -> dict[str, Any]:
    """Deployments and their next slots."""
    rows = []
    for p in problems:
        for verb, cron in deployments(p):
            slots = Slots(cron, p.schedule.timezone)
            first = slots.after(now())
            rows.append({
                "deployment": f"{verb}/{p.name}",
                "problem": p.name,
                "verb": verb,
                "file": str(p.file),
                "cron": cron,
                "timezone": p.schedule.timezone,
                "catch_up": p.schedule.catch_up,
                "next": [f"{slot:%Y-%m-%dT%H:%M:%SZ}" for slot in (first, slots.after(first))],
            })  # fmt: skip
    return {"deployments": rows}


def schedule_text(document: dict[str, Any]) -> str:
    """A line per deployment, with its next slots in the zone of the schedule."""
    lines = []
    for row in document["deployments"]:
        zone = ZoneInfo(row["timezone"])
        upcoming = ", ".join(
            f"{datetime.fromisoformat(slot).astimezone(zone):%a %Y-%m-%d %H:%M}"
            for slot in row["next"]
        )
        lines.append(f"{row['deployment']}  {row['cron']} {row['timezone']}  next: {upcoming}")
    return "\n".join(lines)


def automations_text(document: dict[str, Any]) -> str:
    """A line per automation that was created, updated or removed."""
    rows = document["automations"]
    lines = [f"{row['done']}  {row['automation']}" for row in rows]
    return "\n".join(lines) or "there was no automation of these problems"


def deployments(problem: Problem) -> list[tuple[str, str]]:
    """(flow, cron) of a problem: `cycle` when there is no schedule of its own for scoring.

    `approvals` checks for the approval tag of a challenger, as every command does too; `monitor` watches.

    Raises
    ------
    ProblemError
        The problem has no schedule.
    """
    s = problem.schedule
    if not s.retrain and not s.score:
        raise ProblemError(
            f"{problem.file.name}: found no [schedule]; wanted schedule.retrain, schedule.score or both",
            code="no_schedule",
            next_step='Add a cron line, such as retrain = "0 5 * * 1" under [schedule].',
        )
    watching = [(verb, getattr(s, verb)) for verb in ("approvals", "monitor") if getattr(s, verb)]
    if s.retrain and s.score:
        return [("retrain", s.retrain), ("score", s.score), *watching]
    return [("cycle", s.retrain) if s.retrain else ("score", s.score), *watching]
