"""The application, its command groups, and the options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
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
    "Cycle",
    "CycleAsOf",
    "CycleOptions",
    "Debug",
    "File",
    "Files",
    "Json",
    "LedgerReason",
    "Quiet",
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
        "Words: docs/concepts.md\n\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage or problem file, 3 data refused, 4 no model to use: no "
        "champion, and no trial succeeded, 5 MLflow or a database unreachable, 6 scoring or publishing failed, "
        "7 another run holds the cycle, 130 interrupted, 143 ended by SIGTERM."
    ),
    version_flags=["--version"],
    default_parameter=Parameter(negative="", show_default=False),
    suppress_keyboard_interrupt=False,  # `main` says what an interrupted command leaves behind
)
RUN = Group("Run", sort_key=1)
REVIEW = Group("Review", sort_key=2)
INSPECT = Group("Inspect", sort_key=3)
SETUP = Group("Set up", sort_key=4)
app.register_install_completion_command(
    group=SETUP, help="Complete commands, options and files in this shell (bash, zsh, fish)."
)

File = Annotated[Path, Parameter(help="Problem file (TOML).")]
Files = Annotated[Path, Parameter(help="Problem files (TOML).", required=True)]
Json = Annotated[bool, Parameter(name="--json", help="Print one JSON document to stdout.")]
Debug = Annotated[bool, Parameter(name="--debug", help="Show the full traceback of an error.")]
Quiet = Annotated[
    bool, Parameter(name="--quiet", help="Print nothing to stderr but warnings and errors.")
]
AsOf = Annotated[
    str | None,
    Parameter(
        help="The time the cycle pretends it is, such as 2013-11-04 or 2013-11-04T06:00 (UTC without an offset). "
        "Default: the newest slot of the schedule; without one, today 00:00 in the problem's time zone."
    ),
]
Budget = Annotated[
    str | None,
    Parameter(help="Time for sweep and refit, such as 90s or 5m. Default: sweep.budget."),
]
Again = Annotated[bool, Parameter(help="Run a finished cycle again; needs --reason.")]
Reason = Annotated[str, Parameter(help="Goes with --again; recorded with the decision.")]
Backfill = Annotated[bool, Parameter(help="Fill in a cycle older than the newest one.")]
Plan = Annotated[
    Literal["auto", "refit", "warm", "full"],
    Parameter(
        help="How much to search. refit: nothing; warm: a little; full: from the start points; auto: by what "
        "has changed.",
        show_default=True,
    ),
]
DryRun = Annotated[
    bool,
    Parameter(
        help="Decide, but release and publish nothing; history, trials and the MLflow run are written."
    ),
]
LedgerReason = Annotated[str, Parameter(name="--reason", help="Reason; recorded in the ledger.")]
Cycle = Annotated[
    str | None,
    Parameter(help="as_of of the cycle, UTC without an offset. Default: the newest that trained."),
]
CycleAsOf = Annotated[str | None, Parameter(name="--as-of", help="The same as --cycle.")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class CycleOptions:
    """Options of cycle and retrain, as typed."""

    as_of: AsOf = None
    budget: Budget = None
    plan: Plan = "auto"
    again: Again = False
    reason: Reason = ""
    backfill: Backfill = False
    dry_run: DryRun = False
