"""Matrices for the children, each encoded once per block and encoding, beside the fits and in their time."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe

from automl.features.matrices import Rows, shape_of, thin, write_matrices
from automl.spaces import Encoding, Shape
from automl.sweep.board import Work

__all__ = ["Matrices"]


class Matrices:
    """Encodes in threads; `waker` becomes readable whenever one has ended.

    A matrix at work takes the place of a fit: whoever starts fits counts `running` among them.
    """

    def __init__(self, work: Work, rows: Rows, most_rows: int) -> None:
        self.work, self.rows, self.most_rows = work, rows, most_rows
        self.seconds = 0.0  # all in all
        self.slowest = 0.0  # of one matrix, what it would take with a core to itself
        self.waker, self._bell = Pipe(duplex=False)
        self._shapes: dict[tuple[Encoding, int], Future[Shape]] = {}
        self._threads = ThreadPoolExecutor(work.workers, "encode")

    @property
    def running(self) -> int:
        """Matrices now at work."""
        return sum(not future.done() for future in self._shapes.values())

    def shape(self, encoding: Encoding, block: int) -> Shape | None:
        """The shape of a block's training matrix; None before it is there."""
        future = self._shapes.get((encoding, block))
        return future.result() if future and future.done() else None

    def begin(self, encoding: Encoding, block: int) -> bool:
        """Set a matrix to work; False if it was before."""
        at = encoding, block
        if at in self._shapes:
            return False
        self._shapes[at] = self._threads.submit(self._encode, encoding, block)
        self._shapes[at].add_done_callback(lambda _: self._bell.send(at))
        return True

    def wait(self, encoding: Encoding, block: int) -> Shape:
        """The shape, however long it takes."""
        self.begin(encoding, block)
        return self._shapes[encoding, block].result()

    def heard(self) -> None:
        """Empty `waker`."""
        while self.waker.poll():
            self.waker.recv()

    def stop(self) -> None:
        """Wait for what is at work, drop what is not."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.waker.close()
        self._bell.close()

    def _encode(self, encoding: Encoding, block: int) -> Shape:
        work, started, used = self.work, time.monotonic(), time.thread_time()
        cut = work.blocks[block]
        folder = work.scratch / f"{encoding}-{block}"
        write_matrices(
            thin(self.rows.take(cut.train), self.most_rows, work.problem.sweep.seed),
            self.rows.take(cut.judged),
            work.contract.features,
            encoding,
            folder,
            classes=len(work.contract.classes),
            columns=work.columns,
        )
        self.seconds += time.monotonic() - started
        self.slowest = max(self.slowest, time.thread_time() - used)
        return shape_of(folder, work.problem, work.contract)
