"""The entry point: run a command, map errors to exit codes.

Together with `console` the only module that reads `sys.argv` and knows exit codes.
"""

from __future__ import annotations

import signal
import sys
import traceback
from datetime import datetime

from automl.cli import review, run, setup, show  # noqa: F401  importing them registers the commands
from automl.cli.app import app
from automl.cli.console import in_effect_after, print_error, print_message, usage_error
from automl.disk import disk_error
from automl.errors import AutomlError
from automl.workspace import now

__all__ = ["main"]

INTERRUPTED = 130


def main() -> None:
    """Run a command and exit with its code; a traceback is shown with --debug only."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background shells ignore SIGINT
    arguments = sys.argv[1:]
    debug, began = "--debug" in arguments, now()
    try:
        result = app(
            arguments,
            exit_on_error=False,
            print_error=True,
            error_formatter=usage_error,
            result_action="return_value",
        )
        sys.exit(result if isinstance(result, int) else 0)
    except KeyboardInterrupt:
        print_message(_interrupted(arguments, began))
        sys.exit(INTERRUPTED)
    except AutomlError as error:
        if debug:
            print_message(traceback.format_exc())
        print_error(error, arguments, began)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001  the last line of defence
        if type(error).__module__.startswith("cyclopts"):
            sys.exit(2)
        if debug:
            print_message(traceback.format_exc())
        failure = disk_error(error) or AutomlError(
            f"{type(error).__name__}: {error}",
            code="unexpected",
            next_step="Run the same command with --debug to see the traceback.",
        )
        print_error(failure, arguments, began)
        sys.exit(failure.exit_code)


def _interrupted(arguments: list[str], began: datetime) -> str:
    """What an interrupted command leaves behind: it may have been stopped after its commit."""
    effect, changed = in_effect_after(arguments, began)
    if changed:
        return f"Interrupted. {effect[0].upper()}{effect[1:]}. Run the same command to complete it."
    return "Interrupted. Champion and predictions are unchanged; run the same command to resume."
