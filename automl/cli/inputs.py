"""What commands read: the problem file and its workspace, times, settings."""

from __future__ import annotations

import logging
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from automl.cli.live import LogLines
from automl.redaction import WithoutSecrets

if TYPE_CHECKING:
    from automl.cli.app import CycleOptions
    from automl.cycles.options import RunOptions
    from automl.problem import Problem
    from automl.workspace import Workspace

__all__ = ["chosen_cycle", "open_folder", "open_problem", "parse_time", "prepare", "run_options"]


def open_problem(file: Path) -> tuple[Problem, Workspace]:
    """The problem of a file and its workspace, with the settings in place."""
    workspace = open_folder(file)
    from automl.problem import load_problem

    return load_problem(file), workspace


def open_folder(file: Path) -> Workspace:
    """The workspace of a problem file that may be wrong, with the settings in place."""
    prepare(file.resolve().parent)
    from automl.workspace import open_workspace

    workspace = open_workspace(file)
    os.umask(workspace.umask)
    return workspace


def prepare(start: Path) -> None:
    """Apply settings and set up logging before anything heavy is imported."""
    from automl.workspace import export_settings

    export_settings(start)
    from automl.api.settings import quiet_loggers

    stderr = LogLines(sys.stderr)
    stderr.setFormatter(WithoutSecrets("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    quiet = "--quiet" in sys.argv
    logging.basicConfig(handlers=[stderr], level=logging.WARNING if quiet else logging.INFO)
    quiet_loggers()
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    import warnings

    warnings.simplefilter("ignore")  # libraries' own; ours go through logging


def run_options(typed: CycleOptions) -> RunOptions:
    """The options of a run as typed on the command line.

    Raises
    ------
    ProblemError
        A time or duration cannot be parsed.
    """
    from automl.api.arguments import duration
    from automl.cycles.options import RunOptions

    return RunOptions(
        as_of=parse_time(typed.as_of, "--as-of"),
        budget=duration(typed.budget, "--budget"),
        again=typed.again,
        reason=typed.reason,
        backfill=typed.backfill,
        dry_run=typed.dry_run,
        plan=typed.plan,
    )


def parse_time(text: str | None, option: str) -> datetime | None:
    """A time as typed; UTC unless it names an offset.

    Raises
    ------
    ProblemError
        The text is no time.
    """
    from automl.api.arguments import moment_of

    return moment_of(text, option)


def chosen_cycle(cycle: str | None, as_of: str | None) -> datetime | None:
    """as_of of the cycle that --cycle or --as-of names; None if neither is given.

    Raises
    ------
    ProblemError
        A text is no time, or they name two cycles.
    """
    from automl.api.arguments import cycle_of

    return cycle_of(cycle, as_of, ("--cycle", "--as-of"))
