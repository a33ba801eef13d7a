"""Commands that show what happened: status, leaderboard, why, champion, history, contract, ui."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from automl import progress
from automl.cli.all_problems import problem_files, status_of_all
from automl.cli.app import INSPECT, Cycle, CycleAsOf, Debug, File, Json, Quiet, app
from automl.cli.console import print_document, print_message
from automl.cli.inputs import chosen_cycle, open_problem, parse_time

__all__ = ["champion", "contract", "history", "leaderboard", "status", "ui", "why"]

Columns = Annotated[
    list[str] | None,
    Parameter(
        consume_multiple=True,
        negative_iterable="",
        help="Columns to show, such as family,roc_auc,fit_seconds,parameters, or names of parameters; commas or "
        "spaces between them. Default: as many as fit.",
    ),
]


@app.command(group=INSPECT, usage="automl status [OPTIONS] [FILE|FOLDER...]")
def status(
    *file: Path,
    all: bool = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Show champion, live predictions, realised performance, alerts and recent cycles.

    Parameters
    ----------
    file
        Problem file; several, or folders, show a line per problem. Default: those of the current folder. Exit code
        of several: 1 if one is late or has an open alert.
    all
        The same for one problem too; late problems send their alert. For cron.
    """
    paths = list(file) or problem_files([Path()]) or [Path()]
    if all or len(paths) > 1 or paths[0].is_dir():
        return status_of_all(paths, as_json=json, alerting=all)
    problem, workspace = open_problem(paths[0])
    from automl import report

    return print_document(report.status(problem, workspace), report.status_text, as_json=json)


@app.command(group=INSPECT)
def leaderboard(
    file: File,
    /,
    *,
    cycle: Cycle = None,
    as_of: CycleAsOf = None,
    columns: Columns = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Show the recipes that a cycle tried, best first."""
    problem, workspace = open_problem(file)
    from automl import report

    document = report.leaderboard(problem, workspace, chosen_cycle(cycle, as_of))
    chosen = [name for entry in columns or () for name in entry.split(",") if name]

    def text(shown: dict[str, Any]) -> Any:
        return report.leaderboard_text(shown, chosen)

    return print_document(document, text, as_json=json)


@app.command(group=INSPECT)
def why(
    file: File,
    /,
    *,
    cycle: Cycle = None,
    as_of: CycleAsOf = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Show a cycle's decision and its evidence."""
    problem, workspace = open_problem(file)
    from automl import report

    document = report.why(problem, workspace, chosen_cycle(cycle, as_of))
    return print_document(document, report.why_text, as_json=json)


@app.command(group=INSPECT)
def champion(
    file: File,
    /,
    *,
    at: str | None = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Show the champion at a given time and its release: when, why, by which user.

    Parameters
    ----------
    at
        Wall-clock time, UTC without an offset. Default: now.
    """
    problem, workspace = open_problem(file)
    from automl import report

    document = report.champion(problem, workspace, parse_time(at, "--at"))
    return print_document(document, report.champion_text, as_json=json)


@app.command(group=INSPECT)
def history(
    file: File,
    /,
    *,
    verify: bool = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Show pulls and snapshots: rows, time span, size, changes, and rows set aside.

    Parameters
    ----------
    verify
        First compare every window with the source, and pull again those that differ.
    """
    problem, workspace = open_problem(file)
    from automl.report import data_tables, data_text

    if verify:
        with progress.step("compare with the source"):
            data_tables.verify_history(problem, workspace)
    document = data_tables.history_document(problem, workspace)
    return print_document(document, data_text.history_text, as_json=json)


@app.command(group=INSPECT)
def contract(
    file: File,
    /,
    *,
    accept: bool = False,
    as_of: str | None = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Show the expected columns, and how the newest data would change them.

    Parameters
    ----------
    accept
        Write these changes to the contract file.
    as_of
        Compare with the data up to this time, UTC without an offset. Default: that of the newest retraining that
        trained; with --accept, of the newest, also if it was refused.
    """
    problem, workspace = open_problem(file)
    from automl.report import data_tables, data_text

    moment = parse_time(as_of, "--as-of")
    with progress.step("compare with the contract"):
        document = data_tables.contract_document(problem, workspace, moment, accept=accept)
    return print_document(document, data_text.contract_text, as_json=json)


@app.command(group=INSPECT)
def ui(
    file: File,
    /,
    *,
    port: int = 5000,
    no_browser: bool = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Open MLflow in the browser at the decisions of a problem; serves it on 127.0.0.1 until stopped.

    Parameters
    ----------
    port
        Port of the MLflow server. Default: 5000.
    no_browser
        Print the link and serve; open nothing, as in scripts.
    """
    problem, workspace = open_problem(file)
    from automl import report
    from automl.cli.opening import can_open, open_when_served

    pages = report.mlflow_pages(problem, workspace, port)
    opens = can_open() and not no_browser
    if not pages.command:
        if not quiet:
            print_message(f"decisions: {pages.link}")
        if opens:
            open_when_served(pages.link)
        return 0
    from automl.tracking import Connection

    Connection(workspace)  # the tables are made before the server starts
    if not quiet:
        print_message(f"decisions: {pages.link}\nstop with Ctrl-C")
    if opens:
        open_when_served(pages.link, pages.health)
    environment = {**os.environ, **pages.environment}
    return os.execvpe(pages.command[0], list(pages.command), environment)  # noqa: S606
