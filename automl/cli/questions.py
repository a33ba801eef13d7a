"""Questions that `automl init` puts on a terminal, each with its guess as the default."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl.cli.console import print_message, read_line
from automl.errors import ProblemError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Questions", "on_a_terminal"]

SHOWN = 20  # columns that are listed


def on_a_terminal() -> bool:
    """Whether a user can read questions and type."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Questions about a sample of a table."""

    frame: pd.DataFrame

    def put(self, target: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The target and what is known, after questions about what was not given."""
        from automl.guessing import as_table, choose_target, choose_time, guess

        names = [str(n) for n in self.frame.columns]
        print_message(
            f"{len(names)} columns: {', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)}"
        )
        if not target:
            target = self._column(
                "Which column is to be predicted?", _or_empty(choose_target, self.frame)
            )
        known = dict(given)
        if not known["time"]:
            proposed = _or_empty(lambda f: choose_time(f, target=target), self.frame)
            known["time"] = self._column("Which column says when a row became true?", proposed)
        guesses = guess(as_table(self.frame, known["time"]), target, {})
        for key, argument, question in (
            ("history.key", "key", "Which columns identify a row (comma between; none: -)?"),
            ("history.ignore", "ignore", "Which columns are not known when the prediction is made?"),
            ("history.label_delay", "label_delay", "How long after its time is a row's target known (at once: -)?"),
            ("validation.block", "block", "How often is it retrained?"),
        ):  # fmt: skip
            if known[argument] is None:
                entry = guesses.entry(key)
                known[argument] = self._value(question, entry.value, entry.reason)
        for warning in guesses.warnings:
            print_message(f"note: {warning}")
        return target, known

    def _column(self, question: str, proposed: str) -> str:
        names = [str(n) for n in self.frame.columns]
        while True:
            typed = _read(question, proposed)
            if typed in names:
                return typed
            print_message(f"{typed!r} is not a column")

    def _value(self, question: str, proposed: Any, reason: str) -> Any:
        """A value as typed, a list where a list is proposed; None keeps the guess."""
        several = isinstance(proposed, list)
        shown = ", ".join(proposed) if several else proposed or ""
        typed = _read(f"{question} ({reason})", shown or "-")
        if typed == (shown or "-"):
            return None
        plain = "" if typed == "-" else typed
        return [n.strip() for n in plain.split(",") if n.strip()] if several else plain or None


def _or_empty(choose: Any, frame: pd.DataFrame) -> str:
    try:
        return str(choose(frame)[0])
    except ProblemError:
        return ""


def _read(question: str, proposed: str) -> str:
    """A line of the terminal; empty: what is proposed."""
    line = read_line(f"{question}{f' [{proposed}]' if proposed else ''} ")
    if not line:
        raise ProblemError(
            "the terminal was closed before the last question; no file was written",
            code="usage",
            next_step="Give options instead; see automl init --help.",
        )
    return line.strip() or proposed
