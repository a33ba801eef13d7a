"""Open everything that a cycle of a problem will need: source, store, tables, parquet folder, MLflow.

Nothing is left behind: no file, no table, no row.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from automl.cycles.options import default_as_of
from automl.errors import AutomlError, ProblemError, UnreachableError
from automl.history import probe
from automl.predictions import check_owner
from automl.problem import Problem
from automl.redaction import redact
from automl.store import Store, is_there, may_write
from automl.workspace import Workspace, now

__all__ = ["open_all"]

SECONDS = 30  # for MLflow; importing it takes up to five
_MLFLOW = "import mlflow; mlflow.MlflowClient().search_experiments(max_results=1)"


def open_all(problem: Problem, workspace: Workspace) -> list[dict[str, Any]]:
    """A row for each source, destination and server; one that fails does not hide the others.

    `exit_code` is that of a cycle that fails for this reason.
    """
    looks: dict[str, Callable[[], str]] = {
        "source": lambda: _source(problem, workspace, batch=False),
        "batch": lambda: _source(problem, workspace, batch=True),
        "store": lambda: may_write(workspace),
        "table": lambda: _table(problem, workspace),
        "mlflow": lambda: _mlflow(workspace),
    }
    if not problem.batch.query:
        looks.pop("batch")
    if problem.publish.parquet:
        looks["parquet"] = lambda: _folder(workspace.resolve(problem.publish.parquet))
    return [_checked(name, look) for name, look in looks.items()]


def _checked(name: str, look: Callable[[], str]) -> dict[str, Any]:
    row = {"name": name, "passed": False, "found": "", "remedy": "", "exit_code": 0}
    try:
        return {**row, "passed": True, "found": look()}
    except AutomlError as error:
        found = {"found": str(error), "remedy": error.next_step, "exit_code": error.exit_code}
        return {**row, **found}
    except Exception as error:  # noqa: BLE001  whatever a driver raises: this check did not pass
        found = {"found": f"{type(error).__name__}: {redact(str(error))}", "exit_code": 1}
        return {**row, **found, "remedy": "See the message."}


def _source(problem: Problem, workspace: Workspace, *, batch: bool) -> str:
    as_of = default_as_of(problem, "retrain", now())
    names = probe(problem, workspace, as_of, batch=batch)
    return f"{len(names)} columns: {', '.join(names[:6])}{', ...' * (len(names) > 6)}"


def _table(problem: Problem, workspace: Workspace) -> str:
    if not is_there(workspace):
        return f"{problem.table} is created by the first cycle"
    check_owner(Store(workspace), problem)
    return f"{problem.table} is free, or this problem's"


def _folder(folder: Path) -> str:
    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ProblemError(
            f"publish.parquet: cannot write into {there}",
            code="parquet",
            next_step="Fix the folder's permissions, or name another one.",
        )
    return f"{folder} is writable"


def _mlflow(workspace: Workspace) -> str:
    uri = workspace.tracking_uri
    if workspace.local_mlflow and not (workspace.home / "mlflow.db").exists():
        return f"{uri} is created by the first cycle"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MLFLOW],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        },
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        raise UnreachableError(
            f"MLflow at {redact(uri)} does not answer: {redact(last)}",
            code="mlflow_unreachable",
            next_step="Start it, or fix MLFLOW_TRACKING_URI (environment or mlflow.env).",
        )
    return f"{redact(uri)} answers"
