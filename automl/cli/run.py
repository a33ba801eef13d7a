"""Commands that run a cycle or a part of it, or watch what it made: cycle, retrain, score, monitor, schedule."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

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
    Reason,
    app,
)
from automl.cli.console import print_document, print_message, print_result, stdout_to_stderr
from automl.cli.inputs import open_problem, run_options
from automl.cli.signals import StoppedError

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
    debug: Debug = False,
) -> int:
    """Predict the coming rows with the champion and publish them."""
    options = CycleOptions(as_of=as_of, again=again, reason=reason, backfill=backfill)
    return run_pipeline("score", file, options, as_json=json)


@app.command(group=RUN)
def monitor(file: File, /, *, as_of: AsOf = None, json: Json = False, debug: Debug = False) -> int:
    """Measure predictions on the labels that have arrived; watch rows for drift; send alerts."""
    wanted = run_options(CycleOptions(as_of=as_of))
    problem, workspace = open_problem(file)
    with stdout_to_stderr():
        from automl.monitoring.pipeline import monitor as run_monitor

        found = run_monitor(problem, workspace, wanted)
    from automl import report

    return print_document(dict(found.document), report.monitor_text, as_json=json)


@app.command(group=RUN, usage="automl schedule [OPTIONS] FILE...")
def schedule(*file: Files, check: bool = False, debug: Debug = False) -> int:
    """Run problem files on their schedules until stopped. Needs a Prefect server.

    Parameters
    ----------
    check
        Only print the deployments and their next slots.
    """
    problems = [open_problem(path)[0] for path in file]
    from automl.report import schedule_text

    print_message(schedule_text(problems))
    if check:
        return 0
    from flows.schedule import serve_problems

    # asyncio replaces this handler by its own; Prefect answers SIGTERM by SystemExit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        serve_problems([p.file for p in problems])
    except SystemExit as error:
        raise StoppedError(signal.SIGTERM) from error
    raise StoppedError(signal.SIGINT)


def run_pipeline(verb: Verb, file: Path, options: CycleOptions, *, as_json: bool) -> int:
    """Run a cycle, or print the result of one that has already ended; returns the exit code."""
    wanted = run_options(options)
    problem, workspace = open_problem(file)
    with stdout_to_stderr():
        from automl.api.running import run_verb

        result = run_verb(problem, workspace, verb, wanted)
    return print_result(result, workspace, as_json=as_json)
