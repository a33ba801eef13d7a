"""The entry point: run a command, map errors to exit codes.

Together with `console` the only module that reads `sys.argv` and knows exit codes.
"""

from __future__ import annotations

import signal
import sys
import traceback

from automl.cli import review, run, setup, show  # noqa: F401  importing them registers the commands
from automl.cli.app import app
from automl.cli.console import print_error, print_message, usage_error
from automl.errors import AutomlError

__all__ = ["main"]

INTERRUPTED = 130


def main() -> None:
    """Run a command and exit with its code; a traceback is shown with --debug only."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background shells ignore SIGINT
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
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
        print_message(
            "Interrupted. Champion and predictions are unchanged; run the same command to resume."
        )
        sys.exit(INTERRUPTED)
    except AutomlError as error:
        if debug:
            print_message(traceback.format_exc())
        print_error(error, arguments)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001  the last line of defence
        if type(error).__module__.startswith("cyclopts"):
            sys.exit(2)
        if debug:
            print_message(traceback.format_exc())
        failure = AutomlError(
            f"{type(error).__name__}: {error}",
            code="unexpected",
            next_step="Run the same command with --debug to see the traceback.",
        )
        print_error(failure, arguments)
        sys.exit(1)
