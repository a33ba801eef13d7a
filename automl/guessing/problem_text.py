"""Guesses as the text of a problem file, each with its reason in a comment."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from automl.guessing.guess_values import Guesses, shown_value
from automl.guessing.origins import Line, Origin
from automl.problem import Span

__all__ = ["ROW", "Search", "problem_text"]

ROW = "row"  # the key of a table without one: each row's position

COMMENTED = 26  # columns that a value takes before its comment, so that comments stand in one line
WIDTH = 100  # a longer comment stands above its key
HEAD = "# Guessed from a table; change what is wrong, then: automl check FILE"
# when a problem with such a block is retrained, if nothing else is wanted
CRON = {"1h": "5 * * * *", "1d": "0 3 * * *", "7d": "0 3 * * 1", "1mo": "0 3 1 * *"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How much is searched: families as the problem file names them, and where the search ends."""

    families: Sequence[str]
    budget: str | None
    trials: int | None
    seed: int

    @property
    def lines(self) -> list[Line]:
        """The keys of the section [sweep]."""
        return [
            ("families", list(self.families), "names, or paths of your own files"),
            ("budget", self.budget, "wall clock of search and refit"),
            ("trials", self.trials, "at most so many"),
            ("seed", self.seed, ""),
        ]


def problem_text(
    guesses: Guesses,
    search: Search,
    *,
    name: str,
    target: str,
    files: str = "",
    row: str = ROW,
    origin: Origin | None = None,
    comments: tuple[str, str] = (HEAD, "what is predicted"),
) -> str:
    """The problem file of these guesses.

    Parameters
    ----------
    files
        A copy of the table, without its personal columns; without a guessed key, its column `row` is the key.
    origin
        Instead of a copy, the source itself.
    comments
        At the top, and of the target.
    """
    head, target_reason = comments
    copy = ("files", files, "a copy of the table; later source = ... and query = ...")
    sections: list[tuple[str, list[Line]]] = [
        (
            "",
            [("name", name, "the experiment, model and predictions table"), _line(guesses, "task")],
        ),
        (
            "history",
            [
                *(origin.lines if origin else [copy]),
                _line(guesses, "history.time"),
                _line(guesses, "history.timezone"),
                _key_line(guesses, "" if origin else row),
                ("target", target, target_reason),
                _line(guesses, "history.positive"),
                _line(guesses, "history.label_delay"),
                _line(guesses, "history.ignore"),
                *([_line(guesses, "history.personal")] if origin else _personal_lines(guesses)),
            ],
        ),
        ("batch", [*(origin.batch_lines if origin else []), _line(guesses, "batch.horizon")]),
        ("metric", [_line(guesses, "metric.name")]),
        ("sweep", search.lines),
        ("validation", [_line(guesses, "validation.block"), _line(guesses, "validation.origins")]),
    ]
    parts = [_section(title, lines) for title, lines in sections]
    if origin:
        parts.insert(2, _notes(guesses, target))
        parts.append(_schedule(guesses))
    text = "\n\n".join(p for p in parts if p)
    return f"{head}\n{text}\n"


def _line(guesses: Guesses, key: str) -> Line:
    entry = guesses.entry(key)
    return key.rpartition(".")[2], entry.value, entry.reason


def _key_line(guesses: Guesses, row: str) -> Line:
    key, value, reason = _line(guesses, "history.key")
    return key, value or ([row] if row else None), reason


def _personal_lines(guesses: Guesses) -> list[Line]:
    """Personal columns were not copied, so nothing names them until the file reads the real source."""
    names = guesses["history.personal"]
    later = f"with the real source: personal = {_literal(names)}"
    return [("personal", None, later)] if names else []


def _notes(guesses: Guesses, target: str) -> str:
    """What is learned from, and what to look at, as comments."""
    taken = {
        target,
        guesses["history.time"],
        *guesses["history.ignore"],
        *guesses["history.personal"],
    }
    features = [n for n in guesses.columns if n not in taken]
    notes = [
        f"Learned from: {shown_value(features)}.",
        *(f"Look at {w}." for w in guesses.warnings),
    ]
    return "\n".join(_comment(note) for note in notes)


def _schedule(guesses: Guesses) -> str:
    """A schedule that fits the block, as a comment: with one, cycles without --as-of are for its newest slot."""
    block = guesses["validation.block"]
    cron = CRON.get(block, "0 3 1 */3 *" if Span.parse(block).seconds > 40 * 86400 else CRON["1d"])
    line = f'# retrain     = "{cron}"'
    return f"# [schedule]\n{line:{COMMENTED}} # uncomment to run on this schedule: automl schedule FILE"


def _section(title: str, lines: list[Line]) -> str:
    head = [f"[{title}]"] if title else []
    return "\n".join([*head, *(_assignment(*line) for line in lines)])


def _assignment(key: str, value: Any, comment: str) -> str:
    """`key = value  # comment`; a key without a value is commented out, a long comment stands above."""
    given = value is not None and value != []
    left = f"{key:11} = {_literal(value)}" if given else f"# {key}: none"
    line = f"{left:{COMMENTED}} # {comment}" if comment else left
    return line if len(line) <= WIDTH else f"{_comment(comment)}\n{left}"


def _comment(text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False
    )


def _literal(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_literal, value))}]"
    # a JSON text is a TOML text, but for the control character that JSON leaves as it is
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
