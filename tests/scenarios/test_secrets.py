"""Ten secrets of odd letters, planted wherever one may stand: no part of one in any output or file."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.commands import Done, Launcher
from tests.support.failing_server import failing
from tests.support.parcels import write_problem
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
    for stored in tmp_path.rglob("*"):
        if stored.is_file():
            text = stored.read_bytes().decode("utf-8", "replace")
            assert not shown_parts(secret, text), stored
