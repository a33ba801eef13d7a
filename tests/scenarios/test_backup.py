"""The backup and the restore that the docs describe, run as they are written there."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
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

PAGE = Path(__file__).parents[2] / "docs" / "upgrading.md"
pytestmark = pytest.mark.skipif(
    not (shutil.which("flock") and shutil.which("sqlite3")),
    reason="the documented commands need flock and sqlite3",
)


def documented(heading: str) -> str:
    """The commands below a heading of the page, for the problem `returns`."""
    found = re.search(rf"## {heading}\n.*?```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1].replace("flight-delays", "returns")


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
