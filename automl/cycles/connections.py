"""Open everything that a cycle of a problem will need: source, store, tables, parquet folder, MLflow.

Nothing is created, upgraded or written: no file, no table, no row.
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
from automl.store import has_tables, may_write, store_as_it_is
from automl.workspace import Workspace, now

__all__ = ["mlflow_has_tables", "open_all"]

# importing MLflow takes up to ten on a busy machine; its requests are bounded themselves
SECONDS = 60
# in a process of its own: MLflow itself may be what is broken
_MLFLOW = """
import sys
from pathlib import Path
from automl.errors import AutomlError
from automl.tracking import Connection
from automl.workspace import open_workspace
try:
    Connection(open_workspace(Path(sys.argv[1])), reading=True).search_experiments(max_results=1)
except AutomlError as error:
    print(error, error.next_step, sep="\\n")
    sys.exit(5)
"""


def open_all(problem: Problem, workspace: Workspace) -> list[dict[str, Any]]:
    """A row for each source, destination and server; one that fails does not hide the others.

    `exit_code` is that of a cycle that fails for this reason.
    """
    looks: dict[str, Callable[[], str]] = {
        "source": lambda: _source(problem, workspace, batch=False),
        "batch": lambda: _source(problem, workspace, batch=True),
        "store": lambda: may_write(workspace),
        "table": lambda: _table(problem, workspace),
        "mlflow": lambda: _mlflow(problem, workspace),
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
    except subprocess.TimeoutExpired:
        found = {"found": f"no response within {SECONDS} s", "exit_code": 5}
        return {**row, **found, "remedy": "Start it, or fix its address."}
    except Exception as error:  # noqa: BLE001  whatever a driver raises: this check did not pass
        found = {"found": f"{type(error).__name__}: {redact(str(error))}", "exit_code": 1}
        return {**row, **found, "remedy": "See the message."}


def _source(problem: Problem, workspace: Workspace, *, batch: bool) -> str:
    as_of = default_as_of(problem, "retrain", now())
    names = probe(problem, workspace, as_of, batch=batch)
    return f"{len(names)} columns: {', '.join(names[:6])}{', ...' * (len(names) > 6)}"


def _table(problem: Problem, workspace: Workspace) -> str:
    store = store_as_it_is(workspace)
    if store is None:
        return f"{problem.table} is looked for by the first cycle of this release"
    check_owner(store, problem)
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


def mlflow_has_tables(workspace: Workspace) -> bool:
    """Whether MLflow can be opened without making its tables: a server has them, a database may not."""
    uri = workspace.tracking_uri
    return uri.startswith("http") or has_tables(uri, "experiments")


def _mlflow(problem: Problem, workspace: Workspace) -> str:
    uri = redact(workspace.tracking_uri)
    if not mlflow_has_tables(workspace):
        return f"{uri} is filled by the first cycle"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MLFLOW, str(problem.file)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "MLFLOW_TRACKING_URI": workspace.tracking_uri},
    )
    if done.returncode:
        said = (done.stdout if done.returncode == UnreachableError.exit_code else "").splitlines()
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        raise UnreachableError(
            said[0] if said else f"MLflow at {uri} cannot be opened: {last}",
            code="mlflow_unreachable",
            next_step=said[1]
            if len(said) > 1
            else "Fix MLFLOW_TRACKING_URI, or upgrade the database: mlflow db upgrade URI.",
        )
    return f"{uri} responds"
