"""How far long work has come: what works says so, and a display shows it; without a display nothing happens.

The command line sets one (`automl/cli/live.py`). Threads and processes of the work itself have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Display", "Progress", "displayed_by", "show", "step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the step under way has done so far."""

    text: str = ""
    done: int | None = None  # of `of`
    of: int | None = None
    until: float | None = None  # monotonic moment at which it is to end


class Display(Protocol):
    """Shows the step under way."""

    def begin(self, name: str) -> None:
        """A step begins, inside the one that is under way."""

    def show(self, progress: Progress) -> None:
        """The step under way has come so far."""

    def end(self) -> None:
        """The step under way has ended."""


_display: ContextVar[Display | None] = ContextVar("display", default=None)


@contextmanager
def displayed_by(display: Display) -> Iterator[None]:
    """Show the work inside."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Name the work inside."""
    display = _display.get()
    if display is None:
        yield
        return
    display.begin(name)
    try:
        yield
    finally:
        display.end()


def show(
    text: str = "", *, done: int | None = None, of: int | None = None, until: float | None = None
) -> None:
    """Say how far the step under way has come; `until` is a moment of the monotonic clock."""
    display = _display.get()
    if display is not None:
        display.show(Progress(text=text, done=done, of=of, until=until))
