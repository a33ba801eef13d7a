"""The check of a family in a process of its own: a file that exits, crashes or hangs is found, and ends nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from automl.diagnostics.check import Check
from automl.diagnostics.family import Findings, check_family
from automl.errors import SpaceError
from automl.modeling.families import load_family, refuse_missing
from automl.modeling.user_files import is_path
from automl.problem import Problem
from automl.processes import Caller, UserCodeError, UserProcess

__all__ = ["check_in_process", "check_own_families"]

_log = logging.getLogger(__name__)
SECONDS = 120.0  # for all checks of one family


class _Progress:
    """What is being checked, as the other process reports it."""

    def __init__(self) -> None:
        self.name = "loading"

    def begin(self, name: str) -> None:
        """Note it."""
        self.name = name


def check_in_process(entry: str, root: Path, tasks: Sequence[str] = ()) -> Findings:
    """As `check_family`, for these tasks, by default all; a check that ends the process has not passed.

    Raises
    ------
    SpaceError
        The file cannot be loaded, or a library that it needs is missing.
    """
    progress = _Progress()
    until = time.monotonic() + SECONDS
    with UserProcess() as process:
        try:
            found = process.call(_checked, entry, root, tasks, until=until, asked=progress)
        except UserCodeError as error:
            if progress.name == "loading":
                raise SpaceError(
                    f"{root / entry}: loading the file failed: {error}",
                    code="family_raises",
                    next_step=f"Fix the file, then run: automl spaces {entry}",
                ) from error
            found = (Check(progress.name, False, str(error)),), {}, 0.0
    family = load_family(entry, root)
    return Findings(family, *found)


def check_own_families(problem: Problem) -> None:
    """Check the families of users' files for the task of a problem.

    Raises
    ------
    SpaceError
        A family does not pass.
    """
    for entry in filter(is_path, problem.sweep.families):
        _log.info("checking family %s on made rows, within %.0f s", entry, SECONDS)
        findings = check_in_process(entry, problem.file.parent, (problem.task,))
        failed = [f"{c.name}: {c.found}" for c in findings.checks if not c.passed]
        if failed:
            raise SpaceError(
                f"{findings.family.path}: {'; '.join(failed)}",
                code="family_fails",
                next_step=f"Fix the file, then run: automl spaces {entry}",
            )


def _checked(
    caller: Caller, entry: str, root: Path, tasks: Sequence[str]
) -> tuple[tuple[Check, ...], dict[str, str], float]:
    """What `check_family` finds, without the family; called in its process."""
    refuse_missing(load_family(entry, root), entry)
    findings = check_family(entry, root, tasks, begin=lambda name: caller("begin", name))
    return findings.checks, dict(findings.ranges), findings.seconds_per_fit
