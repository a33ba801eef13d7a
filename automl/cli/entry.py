"""The entry point: run a command, map errors to exit codes.

Together with `console` the only module that reads `sys.argv` and knows exit codes.
"""

from __future__ import annotations

import sys
import traceback
from contextlib import nullcontext
from datetime import datetime

from cyclopts import CycloptsError

from automl.cli import backtest, begin, past, report, review, run, setup, show  # noqa: F401  importing them registers the commands
from automl.cli.app import app
from automl.cli.console import print_error, print_message, stdout_for_documents
from automl.cli.live import clear, showing
from automl.cli.signals import StoppedError, exit_in_time, stopping_on_signals
from automl.cli.usage import usage_error
from automl.disk import disk_error
from automl.errors import AutomlError
from automl.workspace import now

__all__ = ["main"]

INTERRUPTED = 130


def main() -> None:
    """Run a command and exit with its code; a traceback is shown with --debug only."""
    arguments = sys.argv[1:]
    began = now()
    # help is printed by the library of commands
    helped = not arguments or not {"--help", "-h", "--version"}.isdisjoint(arguments)
    quiet = "--quiet" in arguments
    with (
        stopping_on_signals(),
        nullcontext() if helped else stdout_for_documents(),
        nullcontext() if helped else showing(quiet=quiet),
    ):
        code = _run(arguments, began)
    exit_in_time(code)
    sys.exit(code)


def _run(arguments: list[str], began: datetime) -> int:
    try:
        result = app(
            arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except BaseException as error:  # noqa: BLE001  the last line of defence
        clear()
        if "--debug" in arguments:
            print_message(traceback.format_exc())
        failure = _failure(error)
        print_error(failure, arguments, began)
        return failure.exit_code
    return result if isinstance(result, int) else 0


def _failure(error: BaseException) -> AutomlError:
    """Any exception as an error of this package."""
    if isinstance(error, AutomlError):
        return error
    if isinstance(error, CycloptsError):
        return usage_error(error)
    if isinstance(error, KeyboardInterrupt):
        return InterruptedCommandError(error)
    full = disk_error(error)
    if full is not None:
        return full
    if isinstance(error, SystemExit):  # no code of ours exits
        text = f"a library or a user's file asked Python to exit with {error.code!r}"
    else:
        text = f"{type(error).__name__}: {error}"
    return AutomlError(
        text, code="unexpected", next_step="Run the same command with --debug to see the traceback."
    )


class InterruptedCommandError(AutomlError):
    """The command was stopped by Ctrl-C or a signal."""

    def __init__(self, error: KeyboardInterrupt) -> None:
        super().__init__(
            f"interrupted by {error if isinstance(error, StoppedError) else 'Ctrl-C'}",
            code="interrupted",
            next_step="Run the same command to resume.",
        )
        self.exit_code = error.exit_code if isinstance(error, StoppedError) else INTERRUPTED
