"""Commands that show what happened: status, leaderboard, why, champion, history, contract, ui."""

from __future__ import annotations

import os

from automl.cli.all_problems import status_of_all
from automl.cli.app import INSPECT, Cycle, CycleAsOf, Debug, File, Files, Json, app
from automl.cli.console import print_document, print_message
from automl.cli.inputs import chosen_cycle, open_problem, parse_time
from automl.errors import ProblemError

__all__ = ["champion", "contract", "history", "leaderboard", "status", "ui", "why"]


@app.command(group=INSPECT, usage="automl status [OPTIONS] FILE")
def status(*file: Files, all: bool = False, json: Json = False, debug: Debug = False) -> int:
    """Show champion, live predictions, realised performance, alerts and recent cycles.

    Parameters
    ----------
    all
        Of several problem files, or of all in a folder: whether cycles still end. Exit code 1 if one is late; alerts
        are sent.
    """
    if all:
        return status_of_all(file, as_json=json)
    if len(file) != 1:
        raise ProblemError(
            f"automl status: found {len(file)} problem files; wanted one",
            code="usage",
            next_step="Add --all to see whether the cycles of several still end.",
        )
    problem, workspace = open_problem(file[0])
    from automl import report

    return print_document(report.status(problem, workspace), report.status_text, as_json=json)


@app.command(group=INSPECT)
def leaderboard(
    file: File,
    /,
    *,
    cycle: Cycle = None,
    as_of: CycleAsOf = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show the trials of a cycle, best first."""
    problem, workspace = open_problem(file)
    from automl import report

    document = report.leaderboard(problem, workspace, chosen_cycle(cycle, as_of))
    return print_document(document, report.leaderboard_text, as_json=json)


@app.command(group=INSPECT)
def why(
    file: File,
    /,
    *,
    cycle: Cycle = None,
    as_of: CycleAsOf = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show a cycle's decision and its evidence."""
    problem, workspace = open_problem(file)
    from automl import report

    document = report.why(problem, workspace, chosen_cycle(cycle, as_of))
    return print_document(document, report.why_text, as_json=json)


@app.command(group=INSPECT)
def champion(
    file: File, /, *, at: str | None = None, json: Json = False, debug: Debug = False
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
    file: File, /, *, verify: bool = False, json: Json = False, debug: Debug = False
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

    document = data_tables.contract_document(
        problem, workspace, parse_time(as_of, "--as-of"), accept=accept
    )
    return print_document(document, data_text.contract_text, as_json=json)


@app.command(group=INSPECT)
def ui(file: File, /, *, port: int = 5000, debug: Debug = False) -> int:
    """Serve the MLflow UI of the workspace on 127.0.0.1 until stopped.

    Parameters
    ----------
    port
        Port of the MLflow server. Default: 5000.
    """
    problem, workspace = open_problem(file)
    from automl import report

    command, environment, link = report.ui_command(problem, workspace, port)
    if not command:
        print_message(f"MLflow runs at {workspace.tracking_uri}\n{link}")
        return 0
    from automl.tracking import Connection

    Connection(workspace)  # the tables are made before the server starts
    print_message(f"decisions: {link}\nstop with Ctrl-C")
    return os.execvpe(command[0], command, {**os.environ, **environment})  # noqa: S606
