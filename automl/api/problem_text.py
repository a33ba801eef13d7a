"""Guesses as the text of a problem file, each with its reason in a comment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from automl.api.guess_values import Guesses

__all__ = ["ROW", "Search", "problem_text"]

ROW = "row"  # the key of a table without one: each row's position

COMMENTED = 26  # columns that a value takes before its comment, so that comments stand in one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How much is searched: families as the problem file names them, and where the search ends."""

    families: Sequence[str]
    budget: str | None
    trials: int | None
    seed: int


def problem_text(
    guesses: Guesses, search: Search, *, name: str, target: str, files: str, row: str = ROW
) -> str:
    """The problem file of these guesses on rows in `files`; personal columns are not in those files.

    Without a guessed key, the column `row` is the key.
    """
    sections: list[tuple[str, list[tuple[str, Any, str]]]] = [
        (
            "",
            [("name", name, "the experiment, model and predictions table"), _line(guesses, "task")],
        ),
        (
            "history",
            [
                ("files", files, "a copy of the table; later source = ... and query = ..."),
                _line(guesses, "history.time"),
                _line(guesses, "history.timezone"),
                _key_line(guesses, row),
                ("target", target, "what is predicted"),
                _line(guesses, "history.positive"),
                _line(guesses, "history.label_delay"),
                _line(guesses, "history.ignore"),
                *_personal_lines(guesses),
            ],
        ),
        ("batch", [_line(guesses, "batch.horizon")]),
        ("metric", [_line(guesses, "metric.name")]),
        (
            "sweep",
            [
                ("families", list(search.families), "names, or paths of your own files"),
                ("budget", search.budget, "wall clock of search and refit"),
                ("trials", search.trials, "at most so many"),
                ("seed", search.seed, ""),
            ],
        ),
        ("validation", [_line(guesses, "validation.block"), _line(guesses, "validation.origins")]),
    ]
    text = "\n\n".join(_section(title, lines) for title, lines in sections)
    return f"# Guessed from a table; change what is wrong, then: automl check FILE\n{text}\n"


def _line(guesses: Guesses, key: str) -> tuple[str, Any, str]:
    entry = guesses.entry(key)
    return key.rpartition(".")[2], entry.value, entry.reason


def _key_line(guesses: Guesses, row: str) -> tuple[str, Any, str]:
    key, value, reason = _line(guesses, "history.key")
    return key, value or [row], reason


def _personal_lines(guesses: Guesses) -> list[tuple[str, Any, str]]:
    """Personal columns were not copied, so nothing names them until the file reads the real source."""
    names = guesses["history.personal"]
    later = f"with the real source: personal = {_literal(names)}"
    return [("personal", None, later)] if names else []


def _section(title: str, lines: list[tuple[str, Any, str]]) -> str:
    head = [f"[{title}]"] if title else []
    return "\n".join([*head, *(_assignment(*line) for line in lines)])


def _assignment(key: str, value: Any, comment: str) -> str:
    """`key = value  # comment`; a key without a value is commented out."""
    given = value is not None and value != []
    left = f"{key:11} = {_literal(value)}" if given else f"# {key}: none"
    return f"{left:{COMMENTED}} # {comment}" if comment else left


def _literal(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_literal, value))}]"
    # a JSON text is a TOML text, but for the control character that JSON leaves as it is
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
