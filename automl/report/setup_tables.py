"""A problem file, the families and the schedule as documents; the command that serves MLflow."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from automl.cycles.options import default_as_of
from automl.errors import ProblemError
from automl.modeling.families import Family, load_family
from automl.problem import METRICS, Problem, Slots, family_names
from automl.store import Store
from automl.workspace import Workspace, day_of, now

__all__ = ["checked", "deployments", "families", "schedule_text", "ui_command"]


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


def schedule_text(problems: Sequence[Problem]) -> str:
    """Deployments and their next slots."""
    lines = []
    for p in problems:
        for verb, cron in deployments(p):
            slots, zone = Slots(cron, p.schedule.timezone), ZoneInfo(p.schedule.timezone)
            first = slots.after(now())
            upcoming = ", ".join(
                f"{slot.astimezone(zone):%a %Y-%m-%d %H:%M}" for slot in (first, slots.after(first))
            )
            lines.append(f"{verb}/{p.name}  {cron} {p.schedule.timezone}  next: {upcoming}")
    return "\n".join(lines)


def deployments(problem: Problem) -> list[tuple[str, str]]:
    """(flow, cron) of a problem: `cycle` when there is no schedule of its own for scoring.

    `approvals` checks for the approval tag of a challenger, as every command does too.

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
        )
    approvals = [("approvals", s.approvals)] if s.approvals else []
    if s.retrain and s.score:
        return [("retrain", s.retrain), ("score", s.score), *approvals]
    return [("cycle", s.retrain) if s.retrain else ("score", s.score), *approvals]


def ui_command(
    problem: Problem, workspace: Workspace, port: int
) -> tuple[list[str], dict[str, str], str]:
    """Command and environment that serve MLflow, empty if a server is configured, and the link to open."""
    cycles = Store(workspace).cycles(problem.name, limit=50)
    experiment = next(
        (c.receipts["experiment"] for c in cycles if "experiment" in c.receipts), None
    )
    page = (
        f"experiments/{experiment}/runs?viewStateShareKey=decisions&"
        if experiment
        else "experiments?"
    )
    base = (
        workspace.tracking_uri
        if workspace.tracking_uri.startswith("http")
        else f"http://127.0.0.1:{port}"
    )
    link = f"{base}/#/{page}workflowType=machine_learning"
    if base == workspace.tracking_uri:
        return [], {}, link
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--artifacts-destination",
        workspace.artifacts.as_uri(),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    return (
        command,
        {
            # not an argument: the address of a database may hold a password, which `ps` would show
            "MLFLOW_BACKEND_STORE_URI": workspace.tracking_uri,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        link,
    )
