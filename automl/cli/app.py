"""The application, its command groups, and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

__all__ = [
    "INSPECT",
    "REVIEW",
    "RUN",
    "SETUP",
    "Again",
    "AsOf",
    "Backfill",
    "Budget",
    "Cycle",
    "Debug",
    "DryRun",
    "File",
    "Json",
    "LedgerReason",
    "Plan",
    "Reason",
    "app",
]

app = App(
    name="automl",
    help=(
        "An AutoML that keeps itself trained.\n\n"
        "```\n"
        "automl check examples/flights/problem.toml\n"
        "automl cycle examples/flights/problem.toml --as-of 2013-11-04\n"
        "automl why examples/flights/problem.toml\n"
        "```\n\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage or problem file, 3 data refused, 4 no valid trial and no "
        "champion, 5 MLflow or a database unreachable, 6 scoring or publishing failed, 7 another run holds the "
        "cycle, 130 interrupted."
    ),
    version_flags=["--version"],
    default_parameter=Parameter(negative="", show_default=False),
    suppress_keyboard_interrupt=False,  # `main` says what an interrupted command leaves behind
)
RUN = Group("Run", sort_key=1)
REVIEW = Group("Review", sort_key=2)
INSPECT = Group("Inspect", sort_key=3)
SETUP = Group("Set up", sort_key=4)

File = Annotated[Path, Parameter(help="Problem file (TOML).")]
Json = Annotated[bool, Parameter(name="--json", help="Print one JSON document to stdout.")]
Debug = Annotated[bool, Parameter(name="--debug", help="Show the full traceback of an error.")]
AsOf = Annotated[
    str | None,
    Parameter(
        help="Time that counts as now, UTC. Default: the newest slot of the problem's schedule."
    ),
]
Budget = Annotated[
    str | None,
    Parameter(help="Time for sweep and refit, such as 90s or 5m. Default: sweep.budget."),
]
Again = Annotated[bool, Parameter(help="Decide a finished cycle again; requires --reason.")]
Reason = Annotated[str, Parameter(help="Reason; recorded with the decision.")]
Backfill = Annotated[bool, Parameter(help="Allow an as_of earlier than that of the newest cycle.")]
Plan = Annotated[
    Literal["auto", "refit", "warm", "full"],
    Parameter(help="How much to search; auto decides by what has changed.", show_default=True),
]
DryRun = Annotated[bool, Parameter(help="Sweep and decide, but release and publish nothing.")]
LedgerReason = Annotated[str, Parameter(name="--reason", help="Reason; recorded in the ledger.")]
Cycle = Annotated[
    str | None, Parameter(help="as_of of the cycle, UTC. Default: the newest retraining.")
]
