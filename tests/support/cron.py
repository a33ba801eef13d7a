"""Debian's cron with crontabs of a test."""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from automl.problem import load_problem
from automl.store import Store
from automl.workspace import open_workspace
from tests.support.parcels import make_world, write_problem
from tests.support.prefect_server import until

__all__ = ["run_cron_until"]

SECONDS = 420
# mounts over the places that cron reads; it runs in the foreground and ends with its namespace
INSIDE = """
mount --bind {spool} /var/spool/cron
mount -t tmpfs none /etc/cron.d
printf '' > {empty}
mount --bind {empty} /etc/crontab
mount -t tmpfs none /run
exec cron -f
"""


def run_cron_until(folder: Path, binaries: Path, root: Path) -> None:
    """Until two slots have cycles; then end cron."""
    first = (datetime.now(UTC) - timedelta(days=20)).replace(hour=0, minute=0, second=0)
    changes = {"[metric]": '[batch]\nhorizon = "1d"\n\n[metric]', "trials   = 4": "trials   = 2"}
    file = write_problem(
        folder, frame=make_world(900, first=first.replace(microsecond=0)), replace=changes
    )
    text = file.read_text("utf-8")
    file.write_text(f'{text}\n[schedule]\nretrain = "* * * * *"\n', "utf-8")
    spool, empty = folder / "spool", folder / "empty"
    (spool / "crontabs").mkdir(parents=True)
    spool.chmod(0o755)
    (spool / "crontabs").chmod(0o1730)
    table = spool / "crontabs" / "root"
    table.write_text(
        f"PATH={binaries}:/usr/bin:/bin\nPYTHONPATH={root}\n"
        f"* * * * *  automl cycle {file} >>{folder}/cron.log 2>&1\n",
        "utf-8",
    )
    table.chmod(0o600)
    script = INSIDE.format(spool=spool, empty=empty)
    cron = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script],
        start_new_session=True,
    )
    problem, store = load_problem(file), Store(open_workspace(file))
    try:
        until(
            lambda: sum(c.ended for c in store.cycles(problem.name, verb="retrain")) >= 2,
            SECONDS,
            lambda: (
                (folder / "cron.log").read_text("utf-8") if (folder / "cron.log").exists() else ""
            ),
        )
    finally:
        os.killpg(cron.pid, signal.SIGKILL)
        cron.wait()
    cycles = store.cycles(problem.name, verb="retrain")
    published = [c for c in cycles if c.ended]
    assert {c.as_of.second for c in cycles} == {0}
    assert len({c.as_of for c in published}) == len(published)
