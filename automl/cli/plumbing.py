"""What every command needs: the problem opened, a story told, the answer printed, an error said."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from automl.errors import AutomlError, UnreachableError

if TYPE_CHECKING:
    from automl.cycles.options import CycleResult, RunOptions
    from automl.problem import Problem
    from automl.workspace import Workspace

__all__ = [
    "answer",
    "asked",
    "ended",
    "fail",
    "moment_of",
    "open_problem",
    "prepare",
    "quiet",
    "run_pipeline",
    "say",
]

MADE_UP = 24  # missed slots that one command makes up for, the newest ones
CHANGING = (
    "cycle", "retrain", "score", "rollback", "approve", "reject", "history", "contract",
)  # commands after whose failure people ask what stands  # fmt: skip


def run_pipeline(
    verb: Literal["cycle", "retrain", "score"], file: Path, options: RunOptions, as_json: bool
) -> int:
    """Run a story, or say how it ended before; the exit code."""
    problem, workspace = open_problem(file)
    from automl import report

    if not options.dry_run:
        with quiet():
            approve_if_tagged(problem, workspace)
    done = report.ended(problem, workspace, verb, options)
    if done is None:
        with quiet():
            if verb != "score":  # children's imports take as long as ours: side by side
                from automl.modeling.workers import warm_up

                warm_up()
            from automl.retrain import pipeline as retrain_room
            from automl.score import pipeline as score_room

            pipelines: dict[str, Callable[..., CycleResult]] = {
                "cycle": score_room.cycle,
                "retrain": retrain_room.retrain,
                "score": score_room.score,
            }
            done = pipelines[verb](problem, workspace, options)
    if verb != "retrain" and options.as_of is None and done.status == "published":
        make_up(problem, workspace)
    return ended(done, workspace, as_json)


def make_up(problem: Problem, workspace: Workspace) -> None:
    """Score the slots that the schedule passed over, each by the champion of its time.

    Readers keep the newest predictions; the others join `<table>_history`. What cannot be scored is said.
    """
    from automl.cycles.missed import missed_slots
    from automl.cycles.options import RunOptions
    from automl.store import Store
    from automl.workspace import now

    missed = missed_slots(Store(workspace), problem, now())[-MADE_UP:]
    if not missed:
        return
    with quiet():
        from automl.score.pipeline import score  # heavy imports only then

        for slot in missed:
            window = f"{slot:%Y-%m-%d %H:%M} to {problem.until(slot):%Y-%m-%d %H:%M} UTC"
            try:
                done = score(problem, workspace, RunOptions(as_of=slot, backfill=True))
                say(f"made up for a missed slot: {done.rows} rows of {window}")
            except AutomlError as error:
                say(f"warning: the missed slot {window} was not made up: {error}")


def approve_if_tagged(problem: Problem, workspace: Workspace) -> None:
    """Release who waits, if somebody said so in MLflow."""
    from automl.store import Store

    if Store(workspace).waiting(problem.name) is not None:  # heavy imports only then
        from automl.review import approve_if_tagged

        done = approve_if_tagged(problem, workspace)
        if done is not None:
            say(f"version {done.model_version} approved by a tag in MLflow: {done.reason}")


def ended(done: CycleResult, workspace: Workspace, as_json: bool) -> int:
    """Print how a command ended; the exit code."""
    from automl import report

    return answer(report.result(done, workspace), as_json, report.result_text)


def asked(
    as_of: str | None,
    budget: str | None,
    again: bool,
    reason: str,
    backfill: bool,
    dry_run: bool,
    plan: str = "auto",
) -> RunOptions:
    """What was asked for on the command line."""
    from automl.cycles.options import RunOptions
    from automl.errors import ProblemError
    from automl.problem import Span

    try:
        span = Span.parse(budget) if budget else None
    except ValueError as error:
        raise ProblemError(f"--budget: {error}", code="usage") from None
    return RunOptions(moment_of(as_of), span, again, reason, backfill, dry_run, plan)


def moment_of(text: str | None, option: str = "--as-of") -> datetime | None:
    """A time as it was typed, UTC unless it says otherwise."""
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


def open_problem(file: Path) -> tuple[Problem, Workspace]:
    """The problem of a file and its workspace, with the settings in place."""
    prepare(file.resolve().parent)
    from automl.problem import load_problem
    from automl.workspace import open_workspace

    return load_problem(file), open_workspace(file)


def prepare(start: Path) -> None:
    """Settings and log, before anything heavy is imported."""
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
def quiet() -> Iterator[None]:
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


def answer(content: dict[str, Any], as_json: bool, text: Callable[[dict[str, Any]], Any]) -> int:
    """Print a document, as JSON or as text; the exit code."""
    if as_json:
        sys.stdout.write(json.dumps({"schema": 1, **content}, default=str, allow_nan=False) + "\n")
    else:
        from rich.console import Console

        Console(highlight=False, soft_wrap=False).print(text(content))
    return 0


def say(text: str) -> None:
    """Talk, beside the answer."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def fail(error: AutomlError, arguments: list[str]) -> None:
    """Say what went wrong, what stands unchanged, and what to type next."""
    lines = [f"error: {error}"]
    unchanged = unchanged_after(arguments)
    if unchanged:
        lines.append(f"unchanged: {unchanged}")
    if error.next_step:
        lines.append(f"next: {error.next_step}")
    say("\n".join(lines))
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


def unchanged_after(arguments: list[str]) -> str:
    """What stands after the error, looked up, for commands that could have changed it."""
    if not arguments or arguments[0] not in CHANGING or len(arguments) < 2:
        return ""
    try:
        file = next(
            (a for a in arguments[1:] if Path(a).is_file()), arguments[1]
        )  # options may come first
        problem, workspace = open_problem(Path(file))
        from automl.report import standing

        return standing(problem, workspace)
    except UnreachableError:
        return "not known before the store answers; readers see one whole generation, old or new"
    except Exception:  # noqa: BLE001  a broken problem file has nothing to look up
        return "champion and predictions; nothing was touched"
