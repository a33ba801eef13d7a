"""The backup and the restore that the docs describe, run as they are written there."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from automl import report
from automl.cycles.options import RunOptions
from automl.errors import BusyError
from automl.problem import load_problem
from automl.score import score
from automl.store import Store
from automl.workspace import now, open_workspace
from tests.support.old_workspace import NEXT, add_week, open_old_workspace
from tests.support.postgres import PostgresServer

PAGE = Path(__file__).parents[2] / "docs" / "upgrading.md"
needs_commands = pytest.mark.skipif(
    not (shutil.which("flock") and shutil.which("sqlite3")),
    reason="the documented commands need flock and sqlite3",
)


def documented(heading: str) -> str:
    """The commands below a heading of the page, for the problem `returns`."""
    found = re.search(
        rf"## {heading}\n.*?```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None
    return found[1].replace("flight-delays", "returns")


def documented_call(program: str, url: str) -> str:
    """The call of a program that the page's prose names, with its URL."""
    found = re.search(rf"`({program} [^`]+)`", PAGE.read_text(encoding="utf-8"))
    assert found is not None
    return found[1].replace("URL", f"'{url}'")


def run(commands: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands in a folder, with `automl` on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-ec", commands],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def seen(file: Path, at: datetime) -> dict[str, Any]:
    """What people and readers see of a workspace."""
    problem, workspace = load_problem(file), open_workspace(file)
    with sqlite3.connect(workspace.home / "automl.db") as connection:
        rows = connection.execute("select * from returns order by order_id").fetchall()
        past = connection.execute("select count(*) from returns_history").fetchone()
    return {
        "status": report.status(problem, workspace),
        "champion": report.champion(problem, workspace, at),
        "why": report.why(problem, workspace, None),
        "rows": rows,
        "past": past,
    }


@needs_commands
def test_a_restored_backup_shows_and_does_what_the_workspace_did(tmp_path: Path) -> None:
    file = open_old_workspace(tmp_path)
    Store(open_workspace(file)).engine.dispose()  # brings the store up to date
    moment = now()
    before = seen(file, moment)
    assert len(before["rows"]) == 168

    saved = run(documented("Back up"), file.parent)
    assert saved.returncode == 0, saved.stderr
    shutil.rmtree(file.parent)
    file.parent.mkdir()
    restored = run(documented("Restore"), file.parent)
    assert restored.returncode == 0, restored.stderr

    assert seen(file, moment) == before
    add_week(file.with_name("orders.csv"))
    done = score(load_problem(file), open_workspace(file), RunOptions(as_of=NEXT))
    assert (done.status, done.rows) == ("published", 168)
    assert done.model_version == before["champion"]["champion"]["model_version"]


@needs_commands
def test_no_cycle_starts_during_a_backup_and_no_backup_during_a_cycle(tmp_path: Path) -> None:
    file = open_old_workspace(tmp_path)
    store = Store(open_workspace(file))
    with store.hold("returns"):
        assert run(documented("Back up"), file.parent).returncode == 1
    assert not (tmp_path / "backup" / "automl.db").exists()
    lock = open_workspace(file).lock("problem-returns")
    with subprocess.Popen(
        ["flock", "--nonblock", str(lock), "sh", "-c", "echo held; read end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as backup:
        assert backup.stdout is not None
        assert backup.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="returns: "), store.hold("returns"):
            pass
        backup.communicate("\n")


@pytest.mark.skipif(not shutil.which("pg_dump"), reason="the documented commands need pg_dump")
def test_a_store_in_postgresql_is_restored_from_its_dump(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.new_database()
    workspace = replace(open_workspace(tmp_path / "problem.toml"), database_url=url)
    with Store(workspace).hold("returns") as hold:
        fence = hold.fence
    address = url.replace("postgresql+psycopg://", "postgresql://")
    (tmp_path / "backup").mkdir()
    (tmp_path / "site").mkdir()
    saved = run(documented_call("pg_dump", address), tmp_path / "site")
    assert saved.returncode == 0, saved.stderr
    with Store(workspace).hold("returns") as hold:
        assert hold.fence == fence + 1, "after the backup"
    restored = run(documented_call("pg_restore", address), tmp_path / "site")
    assert restored.returncode == 0, restored.stderr
    with Store(workspace).hold("returns") as hold:
        assert hold.fence == fence + 1, "from the backup"
