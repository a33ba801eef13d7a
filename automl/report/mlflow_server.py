"""Where a person reads about a problem in MLflow, and the server that shows it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points

from automl.problem import Problem
from automl.store import Store
from automl.workspace import Workspace

__all__ = ["MlflowPages", "mlflow_pages"]

FIRST_PAGE = "automl"  # name of the entry point, and place of the page


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowPages:
    """The link to the decisions, and the server to start; `command` is empty if a server is configured."""

    link: str
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    health: str = ""  # an address that responds as soon as the server does


def mlflow_pages(problem: Problem, workspace: Workspace, port: int) -> MlflowPages:
    """The decisions of a problem, on the configured server or on one of our own at 127.0.0.1.

    Our own opens a first page, which tells MLflow's pages to show runs instead of traces, and goes on to the decisions.
    """
    cycles = Store(workspace).cycles(problem.name, limit=50)
    experiment = next(
        (c.receipts["experiment"] for c in cycles if "experiment" in c.receipts), None
    )
    runs = f"experiments/{experiment}/runs?viewStateShareKey=decisions&"
    place = f"#/{runs if experiment else 'experiments?'}workflowType=machine_learning"
    if workspace.tracking_uri.startswith("http"):
        return MlflowPages(link=f"{workspace.tracking_uri.rstrip('/')}/{place}")
    # not there before the package was installed again
    has_first_page = FIRST_PAGE in entry_points(group="mlflow.app").names
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--artifacts-destination", workspace.artifacts.as_uri(), "--workers", "1"]
    command += ["--app-name", FIRST_PAGE] if has_first_page else []
    environment = {
        # not an argument: the address of a database may hold a password, which `ps` would show
        "MLFLOW_BACKEND_STORE_URI": workspace.tracking_uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return MlflowPages(
        link=f"{base}/{FIRST_PAGE if has_first_page else ''}{place}",
        command=command,
        environment=environment,
        health=f"{base}/health",
    )
