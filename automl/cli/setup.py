"""Commands that check a setup: check, spaces, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from automl import progress
from automl.cli.app import SETUP, Debug, File, Json, Quiet, app
from automl.cli.console import print_document
from automl.cli.inputs import open_folder, open_problem, prepare

if TYPE_CHECKING:
    from automl.problem import Problem
    from automl.tracking import Registry

__all__ = ["check", "doctor", "spaces"]


@app.command(group=SETUP)
def check(
    file: File,
    /,
    *,
    data: bool = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Validate a problem file and its families without reading data.

    Parameters
    ----------
    data
        Open source, store and MLflow too, as a cycle will; no row is read, nothing is left behind.
    """
    workspace = open_folder(file)
    from automl import report
    from automl.api.checking import check_problem

    document = check_problem(file, workspace, data=data, extra=_check_own_families)
    print_document(document, report.checked_text, as_json=json)
    opened = document.get("connections", ())
    return next((c["exit_code"] for c in opened if not c["passed"]), 0)


def _check_own_families(problem: Problem) -> None:
    from automl.diagnostics.bounded import check_own_families

    check_own_families(problem)


@app.command(group=SETUP, usage="automl spaces [OPTIONS] [NAME]")
def spaces(
    name: str | None = None, *, json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> int:
    """List the families, or check one: ranges, random parameters, fit, same seed same result, save and load.

    Parameters
    ----------
    name
        Name of a family, or path of a family file. Default: list all families.
    """
    prepare(Path.cwd())
    from automl import report
    from automl.diagnostics import bounded, family

    if name is None:
        return print_document(report.families(), report.families_text, as_json=json)
    with progress.step(f"check {Path(name).stem}"):
        findings = bounded.check_in_process(name, Path.cwd())
    print_document(family.to_json(findings), report.family_text, as_json=json)
    return 0 if all(check.passed for check in findings.checks) else 2


@app.command(group=SETUP, usage="automl doctor [OPTIONS] [FILE]")
def doctor(
    file: Path | None = None, /, *, json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> int:
    """Check the installation: versions, threads, ports, permissions, Prefect's server.

    Parameters
    ----------
    file
        Problem file whose workspace is checked too.
    """
    problem, workspace = open_problem(file) if file else (None, None)
    prepare(Path.cwd())
    from automl.diagnostics import installation

    def open_registry() -> Registry:
        # if MLflow is broken, one check fails, not the command
        from automl.tracking import Registry

        assert problem is not None
        assert workspace is not None
        return Registry(problem, workspace, reading=True)

    with progress.step("examine the installation"):
        checks = installation.examine(problem, workspace, open_registry)
    print_document(installation.to_json(checks), installation.to_text, as_json=json)
    return 0 if all(check.passed for check in checks) else 1
