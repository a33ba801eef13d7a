"""Commands that run a cycle or a part of it, or watch what it made: cycle, retrain, score, monitor, schedule."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from automl import progress
from automl.cli.app import (
    RUN,
    Again,
    AsOf,
    Backfill,
    CycleOptions,
    Debug,
    File,
    Files,
    Json,
    Quiet,
    Reason,
    app,
)
from automl.cli.console import print_document, print_message, print_result, stdout_to_stderr
from automl.cli.inputs import open_problem, run_options
from automl.errors import ProblemError

if TYPE_CHECKING:
    from automl.api.running import Verb

__all__ = ["cycle", "monitor", "retrain", "run_pipeline", "schedule", "score"]

DEFAULTS = CycleOptions()


@app.command(group=RUN)
def cycle(
    file: File,
    /,
    *,
    options: CycleOptions = DEFAULTS,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Retrain and score; release and publish in one transaction."""
    return run_pipeline("cycle", file, options, as_json=json)


@app.command(group=RUN)
def retrain(
    file: File,
    /,
    *,
    options: CycleOptions = DEFAULTS,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Pull history, sweep, decide, release. Published predictions stay until the next `automl score`."""
    return run_pipeline("retrain", file, options, as_json=json)


@app.command(group=RUN)
def score(
    file: File,
    /,
    *,
    as_of: AsOf = None,
    again: Again = False,
    reason: Reason = "",
    backfill: Backfill = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Predict the coming rows with the champion and publish them."""
    options = CycleOptions(as_of=as_of, again=again, reason=reason, backfill=backfill)
    return run_pipeline("score", file, options, as_json=json)


@app.command(group=RUN)
def monitor(
    file: File,
    /,
    *,
    as_of: AsOf = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Measure predictions on the labels that have arrived; watch rows for drift; send alerts."""
    wanted = run_options(CycleOptions(as_of=as_of))
    problem, workspace = open_problem(file)
    with stdout_to_stderr(), progress.step("monitor"):
        from automl.monitoring.pipeline import monitor as run_monitor

        found = run_monitor(problem, workspace, wanted)
    from automl import report

    return print_document(dict(found.document), report.monitor_text, as_json=json)


@app.command(group=RUN, usage="automl schedule [OPTIONS] FILE...")
def schedule(
    *file: Files,
    check: bool = False,
    install: bool = False,
    uninstall: bool = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Run problem files on their schedules until stopped. Needs a Prefect server.

    Parameters
    ----------
    check
        Only print the deployments and their next slots.
    install
        Create the automations by which events start a retraining, and end. Again: update them.
    uninstall
        Remove these automations, and end.
    """
    chosen = [name for name, on in _named(check=check, install=install, uninstall=uninstall) if on]
    if len(chosen) > 1 or (json and not chosen):
        raise ProblemError(
            f"found {' and '.join(chosen) or '--json alone'}; wanted --json with one of --check, --install and "
            "--uninstall, or none of them to serve",
            code="usage",
            next_step="automl schedule FILE --check --json prints the deployments.",
        )
    problems = [open_problem(path)[0] for path in file]
    from automl import report

    files = [p.file for p in problems]
    if not chosen:
        if quiet:
            os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
        else:
            print_message(report.schedule_text(report.schedule(problems)))
        from flows.schedule import serve_problems

        serve_problems(files)
        return 0
    if check:
        return print_document(report.schedule(problems), report.schedule_text, as_json=json)
    from flows import automations

    change = automations.install if install else automations.uninstall
    return print_document({"automations": change(files)}, report.automations_text, as_json=json)


def _named(**flags: bool) -> list[tuple[str, bool]]:
    return [(f"--{name}", on) for name, on in flags.items()]


def run_pipeline(verb: Verb, file: Path, options: CycleOptions, *, as_json: bool) -> int:
    """Run a cycle, or print the result of one that has already ended; returns the exit code."""
    wanted = run_options(options)
    problem, workspace = open_problem(file)
    with stdout_to_stderr(), progress.step(verb):
        from automl.api.running import run_verb

        result = run_verb(problem, workspace, verb, wanted)
    return print_result(result, workspace, as_json=as_json)
