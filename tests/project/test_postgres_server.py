"""The server that tests run on is real, theirs alone, survives a crash and outlives no session."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import adbc_driver_postgresql.dbapi
import pytest
import sqlalchemy as sa

from tests.support.postgres import PostgresServer, PrivateServer, find_binaries, open_server

ROOT = Path(__file__).parents[2]
CUT_OFF = r"terminating connection|server closed the connection"


def _execute(url: str, *statements: str) -> object:
    """Run statements in one transaction on a fresh connection; returns the last one's first value."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        results = [connection.execute(sa.text(statement)) for statement in statements]
        return results[-1].scalar() if results[-1].returns_rows else None


def test_the_server_answers_and_is_new_enough(postgres: PostgresServer) -> None:
    with postgres.superuser.connect() as connection:
        assert connection.scalar(sa.text("select 6 * 7")) == 42
        assert int(connection.scalar(sa.text("show server_version_num"))) >= 130000


def test_new_databases_are_empty_and_separate(postgres: PostgresServer) -> None:
    one, other = postgres.new_database(), postgres.new_database()
    assert one != other
    _execute(one, "create table parcels as select 1 as parcel")
    tables = "select count(*) from pg_tables where schemaname = 'public'"
    assert (_execute(one, tables), _execute(other, tables)) == (1, 0)


def test_a_database_is_known_by_its_name(postgres: PostgresServer) -> None:
    name = sa.make_url(postgres.new_database()).database
    assert name is not None
    assert _execute(postgres.url(name), "select current_database()") == name


def test_adbc_reads_from_the_same_address(postgres: PostgresServer) -> None:
    url = sa.make_url(postgres.new_database()).set(drivername="postgresql")
    with (
        adbc_driver_postgresql.dbapi.connect(
            url.render_as_string(hide_password=False)
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("select generate_series(1, 3) as parcel")
        assert cursor.fetch_arrow_table().to_pydict() == {"parcel": [1, 2, 3]}


def test_an_immediate_stop_keeps_what_was_committed_and_nothing_else(
    postgres: PostgresServer,
) -> None:
    url = postgres.new_database()
    _execute(url, "create table parcels (parcel int)", "insert into parcels values (1)")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    connection = engine.connect()
    connection.execute(sa.text("insert into parcels values (2)"))
    postgres.stop_immediate()
    with pytest.raises(sa.exc.OperationalError, match=CUT_OFF):
        connection.execute(sa.text("insert into parcels values (3)"))
    connection.close()
    with pytest.raises(sa.exc.OperationalError, match="No such file"):
        _execute(url, "select 1")
    postgres.start()
    assert _execute(url, "select array_agg(parcel) from parcels") == [1]


def test_a_server_left_stopped_is_started_for_the_next_database(postgres: PostgresServer) -> None:
    postgres.stop_immediate()
    assert _execute(postgres.new_database(), "select 1") == 1
    postgres.start()  # already running, hence left alone


@pytest.mark.parametrize("origin", ["debian", "locked"])
def test_every_origin_serves_and_leaves_nothing_behind(origin: str) -> None:
    found = find_binaries()
    if origin == "debian" and origin not in found:
        pytest.skip(
            "Debian's package postgresql is not installed; the lock file's server always is"
        )
    with open_server(found[origin]) as server:
        assert isinstance(server, PrivateServer)
        url = server.new_database()
        assert _execute(url, "show timezone") == "UTC"
        assert _execute(url, "show listen_addresses") == "", "no port is open"
        assert _execute(url, "select 'B' < 'a'") is True, "texts are compared by their bytes"
        owner = (server.folder / "data" / "postmaster.pid").stat().st_uid
        assert owner == (os.geteuid() or owner) != 0, (
            "never root, else the account that runs the tests"
        )
        assert server.folder.stat().st_mode & 0o077 == 0, "no other account reaches the socket"
    assert not server.folder.exists()
    with pytest.raises(sa.exc.OperationalError, match="No such file"):
        _execute(url, "select 1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only for root the server runs as another account")
def test_binaries_closed_to_the_other_account_are_copied(tmp_path: Path) -> None:
    binaries = find_binaries()["locked"]
    site = binaries.parents[2]
    for part in site.glob(f"{binaries.parents[1].name}*"):
        (tmp_path / part.name).symlink_to(part)  # pytest's folders are open to their owner alone
    with open_server(tmp_path / binaries.relative_to(site)) as server:
        assert isinstance(server, PrivateServer)
        assert _execute(server.new_database(), "select 1") == 1
        assert (server.folder / "copy").is_dir()


def test_a_killed_session_leaves_no_server() -> None:
    script = (
        "import time\n"
        "from tests.support.postgres import find_binaries, open_server\n"
        "with open_server(find_binaries()['locked']) as server:\n"
        "    print(server.folder, server.new_database(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdout is not None
        folder, url = session.stdout.readline().split()
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            session.kill()
            deadline = time.monotonic() + 30
            while Path(folder).exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not Path(folder).exists()
            with pytest.raises(sa.exc.OperationalError, match=CUT_OFF):
                connection.execute(sa.text("select 1"))


def test_a_named_server_is_neither_stopped_nor_littered() -> None:
    with open_server(find_binaries()["locked"]) as host:
        with host.superuser.connect() as connection:
            connection.execute(sa.text("create role guest login createdb"))
        address = host.superuser.url.set(username="guest")
        with closing(PostgresServer(address)) as named:
            assert _execute(named.new_database(), "select current_user") == "guest"
            with pytest.raises(
                pytest.skip.Exception, match=r"AUTOML_TEST_POSTGRES .* not ours to stop"
            ):
                named.stop_immediate()
            with pytest.raises(pytest.skip.Exception, match="not ours to start"):
                named.start()
        count = "select count(*) from pg_database where datname like 'test%'"
        assert _execute(host.url("postgres"), count) == 0


def test_without_any_server_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"no PostgreSQL server: .* `make setup` installs it"):
        find_binaries(debian=tmp_path, package="no_such_package")
