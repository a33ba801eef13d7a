"""Problem files served on their schedules until the process is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from automl.problem import load_problem
from automl.report import deployments
from flows.servers import require_server
from flows.serving import serve

__all__ = ["serve_problems"]


def serve_problems(files: Sequence[Path]) -> None:
    """Serve until stopped.

    Raises
    ------
    ProblemError
        No server is set, or a file cannot be read or has no schedule.
    """
    require_server()
    for file in files:
        deployments(load_problem(file))
    serve([file.resolve() for file in files])
