"""Ten secrets of odd letters, planted wherever one may stand: no part of one in any output or file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from automl.redaction import basic
from tests.support.commands import Done, Launcher
from tests.support.failing_server import failing
from tests.support.parcels import make_world, write_problem
from tests.support.postgres import GUARDED, PostgresServer
from tests.support.secrets import SECRETS, shown_parts

SOURCE = 'source      = "sqlite:///world.db"\nquery       = "select * from parcels"'
DATABASE = 'source = "postgresql://app:${{APPPW}}@{host}:9/app"\nquery = "select * from parcels"'
RAISING = """
import os
def rows(as_of, until):
    raise RuntimeError(f"no login as app:{os.environ['APPPW']} at {os.environ['APPPW'].rpartition('@')[2]}")
"""


@pytest.mark.slow  # fourteen commands for each of ten secrets
@pytest.mark.parametrize("secret", SECRETS)
def test_no_part_of_a_secret_is_shown_or_stored(
    secret: str, tmp_path: Path, launcher: Launcher
) -> None:
    quoted = quote(secret, safe="")

    def run(expected: tuple[int, ...], *arguments: str, **environment: str) -> Done:
        done = launcher.run(*arguments, at=tmp_path, **environment)
        assert done.code in expected, done.err
        assert not shown_parts(secret, done.out + done.err), arguments
        return done

    for host in ("127.0.0.1", "nowhere.invalid"):
        source = DATABASE.format(host=host)
        file = str(write_problem(tmp_path, replace={SOURCE: source}))
        run((0,), "check", file, APPPW=secret)
        run((5,), "cycle", file, "--json", "--debug", APPPW=secret)
    run((2,), "cycle", file, "--debug")
    file = str(write_problem(tmp_path, replace={SOURCE: 'python = "raising:rows"'}))
    (tmp_path / "raising.py").write_text(RAISING, encoding="utf-8")
    run((3,), "cycle", file, "--json", "--debug", APPPW=secret)
    run((0,), "status", file, "--json", APPPW=secret)
    file = str(write_problem(tmp_path))
    for password in {secret, quoted}:
        url = f"postgresql://me:{password}@127.0.0.1:9/automl"
        run((2, 5), "status", file, "--debug", AUTOML_DATABASE_URL=url)
        run((2, 5), "cycle", file, "--json", AUTOML_DATABASE_URL=url)
        login = f"http://bob:{password}@127.0.0.1:9"
        run((0,), "ui", file, MLFLOW_TRACKING_URI=login)
        run((5,), "cycle", file, "--json", "--debug", MLFLOW_TRACKING_URI=login)
    run((1,), "doctor", file, "--json", MLFLOW_TRACKING_URI=login)
    with failing("401") as uri:
        run((5,), "retrain", file, "--debug", MLFLOW_TRACKING_URI=uri, MLFLOW_TRACKING_TOKEN=secret)
    refuse_stored(secret, tmp_path)


def refuse_stored(secret: str, folder: Path) -> None:
    """No file of the folder holds a part of the secret."""
    for stored in folder.rglob("*"):
        if stored.is_file():
            text = stored.read_bytes().decode("utf-8", "replace")
            assert not shown_parts(secret, text), stored


def guarded_databases(postgres: PostgresServer, secret: str) -> tuple[str, str]:
    """Addresses of a database of parcels and of an empty one, for a role with a password; `{}` stands for it."""
    source, store = postgres.new_database(), postgres.new_database()
    engine = sa.create_engine(source, poolclass=sa.NullPool)
    make_world().drop(columns=["fate", "hours"]).to_sql("parcels", engine, index=False)
    with postgres.superuser.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("select 1 from pg_roles where rolname = 'guarded'")
        if not cursor.fetchone():
            cursor.execute(f"create role {GUARDED} login")
        cursor.execute("select format('alter role guarded password %%L', %s::text)", (secret,))
        cursor.execute(cursor.fetchone()[0])
    for url in (source, store):
        with sa.create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(sa.text(f"grant all on schema public to {GUARDED}"))
            connection.execute(sa.text(f"grant all on all tables in schema public to {GUARDED}"))
    urls = [
        sa.make_url(u).set(username=GUARDED, password="PW").render_as_string(hide_password=False)
        for u in (source, store)
    ]
    first, second = (u.replace(":PW@", ":{}@", 1) for u in urls)
    return first, second


@pytest.mark.slow  # a cycle and a dozen commands for each of ten secrets
@pytest.mark.parametrize("secret", SECRETS)
def test_a_cycle_on_databases_with_a_password_shows_and_stores_no_part_of_it(
    secret: str, tmp_path: Path, launcher: Launcher, postgres: PostgresServer
) -> None:
    source, store = guarded_databases(postgres, secret)
    where = source.format("${APPPW}")
    edits = {
        "sqlite:///world.db": where,
        "trials   = 4": "trials   = 2",
        "[validation]": '[publish]\nparquet = "out"\n\n[validation]',
    }
    file = str(write_problem(tmp_path, replace=edits))
    (tmp_path / "world.db").unlink()
    quoted = quote(secret, safe="")
    right = {
        "APPPW": secret,
        "AUTOML_DATABASE_URL": store.format(quoted),
        "MLFLOW_TRACKING_USERNAME": "bob",
        "MLFLOW_TRACKING_PASSWORD": secret,
    }
    sent = basic("bob", secret), basic(GUARDED, secret)

    def run(code: int, *arguments: str, **environment: str) -> None:
        done = launcher.run(*arguments, at=tmp_path, **{**right, **environment})
        text = done.out + done.err
        assert done.code == code, text
        assert not shown_parts(secret, text), arguments
        assert not any(s in text for s in sent), arguments

    as_of = ("--as-of", "2026-03-02")
    run(3, "cycle", file, *as_of, "--json", "--debug", APPPW=f"{secret}x")
    run(5, "cycle", file, *as_of, AUTOML_DATABASE_URL=store.format(f"{quoted}x"))
    run(5, "status", file, "--debug", AUTOML_DATABASE_URL=store.format(f"{quoted}x"))
    gone = store.format(quoted).replace("/test_", "/gone_")
    run(5, "status", file, "--json", AUTOML_DATABASE_URL=gone)
    run(3, "check", file, "--data", "--json", APPPW=f"{secret}x")
    run(0, "cycle", file, *as_of, "--debug")
    for command in ("status", "why", "history", "contract", "champion", "leaderboard", "doctor"):
        run(0, command, file, "--json")
        run(0, command, file)
    run(0, "check", file, "--data", "--json")
    refuse_stored(secret, tmp_path)
    for url in (store.format(quoted),):
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            for name in sa.inspect(connection).get_table_names():
                rows = connection.execute(sa.text(f'select * from "{name}"')).all()
                assert not shown_parts(secret, str(rows)), name


FLOW = """
from flows.pipelines import cycle
cycle("{file}", "2026-03-02")
"""


@pytest.mark.slow  # Prefect starts
@pytest.mark.parametrize("secret", [SECRETS[0]])
def test_a_flow_logs_and_stores_no_part_of_a_secret(secret: str, tmp_path: Path) -> None:
    file = write_problem(tmp_path, replace={SOURCE: 'python = "raising:rows"'})
    (tmp_path / "raising.py").write_text(RAISING, encoding="utf-8")
    settings = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    done = subprocess.run(
        [sys.executable, "-c", FLOW.format(file=file)],
        env={**os.environ, **settings, "APPPW": secret, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "no login as app:***" in done.stderr
    assert not shown_parts(secret, done.stdout + done.stderr)
    refuse_stored(secret, tmp_path)
