"""Ctrl-C and SIGTERM end a command in the same way: the step stops, the cycle is closed, the exit code says which."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from automl.cli.live import leave

__all__ = ["StoppedError", "exit_in_time", "stopping_on_signals"]

IMPATIENT = 2.0  # a further signal after so many seconds ends the process at once
EXIT_SECONDS = 2.0  # after which threads that users' files have left behind are not waited for


class StoppedError(KeyboardInterrupt):
    """A signal asked the command to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.number


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Raise `StoppedError` in the main thread at the first signal; also in a background shell, which ignores SIGINT.

    Signals that follow at once, as from a terminal and a service manager together, do not disturb the closing
    of the cycle.
    """
    stopped: list[float] = []

    def stop(number: int, _: FrameType | None) -> None:
        if not stopped:
            stopped.append(time.monotonic())
            raise StoppedError(number)
        if time.monotonic() - stopped[0] > IMPATIENT:
            leave()
            os._exit(128 + number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_in_time(code: int) -> None:
    """Let the interpreter exit with this code even if a thread never ends."""
    at_exit: Callable[..., None] | None = getattr(threading, "_register_atexit", None)
    if at_exit is not None:
        at_exit(_force_exit, code)


def _force_exit(code: int) -> None:
    def waited_for(thread: threading.Thread) -> bool:
        pooled = thread.name.startswith("ThreadPoolExecutor")  # they end by themselves
        return not (thread.daemon or pooled or thread is threading.main_thread())

    def force() -> None:
        time.sleep(EXIT_SECONDS)
        os._exit(code)

    if any(map(waited_for, threading.enumerate())):
        threading.Thread(target=force, daemon=True).start()
