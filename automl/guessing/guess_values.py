"""Guesses as values that explain themselves, in text and as a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

__all__ = ["Guess", "Guesses", "shown_value"]

# Keys of the problem file and the argument of `try_table` that overrides each
ARGUMENTS = {
    "task": "task",
    "history.time": "time",
    "history.timezone": "timezone",
    "history.positive": "positive",
    "history.key": "key",
    "history.personal": "personal",
    "history.ignore": "ignore",
    "history.label_delay": "label_delay",
    "metric.name": "metric",
    "validation.block": "block",
    "validation.origins": "origins",
    "as_of": "as_of",
    "batch.horizon": "horizon",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """One value of a problem file and why it was chosen; `given` values come from the caller."""

    key: str
    value: Any
    reason: str
    given: bool = False

    @property
    def argument(self) -> str:
        """The argument of `try_table` that overrides the guess."""
        return ARGUMENTS[self.key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guesses(Mapping[str, Any]):
    """Values by key of the problem file; printed or shown in a notebook, each with its reason.

    Examples
    --------
    >>> block = Guess(key="validation.block", value="7d", reason="about 500 rows")
    >>> print(Guesses(entries=(block,)).explain())
    block  7d  about 500 rows
    """

    entries: tuple[Guess, ...]
    warnings: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()  # of the table

    def __getitem__(self, key: str) -> Any:
        return self.entry(key).value

    def __iter__(self) -> Iterator[str]:
        return (g.key for g in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def entry(self, key: str) -> Guess:
        """The whole guess of a key; KeyError if there is none."""
        for guess in self.entries:
            if guess.key == key:
                return guess
        raise KeyError(key)

    def explain(self) -> str:
        """One line per guess: the argument that overrides it, its value, its reason; then warnings."""
        rows = [(g.argument, shown_value(g.value), g.reason) for g in self.entries]
        first, second = (max((len(r[i]) for r in rows), default=0) for i in (0, 1))
        lines = [f"{name:{first}}  {value:{second}}  {reason}" for name, value, reason in rows]
        return "\n".join([*lines, *(f"warning: {w}" for w in self.warnings)])

    def __str__(self) -> str:
        return self.explain()

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(g.argument)}</td><td>{escape(shown_value(g.value))}</td>"
            f"<td style='text-align:left'>{escape(g.reason)}</td></tr>"
            for g in self.entries
        )
        notes = "".join(f"<p>Warning: {escape(w)}</p>" for w in self.warnings)
        head = "<tr><th>argument</th><th>value</th><th>reason</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>{notes}"


def shown_value(value: Any) -> str:
    """A value as people read it."""
    if value is None or value in ("", [], ()):
        return "-"
    if isinstance(value, datetime):
        return (
            f"{value:%Y-%m-%d}"
            if (value.hour, value.minute) == (0, 0)
            else f"{value:%Y-%m-%d %H:%M}"
        )
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
