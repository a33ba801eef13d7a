"""The command that replays the past: backtest."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from automl import progress
from automl.cli.app import INSPECT, Debug, File, Json, Quiet, app
from automl.cli.console import print_document, stdout_to_stderr
from automl.cli.inputs import open_problem

__all__ = ["backtest"]

From = Annotated[
    str, Parameter(name="--from", help="Begin of the window; the first cycle is at or after it.")
]
To = Annotated[str, Parameter(name="--to", help="End of the window; the last batch ends by then.")]
Every = Annotated[
    str | None,
    Parameter(help="Time between cycles, such as 7d. Default: the slots of the schedule."),
]
Policies = Annotated[
    list[str] | None,
    Parameter(
        consume_multiple=True,
        negative_iterable="",
        help="Values of retraining.when, or paths of Python files; commas or spaces between them. Default: the "
        "problem's own, full, warm, refit, never, on_degradation and cost_aware.",
    ),
]
Budget = Annotated[
    str | None,
    Parameter(help="Time for the whole backtest, such as 30m; the same command continues it."),
]
Workers = Annotated[
    int, Parameter(help="Policies replayed at once; they share the cores.", show_default=True)
]


@app.command(group=INSPECT)
def backtest(
    file: File,
    /,
    *,
    from_: From,
    to: To,
    every: Every = None,
    policies: Policies = None,
    budget: Budget = None,
    workers: Workers = 1,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Replay past cycles under several retraining policies; champion and predictions stay as they are."""
    problem, workspace = open_problem(file)
    with stdout_to_stderr(), progress.step("backtest"):
        from automl.api.arguments import backtest_options
        from automl.backtest import backtest as replayed
        from automl.report import backtest_text

        options = backtest_options(
            start=from_,
            end=to,
            every=every,
            policies=[name for entry in policies or () for name in entry.split(",") if name],
            budget=budget,
            workers=workers,
            names=("--from", "--to"),
        )
        document = replayed(problem, workspace, options)
    return print_document(document, backtest_text, as_json=json)
