"""MLflow's client, with an end to every request: a result, or `UnreachableError` within seconds.

MLflow's own timeouts bound the silence between two bytes and its retries repeat them, so a server that hangs
or drips would hold a cycle for minutes. What such a server says is never shown: it may quote a secret.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import filelock
from google.protobuf.json_format import ParseError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from requests import RequestException

from automl.disk import disk_error
from automl.errors import UnreachableError
from automl.files import is_abandoned, umask
from automl.redaction import redact
from automl.store import has_tables
from automl.workspace import Workspace

__all__ = ["TRANSFER_SECONDS", "Connection", "make_local_store"]

T = TypeVar("T")
REQUEST_SECONDS = 6.0  # all attempts of one request
TRANSFER_SECONDS = 60.0  # the files of one model, up or down
PATIENCE = 5  # seconds of silence that MLflow waits by default; a longer setting extends the limits in proportion
QUIET_SECONDS = 30.0  # after a failure, requests fail at once for so long: a cycle makes many
OPENING_SECONDS = 120  # first commands that start together wait for the one that makes the tables
RETRY_AFTER = 1.0  # seconds; a server that is being restarted refuses at once
# error codes that say something about what was requested; others concern the server
_MEANT = (
    "RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS", "INVALID_PARAMETER_VALUE",
    "INVALID_STATE", "BAD_REQUEST", "RESOURCE_CONFLICT",
)  # fmt: skip
_DENIED = ("401", "403", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
_STATUS = re.compile(
    r"error code (\d{3})|too many (\d{3}) error|(\d{3}) (?:Client|Server) Error|_code': '(\w+)'"
)
_NO_CONNECTION = (
    (r"resolve|Name or service|getaddrinfo", "the name of its host is not known"),
    (r"refused", "the connection is refused"),
    (r"SSL|TLS|CERTIFICATE|certificate", "no TLS connection (certificate, or http instead of https)"),
    (r"[Tt]imed? ?out", "no response in time"),
)  # fmt: skip
_START = "Start it, or fix MLFLOW_TRACKING_URI (environment or mlflow.env); then run the same command again."
_SLOW = f"{_START} A server that is only slow needs a longer MLFLOW_HTTP_REQUEST_TIMEOUT (seconds)."
_BROKEN = "Look into the log of that server; when it works again, run the same command again."
_ANOTHER = (
    "Set MLFLOW_TRACKING_URI (environment or mlflow.env) to the address of an MLflow server: another service, "
    "or a login page, responds at this one. Then run the same command again."
)
_log = logging.getLogger(__name__)


class Connection:
    """The methods of `MlflowClient`, none of which hangs or fails with an error of a library.

    `reading` is for a database that is known to have MLflow's tables: they are not made.

    Raises
    ------
    UnreachableError
        By every method: MLflow does not respond, refuses the user, or is not MLflow. Errors that concern what was
        requested, such as a run that does not exist, are `MlflowException` as ever.
    """

    def __init__(self, workspace: Workspace, *, reading: bool = False) -> None:
        self.uri = workspace.tracking_uri
        self._http = self.uri.startswith("http")
        self._in_process = self.uri.startswith("sqlite:")
        self._down: UnreachableError | None = None
        self._down_until = 0.0
        if reading or self._http:
            self._client = self.run(MlflowClient, self.uri, self.uri)
            return
        workspace.create()
        lock = workspace.lock("mlflow")
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            with umask(workspace.umask), filelock.FileLock(lock, timeout=OPENING_SECONDS):
                if workspace.local_mlflow:
                    make_local_store(workspace)
                # MLflow makes the tables of an empty database step by step
                seconds = None if has_tables(self.uri, "experiments") else OPENING_SECONDS
                self._client = self.run(MlflowClient, self.uri, self.uri, within=seconds)
        except (OSError, filelock.Timeout) as error:
            full = disk_error(error, workspace.home)
            raise full or self._error(f"cannot be opened: {error}") from error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A method of MLflow's client."""
        return partial(self.run, getattr(self._client, name))

    def run(
        self,
        function: Callable[..., T],
        *args: Any,
        within: float | None = None,
        may_be_gone: bool = False,
        **kwargs: Any,
    ) -> T:
        """Call a function that makes requests to MLflow, for at most `within` or `REQUEST_SECONDS`.

        With `may_be_gone`, status 404 says that something does not exist; without, that the server is not MLflow.
        """
        if self._down is not None and time.monotonic() < self._down_until:
            raise UnreachableError(
                str(self._down), code=self._down.code, next_step=self._down.next_step
            )
        began, call = time.monotonic(), partial(function, *args, **kwargs)
        seconds, patience = (
            within or REQUEST_SECONDS,
            os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", ""),
        )
        if patience.isdigit():  # more of it than by default: the user knows a slow server
            seconds *= max(1.0, int(patience) / PATIENCE)
        while True:
            try:
                result = call() if self._in_process else _bounded(call, seconds)
            except Exception as error:
                failure, passing = self._failure(error, seconds)
                gone = may_be_gone and "404" in str(failure)
                if failure is None or gone:
                    raise
                if passing and time.monotonic() - began < RETRY_AFTER:
                    time.sleep(RETRY_AFTER)
                    continue
                self._down, self._down_until = failure, time.monotonic() + QUIET_SECONDS
                raise failure from error
            if self._http and _is_hollow(result):
                raise self._error("does not respond as an MLflow server", _ANOTHER)
            self._down = None
            return result

    # ------------------------------------------------------------ what an error means

    def _failure(self, error: Exception, seconds: float) -> tuple[UnreachableError | None, bool]:
        """The error to raise, None if it concerns the request; and whether it may pass in a second."""
        if isinstance(error, _TooLateError):
            return self._error(f"does not respond within {seconds:.0f} s", _SLOW), False
        if not self._http:
            return self._database_failure(error), False
        code, text = getattr(error, "error_code", ""), str(error)
        if isinstance(error, RestException):
            return (None, False) if code in _MEANT else (self._refusal(code), code not in _DENIED)
        mlflow_failed = isinstance(error, MlflowException) and "API request" in text
        if isinstance(error, ParseError) or (mlflow_failed and "JSON" in text):
            return self._error("does not respond as an MLflow server", _ANOTHER), False
        if mlflow_failed or isinstance(error, RequestException):
            return self._no_response(text)
        return None, False

    def _no_response(self, text: str) -> tuple[UnreachableError, bool]:
        status = next((s for s in _groups(text) if s), "")
        if status:
            return self._refusal(status), status.startswith("5") or status == "429"
        causes = (cause for pattern, cause in _NO_CONNECTION if re.search(pattern, text))
        cause = next(causes, "no connection")
        return self._error(f"does not respond: {cause}"), "refused" in cause

    def _refusal(self, status: str) -> UnreachableError:
        if status in _DENIED:
            return UnreachableError(
                f"MLflow at {redact(self.uri)} refuses this user ({status})",
                code="mlflow_denied",
                next_step="Fix MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; "
                "then run the same command again.",
            )
        step = _ANOTHER if status.startswith("404") else _BROKEN
        return self._error(f"responds with an error ({status})", step)

    def _database_failure(self, error: Exception) -> UnreachableError | None:
        """MLflow on a database: connections fail with SQLAlchemy's errors, requests with MLflow's."""
        library = type(error).__module__.startswith(("sqlalchemy", "psycopg", "pymysql", "sqlite3"))
        unavailable = getattr(error, "error_code", "") == "TEMPORARILY_UNAVAILABLE"
        locked = "locked" in str(error) or "unable to open" in str(error)
        if not (library or unavailable) or (self._in_process and not locked):
            return None
        lines = str(error).splitlines() or [type(error).__name__]
        return self._error(f"does not respond: {lines[0]}")

    def _error(self, what: str, next_step: str = _START) -> UnreachableError:
        return UnreachableError(
            f"MLflow at {redact(self.uri)} {what}", code="mlflow_unreachable", next_step=next_step
        )


def make_local_store(workspace: Workspace) -> None:
    """Make MLflow's SQLite file as a whole: two processes that make its tables at once leave it broken.

    So does a process that is killed while it makes them.
    """
    file = workspace.home / "mlflow.db"
    if file.exists() and file.stat().st_size:
        return
    aside = workspace.home / f"mlflow-new.{os.getpid()}.tmp"
    # SQLite's journals too; in a container another process may have had this number
    for leftover in workspace.home.glob("mlflow-new.*.tmp*"):
        if leftover.name.startswith(aside.name) or is_abandoned(leftover):
            leftover.unlink(missing_ok=True)
    store = SqlAlchemyStore(f"sqlite:///{aside}", workspace.artifacts.as_uri())
    store.engine.dispose()
    os.replace(aside, file)


class _TooLateError(Exception):
    """A call did not end in time."""


def _bounded(call: Callable[[], T], seconds: float) -> T:
    """The result of a call, made in a thread that is left behind if it takes too long."""
    outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put((call(), None))
        except BaseException as error:  # noqa: BLE001  raised below, in the caller's thread
            outcome.put((None, error))

    threading.Thread(target=work, name="mlflow request", daemon=True).start()
    try:
        result, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise _TooLateError from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # without an error there is a result


def _groups(text: str) -> tuple[str | None, ...]:
    match = _STATUS.search(text)
    return match.groups() if match else ()


def _is_hollow(result: object) -> bool:
    """Whether a result has an empty identity: MLflow's client takes an empty response for an empty object."""
    names = ("run_id", "experiment_id", "version")
    found = [getattr(getattr(result, "info", result), name, None) for name in names]
    return result == "" or any(value == "" for value in found)
