"""What commands print: one document on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from automl.cli.error_text import error_text
from automl.cli.inputs import open_problem
from automl.cli.live import aside, clear, columns, on_terminal
from automl.errors import AutomlError, ProblemError
from automl.redaction import redact

if TYPE_CHECKING:
    from automl.cycles.result import CycleResult
    from automl.workspace import Workspace

__all__ = [
    "in_effect_after",
    "print_document",
    "print_error",
    "print_message",
    "print_result",
    "read_line",
    "stdout_for_documents",
    "stdout_to_stderr",
]

CHANGING = (
    "cycle", "retrain", "score", "backfill", "rollback", "approve", "reject", "history", "contract",
)  # commands whose failure raises the question what is in effect now  # fmt: skip


UNKNOWN = "unknown until the store can be read; readers see one complete generation, old or new"


def print_document(
    document: dict[str, Any], text: Callable[[dict[str, Any]], Any], *, as_json: bool
) -> int:
    """Print a document as JSON, or as `text` renders it; returns exit code 0."""
    clear()
    if as_json:
        content = json.dumps({"schema": 1, **document}, default=str, allow_nan=False)
        _write(content + "\n")
    else:
        from rich.console import Console, Group

        # a command to copy may be longer than a line
        shown = Group(text(document))
        Console(file=_stdout.file, highlight=False, soft_wrap=False).print(shown, crop=False)
    return 0


def print_result(result: CycleResult, workspace: Workspace, *, as_json: bool) -> int:
    """Print the result of a command; returns exit code 0."""
    from automl import report

    return print_document(report.result(result, workspace), report.result_text, as_json=as_json)


def print_message(text: str) -> None:
    """Print to stderr, apart from the document on stdout."""
    with aside():
        print(redact(text), file=sys.stderr, flush=True)  # noqa: T201


def read_line(question: str) -> str:
    """A line of the terminal after a question, without a display in between; empty at its end."""
    with aside():
        print(redact(question), file=sys.stderr, flush=True)  # noqa: T201
        return sys.stdin.readline()


def print_error(error: AutomlError, arguments: list[str], since: datetime) -> None:
    """Print what went wrong, what is in effect, and what to type next.

    `since` is when the command began.
    """
    effect, changed = in_effect_after(arguments, since)
    next_step = _with_file(error.next_step, arguments)
    width = columns() if on_terminal() else 0
    print_message(
        error_text(str(error), effect=effect, changed=changed, next_step=next_step, width=width)
    )
    if "--json" in arguments:
        document = {
            "schema": 1,
            "error": {
                "code": error.code,
                "message": str(error),
                "exit_code": error.exit_code,
                "next": next_step,
                "unchanged": "" if changed else effect,
                "in_effect": effect,
            },
        }
        _write(json.dumps(document) + "\n")


def _with_file(next_step: str, arguments: list[str]) -> str:
    """The step with the problem file of the command in place of FILE, ready to be typed."""
    file = next((a for a in arguments[1:] if a.endswith(".toml") and Path(a).is_file()), "FILE")
    return re.sub(r"\b(automl \w+) FILE\b", lambda m: f"{m[1]} {shlex.quote(file)}", next_step)


@contextlib.contextmanager
def stdout_for_documents() -> Iterator[None]:
    """Keep stdout for documents; what libraries and users' files print to it goes to stderr."""
    try:
        _stdout.file = os.fdopen(os.dup(1), "w", encoding="utf-8")
    except OSError:  # it was closed before the command began
        _stdout.file = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  closed below
    try:
        with stdout_to_stderr():
            yield
    finally:
        file, _stdout.file = _stdout.file, None
        file.close()


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what libraries print, in Python or in C, to stderr: stdout is for documents."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


@dataclass(slots=True)
class _Stdout:
    """Where documents go; None: `sys.stdout`, as it is."""

    file: TextIO | None = None


_stdout = _Stdout()


def _write(text: str) -> None:
    file = _stdout.file or sys.stdout
    file.write(text)
    file.flush()


def in_effect_after(arguments: list[str], since: datetime) -> tuple[str, bool]:
    """Champion and predictions after a failed command that could have changed them, and whether it did."""
    if not arguments or arguments[0] not in CHANGING or len(arguments) < 2:
        return "", False
    try:
        # options may come first
        file = next((a for a in arguments[1:] if Path(a).is_file()), arguments[1])
        problem, workspace = open_problem(Path(file))
        from automl.report import in_effect

        return in_effect(problem, workspace, since)
    except ProblemError:  # a broken problem file has no workspace to look into
        return "champion and predictions; nothing was touched", False
    except Exception:  # noqa: BLE001  the store cannot be read, whatever the reason
        return UNKNOWN, True
