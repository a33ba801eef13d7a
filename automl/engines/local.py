"""Processes of this machine, each with one item at a time; they end with this process, however it ends."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Self

from automl.engines.work import Item, Outcome, Status
from automl.errors import AutomlError
from automl.processes import UserCodeError, UserProcess

__all__ = ["LocalEngine"]

KILL_SECONDS = 0.05  # between two tries


class LocalEngine:
    """An `Engine` on this machine. A process stays for the next item, unless it failed or was killed.

    Parameters
    ----------
    processes
        How many items run at once.
    """

    def __init__(self, processes: int) -> None:
        self.capacity = processes
        self._waiting: deque[Item] = deque()
        self._running: dict[str, UserProcess] = {}
        self._cancelled: set[str] = set()
        self._ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._open = 0  # items whose outcome was not collected
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"engine-{i}", daemon=True)
            for i in range(processes)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what runs, drop what waits."""
        self.close()

    def submit(self, item: Item) -> None:
        """Give out an item; returns at once."""
        with self._changed:
            self._open += 1
            self._waiting.append(item)
            self._changed.notify()

    def collect(self, timeout: float | None = None) -> Outcome | None:
        """The next item that ended; None if nothing is open, or none ends in time."""
        if not self._open:
            return None
        try:
            outcome = self._ended.get(timeout=timeout)
        except queue.Empty:
            return None
        self._open -= 1
        return outcome

    def cancel(self, key: str) -> None:
        """Drop an item that waits, or kill one that runs."""
        with self._changed:
            waiting = next((item for item in self._waiting if item.key == key), None)
            if waiting is not None:
                self._waiting.remove(waiting)
                self._ended.put(Outcome(key=key, status="cancelled"))
                return
        self._kill([key])

    def close(self) -> None:
        """Kill what runs, drop what waits."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._kill(list(self._running))
        for thread in self._threads:
            thread.join()

    def _kill(self, keys: Sequence[str]) -> None:
        """Kill until they have ended: a process that is just being started cannot be killed yet."""
        while True:
            with self._changed:
                running = {k: self._running[k] for k in keys if k in self._running}
                self._cancelled |= set(running)
            if not running:
                return
            for process in running.values():
                process.kill()
            time.sleep(KILL_SECONDS)

    # ------------------------------------------------------------ one thread per process

    def _work(self) -> None:
        with UserProcess(prints=True) as process:
            while (item := self._next(process)) is not None:
                outcome = self._outcome(item, process)
                with self._changed:
                    del self._running[item.key]
                    self._cancelled.discard(item.key)
                self._ended.put(outcome)

    def _next(self, process: UserProcess) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            item = self._waiting.popleft()
            self._running[item.key] = process
            return item

    def _outcome(self, item: Item, process: UserProcess) -> Outcome:
        started = time.monotonic()
        value, error, status = None, None, "done"
        try:
            value = process.call(item.function, *item.arguments, until=started + item.seconds)
        except Exception as raised:  # noqa: BLE001  it belongs to the item, not to the engine
            error, status = raised, _status(raised)
        if item.key in self._cancelled:
            return Outcome(key=item.key, status="cancelled", seconds=time.monotonic() - started)
        return Outcome(
            key=item.key,
            status=status,  # type: ignore[arg-type]
            value=value,
            error=error,
            seconds=time.monotonic() - started,
        )


def _status(error: Exception) -> Status:
    if isinstance(error, UserCodeError) and error.late:
        return "late"
    if isinstance(error, AutomlError) or not isinstance(error, UserCodeError) or error.raised:
        return "failed"
    return "lost"
