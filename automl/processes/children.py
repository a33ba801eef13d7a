"""Worker processes, forked from a clean server that has imported the libraries and done nothing else.

Never forked from this process, because forking after OpenMP has run hangs; a fresh Python would import
for seconds. A worker leads its own process group, so that processes it starts end with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import sys
import threading
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from types import ModuleType
from typing import Any

from automl.processes.lineage import die_with_parent

__all__ = ["PRELOADED", "Child", "context", "end", "fate", "settle", "start", "warm_up"]

Child = Any  # multiprocessing has no public name for the class of a context's processes
PRELOADED = [  # imported by most families: once, in the server, not in every worker
    "automl.processes.guard",  # first: it makes the server a child of its guard
    "automl.modeling.training",
    "lightgbm",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.neural_network",
]
_STARTING = threading.Lock()  # `__main__` belongs to the whole process


def context() -> ForkServerContext:
    """The multiprocessing context that makes processes and pipes."""
    forking = mp.get_context("forkserver")
    forking.set_forkserver_preload(PRELOADED)
    return forking


def start(child: Child) -> None:
    """Start a process that does not import `__main__`.

    Python would import it once more in every child: a script without a guard would run again and again,
    and the module of `python -m`, such as Prefect's engine, would load for seconds. No child needs it.
    """
    with _STARTING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            child.start()
        finally:
            sys.modules["__main__"] = main


def warm_up() -> None:
    """Start the server that workers are forked from, in the background."""
    threading.Thread(target=_serve, name="forkserver", daemon=True).start()


def _serve() -> None:
    context()
    forkserver.ensure_running()


def settle(*, prints: bool = False) -> None:
    """Give a new worker its own process group, and an end with its server. Called first in a worker.

    What it prints is discarded; with `prints` it goes to stderr.
    """
    os.setsid()
    die_with_parent()
    if prints:
        os.dup2(2, 1)
        return
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)


def fate(child: Child) -> str:
    """How a process ended that returned no result: a signal name or an exit code."""
    child.join(1)
    code = child.exitcode
    if code is None:
        return "it closed its connection"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def end(child: Child, connection: Connection) -> None:
    """Kill a process and everything it started."""
    connection.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has no group of its own yet
        os.killpg(child.pid, signal.SIGKILL)
    if child.is_alive():
        child.kill()
    child.join(2)
