"""The database of a store: its engine and schema, the lock of a problem, and the fence of a commit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import filelock
import sqlalchemy as sa

from automl.disk import disk_error, naming_disk_errors
from automl.errors import BusyError, ProblemError, UnreachableError
from automl.files import umask
from automl.redaction import redact
from automl.store import tables as t
from automl.store.migrate import upgrade
from automl.store.rows import Hold, naive
from automl.workspace import Workspace, driver_package, now, with_driver

__all__ = ["Database", "open_engine", "schema_of"]

T = TypeVar("T")
_DRIVERS = "sqlite", "sqlite+pysqlite", "postgresql+psycopg", "postgresql+psycopg2"
OPENING_SECONDS = 120  # first commands that start together wait for the one that makes the tables


class Database:
    """The database of one workspace's store: cheap to open, safe to open twice."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.sqlite = _checked_url(workspace.database_url).get_backend_name() == "sqlite"
        with naming_disk_errors(workspace.home):
            workspace.create()
        self.engine = open_engine(workspace)
        # the same connections, for transactions that write
        self.writer = self.engine.execution_options(writing=True)
        if self.sqlite:
            _use_wal(self.engine)
            _name_disk_errors(self.engine, workspace.home)
        with naming_disk_errors(workspace.home):
            self._migrate()

    def _migrate(self) -> None:
        try:
            # the file lock: two processes that create a new SQLite file at once disturb each other
            with (
                umask(self.workspace.umask),
                filelock.FileLock(self._lock_file("schema"), timeout=OPENING_SECONDS),
            ):
                with self.engine.connect() as connection:
                    found, whole = schema_of(connection)
                if not whole and (found is None or found <= t.SCHEMA_VERSION):
                    self._create()
        except filelock.Timeout as error:
            raise _locked(error) from None
        except sa.exc.DBAPIError as error:
            raise self._unreachable(error) from error
        if found is not None and found > t.SCHEMA_VERSION:
            raise ProblemError(
                f"the store has schema {found}; this version knows {t.SCHEMA_VERSION}",
                code="newer_store",
                next_step="Install the version that wrote it.",
            )

    def _create(self) -> None:
        with self.writer.begin() as connection:
            if not self.sqlite:  # another workspace may use the same server
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_lock_number("schema"))))
            found, _ = schema_of(connection)
            if found is not None and found < t.SCHEMA_VERSION:
                upgrade(connection, found, t.SCHEMA_VERSION)
                connection.execute(t.meta.update().values(version=t.SCHEMA_VERSION))
            t.metadata.create_all(connection)
            if found is None:
                values = {"version": t.SCHEMA_VERSION, "store": uuid4().hex}
                connection.execute(t.meta.insert().values(**values))

    @property
    def id(self) -> str:
        """A random id of this store; a store that is created in its place has another."""
        found = self._read(lambda connection: connection.scalar(sa.select(t.meta.c.store)))
        return str(found or "")

    def _lock_file(self, name: str) -> str:
        path = self.workspace.lock(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    # ---- lock and fence

    @contextlib.contextmanager
    def hold(self, problem: str) -> Iterator[Hold]:
        """Hold the problem's lock; it is released when the process dies.

        Raises
        ------
        BusyError
            Another process holds it.
        UnreachableError
            The server of the store went away while the lock was held, and the lock with it.
        """
        with contextlib.ExitStack() as stack:
            if self.sqlite:
                stack.enter_context(self._file_lock(problem))
            else:
                stack.enter_context(self._advisory_lock(problem))
            hold = Hold(problem, self._next_fence(problem))
            try:
                yield hold
            except sa.exc.OperationalError as error:
                if self.sqlite:
                    raise
                # the server runs, but the session ended, and the lock with it
                if self.taken(hold):
                    raise _fenced(hold) from error
                raise self._unreachable(error) from error

    @contextlib.contextmanager
    def _file_lock(self, problem: str) -> Iterator[None]:
        # a prefix of its own: a problem may be called "schema" or "mlflow", as other locks are
        lock = filelock.FileLock(self._lock_file(f"problem-{problem}"), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise self._busy(problem) from None
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _advisory_lock(self, problem: str) -> Iterator[None]:
        number = _lock_number(f"automl:{problem}")
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(number))):
                raise self._busy(problem)
            try:
                yield
            finally:
                with contextlib.suppress(sa.exc.DBAPIError):  # a session that is gone holds no lock
                    connection.scalar(sa.select(sa.func.pg_advisory_unlock(number)))

    def _busy(self, problem: str) -> BusyError:
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(t.fence).where(t.fence.c.problem == problem)).first()
        holder = (
            f"{row.holder} since {row.since:%Y-%m-%d %H:%M:%S} UTC" if row else "another process"
        )
        return BusyError(
            f"{problem}: held by {holder}",
            code="busy",
            next_step="Wait for it to end; a process that dies releases its lock.",
        )

    def _next_fence(self, problem: str) -> int:
        holder = {
            "holder": f"process {os.getpid()} on {socket.gethostname()}",
            "since": naive(now()),
        }
        with self.writer.begin() as connection:
            value = connection.scalar(
                sa.select(t.fence.c.value).where(t.fence.c.problem == problem)
            )
            if value is None:
                connection.execute(t.fence.insert().values(problem=problem, value=1, **holder))
                return 1
            connection.execute(
                t.fence.update()
                .where(t.fence.c.problem == problem)
                .values(value=value + 1, **holder)
            )
            return int(value) + 1

    @contextlib.contextmanager
    def commit(self, hold: Hold) -> Iterator[sa.Connection]:
        """One transaction that fails if another process has taken the lock since."""
        with self.writer.begin() as connection:
            unchanged = connection.execute(
                t.fence.update()
                .where(t.fence.c.problem == hold.problem, t.fence.c.value == hold.fence)
                .values(value=hold.fence)
            )
            if unchanged.rowcount != 1:
                raise _fenced(hold)
            yield connection

    def taken(self, hold: Hold) -> bool:
        """Whether another process has held the lock since, and has taken over the work."""
        query = sa.select(t.fence.c.value).where(t.fence.c.problem == hold.problem)
        return self._read(lambda connection: connection.scalar(query)) != hold.fence

    def require(self, hold: Hold) -> None:
        """Raise BusyError if another process has taken over; called before MLflow, which has no fence, is written to."""
        if self.taken(hold):
            raise _fenced(hold)

    def _all(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        return self._read(lambda connection: connection.execute(query).all())

    def _read(self, query: Callable[[sa.Connection], T]) -> T:
        try:
            with self.engine.connect() as connection:
                return query(connection)
        except sa.exc.OperationalError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: sa.exc.DBAPIError) -> UnreachableError:
        return self.unreachable(self.workspace, error.orig or error)

    @staticmethod
    def unreachable(workspace: Workspace, error: BaseException) -> UnreachableError:
        """The error for a database that does not answer, or refuses to be written to."""
        message = " ".join(redact(str(error)).split())
        check = "the rights and space of the workspace folder"
        if not workspace.database_url.startswith("sqlite"):
            check = "that PostgreSQL runs, and AUTOML_DATABASE_URL"
        return UnreachableError(
            f"the store {redact(workspace.database_url)} cannot be used: {message}",
            code="store_unreachable",
            next_step=f"Check {check}; then run the same command again.",
        )


def open_engine(workspace: Workspace) -> sa.Engine:
    """Connections to the database of a store, made when they are used.

    Raises
    ------
    ProblemError
        The address is no database that a store may be in, or its driver is missing.
    """
    url = _checked_url(workspace.database_url)
    sqlite = url.get_backend_name() == "sqlite"
    try:
        return sa.create_engine(
            url,
            connect_args={"timeout": 20} if sqlite else {"connect_timeout": 5},
            hide_parameters=True,  # they are rows, and error messages are stored and shown
        )
    except ImportError as error:
        raise ProblemError(
            f"AUTOML_DATABASE_URL {redact(workspace.database_url)}: {error}",
            code="no_driver",
            next_step=f"Install its driver: {driver_package(error, url.get_backend_name())}",
        ) from error


def _checked_url(text: str) -> sa.URL:
    wanted = "wanted sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    try:
        url = sa.make_url(with_driver(text))
    except (sa.exc.ArgumentError, ValueError):
        url = None
    if url is None or url.drivername not in _DRIVERS:
        found = redact(text) if url is not None else "no database URL"
        raise ProblemError(
            f"AUTOML_DATABASE_URL: found {found}; {wanted}",
            code="store_url",
            next_step="Fix AUTOML_DATABASE_URL, or unset it to keep the store in the workspace.",
        )
    return url


def _locked(error: filelock.Timeout) -> UnreachableError:
    return UnreachableError(
        f"another command has held {error.lock_file} for {OPENING_SECONDS} s",
        code="workspace_locked",
        next_step="See which process holds it (fuser FILE); then run the same command again.",
    )


def schema_of(connection: sa.Connection) -> tuple[int | None, bool]:
    """The schema's version, None without one, and whether every table of this version is there."""
    tables = set(sa.inspect(connection).get_table_names())
    found = connection.scalar(sa.select(t.meta.c.version)) if t.meta.name in tables else None
    return found, found == t.SCHEMA_VERSION and tables.issuperset(t.metadata.tables)


def _lock_number(name: str) -> int:
    """The number of a lock in PostgreSQL; `automl:NAME` is that of a problem."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _fenced(hold: Hold) -> BusyError:
    return BusyError(
        f"{hold.problem}: another run has taken over; nothing was committed",
        code="fenced",
        next_step="Nothing to do: the result of the other run is in place.",
    )


def _use_wal(engine: sa.Engine) -> None:
    """Let readers never wait for the writer, and writers take the write lock when they begin."""

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions below, not the driver
        connection.execute("pragma journal_mode = wal")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("begin immediate" if writing else "begin")


def _name_disk_errors(engine: sa.Engine, folder: Path) -> None:
    """Let a disk that is full or not writable be a `DiskError` wherever the store is read or written."""

    @sa.event.listens_for(engine, "handle_error")
    def handle(context: sa.ExceptionContext) -> BaseException | None:
        place = Path(str(engine.url.database))
        # without its folder the database is not there at all
        return disk_error(context.original_exception, folder) if place.parent.is_dir() else None
