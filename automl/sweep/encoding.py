"""Matrices for the children, each encoded once, beside the fits and in their time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from typing import Generic, TypeVar

from automl.modeling.families import Encoding

__all__ = ["Matrices"]

T = TypeVar("T")


class Matrices(Generic[T]):
    """Makes matrices in threads; `waker` becomes readable whenever one has ended.

    A matrix at work takes the place of a fit: whoever starts fits counts `running` among them. `make` writes
    the matrix of an encoding and of what a number says, a block or a count of rows, and returns what is to be
    known of it.
    """

    def __init__(self, make: Callable[[Encoding, int], T], workers: int) -> None:
        self._make = make
        self.seconds = 0.0  # all in all
        self.slowest = 0.0  # of one matrix, what it would take with a core to itself
        self.waker, self._bell = Pipe(duplex=False)
        self._begun: dict[tuple[Encoding, int], Future[T]] = {}
        self._since: dict[tuple[Encoding, int], float] = {}  # of those now at work
        self._threads = ThreadPoolExecutor(workers, "encode")

    @property
    def running(self) -> int:
        """Matrices now at work."""
        return sum(not future.done() for future in self._begun.values())

    @property
    def spent(self) -> float:
        """Core-seconds so far, those of matrices now at work included."""
        now = time.monotonic()
        return self.seconds + sum(now - began for began in list(self._since.values()))

    def get(self, encoding: Encoding, number: int) -> T | None:
        """What `make` returned; None before it has. Raises what `make` raised."""
        future = self._begun.get((encoding, number))
        return future.result() if future and future.done() else None

    def begin(self, encoding: Encoding, number: int) -> bool:
        """Set a matrix to work; False if it was before."""
        at = encoding, number
        if at in self._begun:
            return False
        self._begun[at] = self._threads.submit(self._timed, encoding, number)
        self._begun[at].add_done_callback(lambda _: self._bell.send(at))
        return True

    def wait(self, encoding: Encoding, number: int) -> T:
        """What `make` returns, however long it takes."""
        self.begin(encoding, number)
        return self._begun[encoding, number].result()

    def heard(self) -> None:
        """Empty `waker`."""
        while self.waker.poll():
            self.waker.recv()

    def stop(self) -> None:
        """Wait for what is at work, drop what is not."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.waker.close()
        self._bell.close()

    def _timed(self, encoding: Encoding, number: int) -> T:
        at, used = (encoding, number), time.thread_time()
        self._since[at] = time.monotonic()
        try:
            return self._make(encoding, number)
        finally:
            self.seconds += time.monotonic() - self._since.pop(at)
            self.slowest = max(self.slowest, time.thread_time() - used)
