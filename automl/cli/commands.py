"""What people type. Talk goes to stderr; `--json` puts exactly one document on stdout.

The only room that prints, reads `sys.argv` and knows exit codes. Commands import what they need when
they run, so that `--help` is quick.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

from automl.cli.plumbing import (
    answer,
    asked,
    ended,
    fail,
    moment_of,
    open_problem,
    prepare,
    quiet,
    run_pipeline,
    say,
)
from automl.errors import AutomlError

__all__ = ["app", "main"]

INTERRUPTED = 130

app = App(
    name="automl",
    help=(
        "An AutoML that keeps itself trained.\n\n"
        "    automl check examples/flights/problem.toml\n\n"
        "    automl cycle examples/flights/problem.toml --as-of 2013-11-04\n\n"
        "    automl why examples/flights/problem.toml\n\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage or problem file, 3 data refused, 4 no valid trial and no "
        "champion, 5 MLflow or a database unreachable, 6 scoring or publishing failed, 7 another run holds the "
        "cycle, 130 interrupted."
    ),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # `main` says what an interrupted command has left
)
_RUN = Group("Run", sort_key=1)
_UNDO = Group("Undo", sort_key=2)
_LOOK = Group("Look", sort_key=3)
_SETUP = Group("Set up", sort_key=4)

File = Annotated[Path, Parameter(help="The problem file.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON document on stdout.")]
Debug = Annotated[bool, Parameter(name="--debug", negative="", help="Full traceback on errors.")]
AsOf = Annotated[
    str | None, Parameter(help="Logical now, UTC. Default: newest slot of the problem's cron.")
]
Budget = Annotated[str | None, Parameter(help="Instead of sweep.budget, such as 90s or 5m.")]
Again = Annotated[
    bool, Parameter(negative="", help="Decide a finished cycle anew; needs --reason.")
]
Reason = Annotated[str, Parameter(help="Why; kept with the decision.")]
Backfill = Annotated[bool, Parameter(negative="", help="Allow an as_of before the newest cycle.")]
Plan = Annotated[
    Literal["auto", "refit", "warm", "full"],
    Parameter(help="How much to search; auto decides by what has changed."),
]
Said = Annotated[str, Parameter(name="--reason", help="Why; kept in the ledger.")]
DryRun = Annotated[bool, Parameter(negative="", help="Sweep and decide, change nothing.")]


def main() -> None:
    """Entry point: run a command, map errors to exit codes, never show a traceback uninvited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background shells ignore it for us
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        result = app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
        sys.exit(result if isinstance(result, int) else 0)
    except KeyboardInterrupt:
        say(
            "interrupted; champion and predictions are as they were, the same command goes on from here"
        )
        sys.exit(INTERRUPTED)
    except AutomlError as error:
        if debug:
            traceback.print_exc()
        fail(error, arguments)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001  the last line of defence
        if type(error).__module__.startswith("cyclopts"):
            sys.exit(2)
        if debug:
            traceback.print_exc()
        failure = AutomlError(
            f"{type(error).__name__}: {error}",
            code="unexpected",
            next_step="The same command with --debug says more.",
        )
        fail(failure, arguments)
        sys.exit(1)


# ---------------------------------------------------------------- run


@app.command(group=_RUN)
def cycle(
    file: File,
    *,
    as_of: AsOf = None,
    budget: Budget = None,
    plan: Plan = "auto",
    again: Again = False,
    reason: Reason = "",
    backfill: Backfill = False,
    dry_run: DryRun = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Retrain and score: released and published in one transaction."""
    return run_pipeline(
        "cycle", file, asked(as_of, budget, again, reason, backfill, dry_run, plan), json
    )


@app.command(group=_RUN)
def retrain(
    file: File,
    *,
    as_of: AsOf = None,
    budget: Budget = None,
    plan: Plan = "auto",
    again: Again = False,
    reason: Reason = "",
    backfill: Backfill = False,
    dry_run: DryRun = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Pull fresh history, sweep, decide, release; predictions stay until the next score."""
    return run_pipeline(
        "retrain", file, asked(as_of, budget, again, reason, backfill, dry_run, plan), json
    )


@app.command(group=_RUN)
def score(
    file: File,
    *,
    as_of: AsOf = None,
    again: Again = False,
    reason: Reason = "",
    backfill: Backfill = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Publish the champion's predictions for the coming rows."""
    return run_pipeline(
        "score", file, asked(as_of, None, again, reason, backfill, dry_run=False), json
    )


@app.command(group=_RUN)
def schedule(*files: File, check: bool = False, debug: Debug = False) -> int:
    """Serve the deployments of problem files on their cron, until stopped. Needs a Prefect server.

    Parameters
    ----------
    check
        Only print the deployments and their next slots.
    """
    problems = [open_problem(file)[0] for file in files]
    from automl.report import schedule_text

    say(schedule_text(problems))
    if check:
        return 0
    from flows.schedule import serve_problems

    serve_problems([p.file for p in problems])
    return 0


# ---------------------------------------------------------------- undo


@app.command(group=_UNDO)
def rollback(
    file: File, *, to: int | None = None, reason: Said, json: Json = False, debug: Debug = False
) -> int:
    """Make a former version champion again, with its predictions, in one transaction.

    Parameters
    ----------
    to
        The version. Default: the newest release of another version than the champion's.
    """
    problem, workspace = open_problem(file)
    with quiet():
        from automl.review import rollback as pipeline

        done = pipeline(problem, workspace, reason, to=to)
    return ended(done, workspace, json)


@app.command(group=_UNDO)
def approve(
    file: File,
    version: int | None = None,
    *,
    reason: Said,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Release the challenger that waits (promotion.mode = "review"), with its predictions.

    Parameters
    ----------
    version
        The model version that is meant. Default: whoever waits.
    """
    problem, workspace = open_problem(file)
    with quiet():
        from automl.review import approve as pipeline

        done = pipeline(problem, workspace, reason, version=version)
    return ended(done, workspace, json)


@app.command(group=_UNDO)
def reject(
    file: File,
    version: int | None = None,
    *,
    reason: Said,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Turn down the challenger that waits.

    Parameters
    ----------
    version
        The model version that is meant. Default: whoever waits.
    """
    problem, workspace = open_problem(file)
    with quiet():
        from automl.review import reject as pipeline

        done = pipeline(problem, workspace, reason, version=version)
    return ended(done, workspace, json)


# ---------------------------------------------------------------- look


@app.command(group=_LOOK)
def status(file: File, *, json: Json = False, debug: Debug = False) -> int:
    """Champion, live predictions, how earlier ones turned out, last cycles."""
    problem, workspace = open_problem(file)
    from automl import report

    return answer(report.status(problem, workspace), json, report.status_text)


@app.command(group=_LOOK)
def leaderboard(file: File, *, cycle: AsOf = None, json: Json = False, debug: Debug = False) -> int:
    """Trials of a cycle, best first."""
    problem, workspace = open_problem(file)
    from automl import report

    return answer(
        report.leaderboard(problem, workspace, moment_of(cycle)), json, report.leaderboard_text
    )


@app.command(group=_LOOK)
def why(file: File, *, cycle: AsOf = None, json: Json = False, debug: Debug = False) -> int:
    """The decision of a cycle with the evidence it was made on."""
    problem, workspace = open_problem(file)
    from automl import report

    return answer(report.why(problem, workspace, moment_of(cycle)), json, report.why_text)


@app.command(group=_LOOK)
def champion(file: File, *, at: AsOf = None, json: Json = False, debug: Debug = False) -> int:
    """Which version was live at a moment, since when, why, and who released it.

    Parameters
    ----------
    at
        Wall clock, UTC. Default: now.
    """
    problem, workspace = open_problem(file)
    from automl import report

    moment = moment_of(at, "--at")
    return answer(report.champion(problem, workspace, moment), json, report.champion_text)


@app.command(group=_LOOK)
def history(file: File, *, verify: bool = False, json: Json = False, debug: Debug = False) -> int:
    """Pulls and snapshots: rows, span, bytes, what changed, rows set aside with their reason.

    Parameters
    ----------
    verify
        Compare every window with the source first, and pull again what differs.
    """
    problem, workspace = open_problem(file)
    from automl.report import data

    if verify:
        data.verify(problem, workspace)
    return answer(data.history_document(problem, workspace), json, data.history_text)


@app.command(group=_LOOK)
def contract(
    file: File,
    *,
    accept: bool = False,
    as_of: AsOf = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """The agreed columns, and what the newest data would change in them.

    Parameters
    ----------
    accept
        Write the changes into the contract file.
    """
    problem, workspace = open_problem(file)
    from automl.report import data

    document = data.contract_document(problem, workspace, moment_of(as_of), accept=accept)
    return answer(document, json, data.contract_text)


@app.command(group=_LOOK)
def ui(file: File, *, port: int = 5000, debug: Debug = False) -> int:
    """Open MLflow's pages on the workspace, on 127.0.0.1, until stopped."""
    problem, workspace = open_problem(file)
    from automl import report

    command, environment, link = report.ui_command(problem, workspace, port)
    if not command:
        say(f"MLflow runs at {workspace.tracking_uri}\n{link}")
        return 0
    say(f"decisions: {link}\nstop with Ctrl-C")
    return os.execvpe(command[0], command, {**os.environ, **environment})  # noqa: S606


# ---------------------------------------------------------------- set up


@app.command(group=_SETUP)
def check(file: File, *, json: Json = False, debug: Debug = False) -> int:
    """Validate a problem file and its families, without touching data."""
    problem, workspace = open_problem(file)
    from automl import report
    from automl.modeling.families import load_families

    families = load_families(problem.sweep.families, problem.file.parent)
    if problem.transformer:  # whose base classes are scikit-learn's
        from automl.modeling.features.user_transformer import load_columns

        load_columns(problem.transformer)
    return answer(report.checked(problem, workspace, families), json, report.checked_text)


@app.command(group=_SETUP)
def spaces(name: str | None = None, *, json: Json = False, debug: Debug = False) -> int:
    """List the families, or check one by name or path: ranges, draws, fit, determinism, save and load."""
    prepare(Path.cwd())
    from automl import report
    from automl.diagnostics import family as conformance

    if name is None:
        return answer(report.families(), json, report.families_text)
    findings = conformance.check_family(name, Path.cwd())
    answer(conformance.to_json(findings), json, report.family_text)
    return 0 if all(f.passed for f in findings.checks) else 2


@app.command(group=_SETUP)
def doctor(file: Path | None = None, *, json: Json = False, debug: Debug = False) -> int:
    """Check this installation: versions, threads, ports, rights, and that Prefect's server can start."""
    problem, workspace = open_problem(file) if file else (None, None)
    prepare(Path.cwd())
    from automl.diagnostics import installation as room

    checks = room.examine(problem, workspace)
    answer(room.to_json(checks), json, room.to_text)
    return 0 if all(c.passed for c in checks) else 1
