"""What people type. Talk goes to stderr; `--json` puts exactly one document on stdout.

The only room that prints, reads `sys.argv` and knows exit codes. Commands import what they need when
they run, so that `--help` is quick.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from automl.errors import AutomlError, UnreachableError

if TYPE_CHECKING:
    from automl.ask import Ask, Ending
    from automl.problem import Problem
    from automl.workspace import Workspace

__all__ = ["app", "main"]

INTERRUPTED = 130
CHANGING = (
    "cycle", "retrain", "score", "rollback", "approve", "reject", "history", "contract",
)  # commands after whose failure people ask what stands  # fmt: skip

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
        _say(
            "interrupted; champion and predictions are as they were, the same command goes on from here"
        )
        sys.exit(INTERRUPTED)
    except AutomlError as error:
        if debug:
            traceback.print_exc()
        _fail(error, arguments)
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
        _fail(failure, arguments)
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
    return _story(
        "cycle", file, _asked(as_of, budget, again, reason, backfill, dry_run, plan), json
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
    return _story(
        "retrain", file, _asked(as_of, budget, again, reason, backfill, dry_run, plan), json
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
    return _story("score", file, _asked(as_of, None, again, reason, backfill, dry_run=False), json)


@app.command(group=_RUN)
def schedule(*files: File, check: bool = False, debug: Debug = False) -> int:
    """Serve the deployments of problem files on their cron, until stopped. Needs a Prefect server.

    Parameters
    ----------
    check
        Only print the deployments and their next slots.
    """
    problems = [_open(file)[0] for file in files]
    from automl.report import schedule_text

    _say(schedule_text(problems))
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
    problem, workspace = _open(file)
    with _quiet():
        from automl.undo import rollback as story

        done = story(problem, workspace, reason, to=to)
    return _ended(done, workspace, json)


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
    problem, workspace = _open(file)
    with _quiet():
        from automl.undo import approve as story

        done = story(problem, workspace, reason, version=version)
    return _ended(done, workspace, json)


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
    problem, workspace = _open(file)
    with _quiet():
        from automl.undo import reject as story

        done = story(problem, workspace, reason, version=version)
    return _ended(done, workspace, json)


# ---------------------------------------------------------------- look


@app.command(group=_LOOK)
def status(file: File, *, json: Json = False, debug: Debug = False) -> int:
    """Champion, live predictions, how earlier ones turned out, last cycles."""
    problem, workspace = _open(file)
    from automl import report

    return _answer(report.status(problem, workspace), json, report.status_text)


@app.command(group=_LOOK)
def leaderboard(file: File, *, cycle: AsOf = None, json: Json = False, debug: Debug = False) -> int:
    """Trials of a cycle, best first."""
    problem, workspace = _open(file)
    from automl import report

    return _answer(
        report.leaderboard(problem, workspace, _moment(cycle)), json, report.leaderboard_text
    )


@app.command(group=_LOOK)
def why(file: File, *, cycle: AsOf = None, json: Json = False, debug: Debug = False) -> int:
    """The decision of a cycle with the evidence it was made on."""
    problem, workspace = _open(file)
    from automl import report

    return _answer(report.why(problem, workspace, _moment(cycle)), json, report.why_text)


@app.command(group=_LOOK)
def champion(file: File, *, at: AsOf = None, json: Json = False, debug: Debug = False) -> int:
    """Which version was live at a moment, since when, why, and who released it.

    Parameters
    ----------
    at
        Wall clock, UTC. Default: now.
    """
    problem, workspace = _open(file)
    from automl import report

    moment = _moment(at, "--at")
    return _answer(report.champion(problem, workspace, moment), json, report.champion_text)


@app.command(group=_LOOK)
def history(file: File, *, verify: bool = False, json: Json = False, debug: Debug = False) -> int:
    """Pulls and snapshots: rows, span, bytes, what changed, rows set aside with their reason.

    Parameters
    ----------
    verify
        Compare every window with the source first, and pull again what differs.
    """
    problem, workspace = _open(file)
    from automl.report import data

    if verify:
        data.verify(problem, workspace)
    return _answer(data.history_document(problem, workspace), json, data.history_text)


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
    problem, workspace = _open(file)
    from automl.report import data

    document = data.contract_document(problem, workspace, _moment(as_of), accept=accept)
    return _answer(document, json, data.contract_text)


@app.command(group=_LOOK)
def ui(file: File, *, port: int = 5000, debug: Debug = False) -> int:
    """Open MLflow's pages on the workspace, on 127.0.0.1, until stopped."""
    problem, workspace = _open(file)
    from automl import report

    command, environment, link = report.ui_command(problem, workspace, port)
    if not command:
        _say(f"MLflow runs at {workspace.tracking_uri}\n{link}")
        return 0
    _say(f"decisions: {link}\nstop with Ctrl-C")
    return os.execvpe(command[0], command, {**os.environ, **environment})  # noqa: S606


# ---------------------------------------------------------------- set up


@app.command(group=_SETUP)
def check(file: File, *, json: Json = False, debug: Debug = False) -> int:
    """Validate a problem file and its families, without touching data."""
    problem, workspace = _open(file)
    from automl import report
    from automl.spaces import load_families

    families = load_families(problem.sweep.families, problem.file.parent)
    if problem.transformer:  # whose base classes are scikit-learn's
        from automl.features.columns import load_columns

        load_columns(problem.transformer)
    return _answer(report.checked(problem, workspace, families), json, report.checked_text)


@app.command(group=_SETUP)
def spaces(name: str | None = None, *, json: Json = False, debug: Debug = False) -> int:
    """List the families, or check one by name or path: ranges, draws, fit, determinism, save and load."""
    _environment(Path.cwd())
    from automl import conformance, report

    if name is None:
        return _answer(report.families(), json, report.families_text)
    findings = conformance.check_family(name, Path.cwd())
    _answer(conformance.to_json(findings), json, report.family_text)
    return 0 if all(f.passed for f in findings.checks) else 2


@app.command(group=_SETUP)
def doctor(file: Path | None = None, *, json: Json = False, debug: Debug = False) -> int:
    """Check this installation: versions, threads, ports, rights, and that Prefect's server can start."""
    problem, workspace = _open(file) if file else (None, None)
    _environment(Path.cwd())
    from automl import doctor as room

    checks = room.examine(problem, workspace)
    _answer(room.to_json(checks), json, room.to_text)
    return 0 if all(c.passed for c in checks) else 1


# ---------------------------------------------------------------- plumbing


def _story(verb: Literal["cycle", "retrain", "score"], file: Path, ask: Ask, as_json: bool) -> int:
    problem, workspace = _open(file)
    from automl import report

    with _quiet():
        _heed(problem, workspace)
    done = report.ended(problem, workspace, verb, ask)
    if done is None:
        with _quiet():
            from automl import retrain as retrain_room
            from automl import score as score_room

            stories: dict[str, Callable[..., Ending]] = {
                "cycle": score_room.cycle,
                "retrain": retrain_room.retrain,
                "score": score_room.score,
            }
            done = stories[verb](problem, workspace, ask)
    return _ended(done, workspace, as_json)


def _heed(problem: Problem, workspace: Workspace) -> None:
    """Release who waits, if somebody said so in MLflow."""
    from automl.store import Store

    if Store(workspace).waiting(problem.name) is not None:  # heavy imports only then
        from automl.undo import heed

        done = heed(problem, workspace)
        if done is not None:
            _say(f"version {done.model_version} approved by a tag in MLflow: {done.reason}")


def _ended(done: Ending, workspace: Workspace, as_json: bool) -> int:
    from automl import report

    return _answer(report.ending(done, workspace), as_json, report.ending_text)


def _asked(
    as_of: str | None,
    budget: str | None,
    again: bool,
    reason: str,
    backfill: bool,
    dry_run: bool,
    plan: str = "auto",
) -> Ask:
    from automl.ask import Ask
    from automl.errors import ProblemError
    from automl.problem import Span

    try:
        span = Span.parse(budget) if budget else None
    except ValueError as error:
        raise ProblemError(f"--budget: {error}", code="usage") from None
    return Ask(_moment(as_of), span, again, reason, backfill, dry_run, plan)


def _moment(text: str | None, option: str = "--as-of") -> datetime | None:
    from automl.errors import ProblemError

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ProblemError(
            f"{option}: found {text!r}; wanted a time such as 2013-11-04 or 2013-11-04T06:00",
            code="usage",
        ) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _open(file: Path) -> tuple[Problem, Workspace]:
    _environment(file.resolve().parent)
    from automl.problem import load_problem
    from automl.workspace import open_workspace

    return load_problem(file), open_workspace(file)


def _environment(start: Path) -> None:
    from automl.workspace import export_settings

    export_settings(start)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    for noisy in ("mlflow", "alembic", "httpx", "prefect", "optuna", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    import warnings

    warnings.simplefilter("ignore")  # libraries' own; ours go through logging


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What libraries print, in Python or in C, goes to stderr: stdout is for answers."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _answer(content: dict[str, Any], as_json: bool, text: Callable[[dict[str, Any]], Any]) -> int:
    if as_json:
        sys.stdout.write(json.dumps({"schema": 1, **content}, default=str, allow_nan=False) + "\n")
    else:
        from rich.console import Console

        Console(highlight=False, soft_wrap=False).print(text(content))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _fail(error: AutomlError, arguments: list[str]) -> None:
    lines = [f"error: {error}"]
    unchanged = _unchanged(arguments)
    if unchanged:
        lines.append(f"unchanged: {unchanged}")
    if error.next_step:
        lines.append(f"next: {error.next_step}")
    _say("\n".join(lines))
    if "--json" in arguments:
        told = {
            "schema": 1,
            "error": {
                "code": error.code,
                "message": str(error),
                "exit_code": error.exit_code,
                "next": error.next_step,
                "unchanged": unchanged,
            },
        }
        sys.stdout.write(json.dumps(told) + "\n")


def _unchanged(arguments: list[str]) -> str:
    """What stands after the error, looked up, for commands that could have changed it."""
    if not arguments or arguments[0] not in CHANGING or len(arguments) < 2:
        return ""
    try:
        file = next(
            (a for a in arguments[1:] if Path(a).is_file()), arguments[1]
        )  # options may come first
        problem, workspace = _open(Path(file))
        from automl.report import standing

        return standing(problem, workspace)
    except UnreachableError:
        return "not known before the store answers; readers see one whole generation, old or new"
    except Exception:  # noqa: BLE001  a broken problem file has nothing to look up
        return "champion and predictions; nothing was touched"


if __name__ == "__main__":
    main()
