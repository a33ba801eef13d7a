"""What stderr shows while a command works: one live line on a terminal, plain lines at growing intervals elsewhere.

The line is erased before anything else is printed, and when the command ends, however it ends.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from automl.cli.error_text import wrapped
from automl.progress import Progress, displayed_by
from automl.redaction import redact

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

__all__ = ["LogLines", "aside", "clear", "columns", "leave", "on_terminal", "showing"]

PATIENCE = 1.0  # seconds without a live line: quick commands have none
PER_SECOND = 2  # refreshes of the live line
# seconds of one step after which a plain line says how far it has come; then every minute
PLAIN = (2.0, 10.0, 30.0, 60.0)
EVERY = 60.0
BAR = 16  # columns
NARROW = 60  # columns below which there is no bar
_log = logging.getLogger(__name__)


def on_terminal() -> bool:
    """Whether stderr is a terminal that can erase a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def columns() -> int:
    """Width of the terminal that stderr is; stdout may be a file."""
    found = 0
    with suppress(OSError, ValueError):
        found = os.get_terminal_size(sys.stderr.fileno()).columns
    return found or shutil.get_terminal_size().columns


@dataclass(slots=True, eq=False)
class Frame:
    """A step under way."""

    name: str
    began: float = field(default_factory=time.monotonic)
    progress: Progress = field(default_factory=Progress)
    lines: int = 0  # plain lines so far

    @property
    def share(self) -> float | None:
        """Part of the work that is done, or of the time that has passed; None if neither is known."""
        p = self.progress
        if p.done is not None and p.of:
            return min(1.0, p.done / p.of)
        if p.until is not None and p.until > self.began:
            return min(1.0, (time.monotonic() - self.began) / (p.until - self.began))
        return None

    @property
    def clock(self) -> str:
        """Time left if it is known, else time spent."""
        until = self.progress.until
        if until is not None and math.isfinite(until):
            return f"{_clock(until - time.monotonic())} left"
        return _clock(time.monotonic() - self.began)

    def due(self) -> bool:
        """Whether a plain line is due, which is then counted."""
        wait = PLAIN[self.lines] if self.lines < len(PLAIN) else self._later
        if time.monotonic() - self.began < wait:
            return False
        self.lines += 1
        return True

    @property
    def _later(self) -> float:
        return PLAIN[-1] + EVERY * (self.lines - len(PLAIN) + 1)


class _Shown:
    """The steps of a command; a `Display`."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="live", daemon=True)

    def begin(self, name: str) -> None:
        self.frames.append(Frame(name))

    def show(self, progress: Progress) -> None:
        if self.frames:
            self.frames[-1].progress = progress

    def end(self) -> None:
        if self.frames:
            self.frames.pop()

    def stop(self) -> None:
        """Show nothing from now on."""
        self.ended.set()
        if self.thread.is_alive() and threading.current_thread() is not self.thread:
            self.thread.join()

    def _run(self) -> None:
        raise NotImplementedError

    def _heading(self, frame: Frame) -> str:
        """Its name; before it how many items of the step around it are done."""
        around = [f.progress for f in self.frames[:-1] if f.progress.of]
        prefix = f"{around[-1].done} of {around[-1].of}, " if around else ""
        return prefix + frame.name


class PlainLines(_Shown):
    """Lines of the log, for files and mails: soon after a step begins, then at growing intervals."""

    def _run(self) -> None:
        while not self.ended.wait(0.5):
            frames = self.frames[-1:]
            if frames and frames[0].due():
                frame = frames[0]
                text = f"; {frame.progress.text}" if frame.progress.text else ""
                _log.info("%s: %s%s", self._heading(frame), frame.clock, text)


class LiveLine(_Shown):
    """One line that is drawn again twice a second."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self.live: Live | None = None

    def stop(self) -> None:
        """Erase the line for good."""
        super().stop()
        with self.lock:
            if self.live is not None:
                self.live.stop()
                self.live = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """As `aside` of the module."""
        with self.lock:
            if self.live is not None:
                self.live.stop()
            try:
                yield
            finally:
                if self.live is not None:
                    self.live.start()

    def _run(self) -> None:
        if self.ended.wait(PATIENCE):
            return
        with self.lock:
            self.live = _live(self)
            self.live.start()
        while not self.ended.wait(1 / PER_SECOND):
            with self.lock:
                if self.live is not None:
                    self.live.refresh()

    def __rich__(self) -> RenderableType:
        """The line as it is now."""
        frames = self.frames[-1:]
        if not frames or self.live is None:
            return ""
        console = self.live.console
        unicode = console.encoding.startswith("utf")
        # the last column stays free: some terminals begin a new line after it
        width = console.width - 1
        return _line(self._heading(frames[0]), frames[0], width, unicode=unicode)


_current: list[_Shown] = []  # the display of the command that runs


@contextmanager
def showing(*, quiet: bool) -> Iterator[None]:
    """Show the progress of the command inside, unless it is to be quiet."""
    if quiet:
        yield
        return
    shown = LiveLine() if on_terminal() else PlainLines()
    _current.append(shown)
    shown.thread.start()
    try:
        with displayed_by(shown):
            yield
    finally:
        shown.stop()
        _current.remove(shown)


@contextmanager
def aside() -> Iterator[None]:
    """Print something to stderr inside: a live line is erased, and drawn again afterwards."""
    live = next((s for s in _current if isinstance(s, LiveLine)), None)
    with live.aside() if live else nullcontext():
        yield


def clear() -> None:
    """End the display: the result or an error is printed next."""
    for shown in _current:
        shown.stop()


def leave() -> None:
    """Erase the live line without waiting for anything: the process ends at once."""
    if any(isinstance(shown, LiveLine) for shown in _current):
        os.write(2, b"\r\x1b[2K")


class LogLines(logging.StreamHandler[Any]):
    """Lines of the log, above the live line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; on a terminal it wraps between words."""
        text = super().format(record)
        if record.exc_info or not on_terminal():
            return text
        return wrapped(text, columns())

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line."""
        with aside():
            super().emit(record)


def _live(line: LiveLine) -> Live:
    from rich.console import Console
    from rich.live import Live

    class Steady(Console):
        """A console that never hides the cursor: a killed command could not show it again."""

        def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002
            return False

    console: Console = Steady(stderr=True, highlight=False, force_terminal=True)
    return Live(
        get_renderable=line.__rich__,
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _line(heading: str, frame: Frame, width: int, *, unicode: bool) -> Text:
    """Name, bar, time and what was done, cut to fit `width` columns."""
    from rich.text import Text

    line = Text(f"{redact(heading)} ", style="bold", no_wrap=True)
    if frame.share is not None and width >= NARROW:
        done = round(BAR * frame.share)
        full, empty = ("━", "─") if unicode else ("#", "-")
        line.append(full * done, style="green").append(empty * (BAR - done), style="bright_black")
        line.append(" ")
    line.append(frame.clock, style="not bold")
    line.append(f"  {redact(frame.progress.text)}" if frame.progress.text else "", style="not bold")
    line.truncate(width, overflow="ellipsis" if unicode else "crop")
    return line


def _clock(seconds: float) -> str:
    """Minutes and seconds, with hours if there are.

    >>> _clock(62.4), _clock(3723)
    ('1:02', '1:02:03')
    """
    whole = max(0, round(seconds))
    minutes, hours = whole // 60, whole // 3600
    return f"{hours}:{minutes % 60:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
