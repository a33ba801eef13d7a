"""Matrices for the workers, each encoded once, in threads, while fits run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, Generic, TypeVar

from automl.errors import SpaceError
from automl.modeling.families import Encoding
from automl.modeling.features import Columns, Rows, load_columns, write_matrices
from automl.processes import UserCodeError, UserProcess

__all__ = ["Matrices"]

T = TypeVar("T")
TRANSFORM_SECONDS = 600.0  # for the rows of one block; only reached without a budget


class Matrices(Generic[T]):
    """Makes matrices in threads; `waker` becomes readable whenever a matrix is ready.

    A matrix in the making occupies a core, so callers count `running` among the fits. `make` takes an encoding
    and a number, a block or a count of rows, writes the matrix and returns a description of it.
    """

    def __init__(self, make: Callable[[Encoding, int], T], workers: int) -> None:
        self._make = make
        self.seconds = 0.0  # in total
        self.slowest = 0.0  # CPU seconds of the slowest matrix
        self.waker, self._bell = Pipe(duplex=False)
        self._futures: dict[tuple[Encoding, int], Future[T]] = {}
        self._since: dict[tuple[Encoding, int], float] = {}  # start times of running ones
        self._threads = ThreadPoolExecutor(workers, "encode")
        self.limit = float("inf")  # monotonic moment at which users' transformers are stopped
        self._processes: list[UserProcess] = []  # of users' transformers

    @property
    def running(self) -> int:
        """How many matrices are in the making."""
        return sum(not future.done() for future in self._futures.values())

    @property
    def spent(self) -> float:
        """Core-seconds so far, including matrices in the making."""
        now = time.monotonic()
        return self.seconds + sum(now - start for start in list(self._since.values()))

    def get(self, encoding: Encoding, number: int) -> T | None:
        """The description of a matrix; None until it is ready. Raises the exception of `make`."""
        future = self._futures.get((encoding, number))
        return future.result() if future and future.done() else None

    def begin(self, encoding: Encoding, number: int) -> bool:
        """Start making a matrix; False if it was started before."""
        key = encoding, number
        if key in self._futures:
            return False
        self._futures[key] = self._threads.submit(self._timed, encoding, number)
        self._futures[key].add_done_callback(lambda _: self._bell.send(key))
        return True

    def wait(self, encoding: Encoding, number: int) -> T:
        """The description of a matrix, made now if need be."""
        self.begin(encoding, number)
        return self._futures[encoding, number].result()

    def drain_waker(self) -> None:
        """Read everything from `waker`."""
        while self.waker.poll():
            self.waker.recv()

    def stop(self) -> None:
        """Wait for running matrices, but for those of users' transformers; cancel the others."""
        for process in self._processes:
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.waker.close()
        self._bell.close()

    def write(self, train: Rows, *rest: Any, columns: Columns | None, **options: Any) -> Any:
        """`write_matrices`; with a user's transformer in a process that may be killed.

        Raises
        ------
        SpaceError
            The transformer fails, or does not end in time.
        """
        if columns is None:
            return write_matrices(train, *rest, columns=None, **options)
        until = min(self.limit, time.monotonic() + TRANSFORM_SECONDS)
        process = UserProcess()
        self._processes.append(process)
        try:
            return process.call(_written, columns.path, (train, *rest), options, until=until)
        except UserCodeError as error:
            raise SpaceError(
                f"{columns.path}: transformer: {error}",
                code="columns_raise",
                next_step=f"Fix {columns.path.name}, then run the same command again.",
            ) from error
        finally:
            process.close()
            self._processes.remove(process)

    def _timed(self, encoding: Encoding, number: int) -> T:
        key, used = (encoding, number), time.thread_time()
        self._since[key] = time.monotonic()
        try:
            return self._make(encoding, number)
        finally:
            self.seconds += time.monotonic() - self._since.pop(key)
            self.slowest = max(self.slowest, time.thread_time() - used)


def _written(path: Path, rows: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """`write_matrices` with the transformer of that file; called in a process of its own."""
    return write_matrices(*rows, columns=load_columns(path), **options)
