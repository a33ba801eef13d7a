"""A function of a user's file in a process of its own: whatever it does there, the caller goes on.

It may raise, exit, crash, hang, print, change the environment or leave processes behind. The caller gets its
result or a `UserCodeError` that says how the call ended.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from multiprocessing import current_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

from automl.errors import AutomlError
from automl.processes.children import context, end, fate, settle, start

__all__ = ["Caller", "UserCodeError", "UserProcess"]

MOST_TEXT = 500  # characters of an error's text
MOST_TRACE = 4000
Caller = Callable[..., Any]  # calls a method of the object that the parent has


class UserCodeError(Exception):
    """A call that returned nothing: `str` says what it raised, or how its process ended.

    `raised` is the name of the exception's class, empty if the process ended or was killed. `late` says that it
    was killed at its limit.
    """

    def __init__(self, text: str, *, raised: str = "", trace: str = "", late: bool = False) -> None:
        super().__init__(text)
        self.raised, self.trace, self.late = raised, trace, late


class _ThereError(Exception):
    """The traceback of the other process, to be shown as the cause."""


class UserProcess:
    """A process for calls, started with the first one and again after a call that fails; a context.

    Parameters
    ----------
    prints
        Whether what the functions print appears on stderr.
    path
        A folder whose modules they may import.
    """

    def __init__(self, *, prints: bool = False, path: Path | None = None) -> None:
        self._prints, self._path = prints, path
        self._process: Any = None
        self._connection: Any = None

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        until: float = float("inf"),
        asked: object = None,
    ) -> Any:
        """The result of a function of a module; its arguments and result are pickled.

        Parameters
        ----------
        until
            Monotonic moment at which the process is killed.
        asked
            With it the function gets a first argument more, a `Caller`: `caller(name, *args, **kwargs)` calls
            that method of `asked` in this process, or returns that attribute of it.

        Raises
        ------
        UserCodeError
            It raised, its process ended, or it did not end in time.
        AutomlError
            It raised that.
        """
        try:
            return self._result((function, arguments, asked is not None), until, asked)
        except BaseException:  # also an interruption: what still runs there is of no use
            self.close()
            raise

    def kill(self) -> None:
        """Kill the process while another thread waits for its result."""
        process = self._process
        if process is not None and process.pid is not None:  # it may be starting
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the process and everything it started."""
        if self._process is not None:
            end(self._process, self._connection)
        self._process = self._connection = None

    def _result(self, order: Any, until: float, asked: object) -> Any:
        started = time.monotonic()
        if self._process is None:
            self._begin()
        with contextlib.suppress(OSError):  # it died while idle: `_message` reports that
            self._connection.send_bytes(pickle.dumps(order))
        while True:
            kind, content = self._message(until, started)
            if kind == "ask":
                self._connection.send_bytes(_attribute(asked, *content))
            elif kind == "result":
                return content
            else:
                ours, raised, text, trace = content
                there = _ThereError(f"\n{trace}")
                raise ours or UserCodeError(text, raised=raised, trace=trace) from there

    def _message(self, until: float, started: float) -> Any:
        # the sentinel too: a process that it started may keep the connection open
        while time.monotonic() < until:
            seconds = min(60.0, until - time.monotonic())
            ready = wait([self._connection, self._process.sentinel], seconds)
            if not ready:
                continue
            with contextlib.suppress(EOFError, OSError):
                if self._connection.poll():
                    return self._read(self._connection.recv_bytes())
            raise UserCodeError(f"its process ended without a result: {fate(self._process)}")
        raise UserCodeError(f"no result after {time.monotonic() - started:.1f} s", late=True)

    def _read(self, message: bytes) -> Any:
        try:
            return pickle.loads(message)
        except Exception as error:
            raise UserCodeError(f"its result cannot be read: {_text(error)}") from error

    def _begin(self) -> None:
        self._connection, remote = context().Pipe()
        self._process = context().Process(
            target=_work,
            args=(remote, dict(os.environ), self._prints, str(self._path or "")),
            daemon=True,
        )
        start(self._process)
        remote.close()


def _attribute(asked: object, name: str, args: Any, kwargs: Any) -> bytes:
    """What an attribute is, or its method returns or raises, pickled."""
    try:
        found = getattr(asked, name)
        return pickle.dumps(("result", found(*args, **kwargs) if callable(found) else found))
    except Exception as error:  # noqa: BLE001  it is raised where it was called
        try:
            return pickle.dumps(("error", error))
        except Exception:  # noqa: BLE001
            return pickle.dumps(("error", ValueError(_text(error))))


def _work(connection: Connection, environment: Mapping[str, str], prints: bool, path: str) -> None:
    """Loop of the process: call each function and send its result until the pipe closes."""
    settle(prints=prints)
    current_process().daemon = False  # or it may not use multiprocessing itself
    os.environ.clear()
    os.environ.update(environment)
    warnings.simplefilter("ignore")
    if path:
        sys.path.insert(0, path)

    def caller(name: str, *args: Any, **kwargs: Any) -> Any:
        connection.send_bytes(pickle.dumps(("ask", (name, args, kwargs))))
        kind, content = pickle.loads(connection.recv_bytes())
        if kind == "error":
            raise content
        return content

    with contextlib.suppress(EOFError, OSError):
        while True:
            message = connection.recv_bytes()
            connection.send_bytes(_reply(message, caller))


def _reply(message: bytes, caller: Caller) -> bytes:
    try:
        function, arguments, asks = pickle.loads(message)
        result = function(caller, *arguments) if asks else function(*arguments)
        return pickle.dumps(("result", result))
    except BaseException as error:  # noqa: BLE001  a user's function may raise anything, also SystemExit
        ours = error if isinstance(error, AutomlError) else None
        trace = traceback.format_exc()[-MOST_TRACE:]
        return pickle.dumps(("error", (ours, type(error).__name__, _text(error), trace)))


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  an exception of the user's own
        text = ""
    return f"{type(error).__name__}: {text}".strip().removesuffix(":")[:MOST_TEXT]
