"""Cleaning a history keeps what is referred to; a killed pull leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from automl.history import clean, read
from tests.support.audited_history import CHANGED, ROOT, ROWS, begun, files, hours, keys, moment
from tests.support.audited_history import small_parts as small_parts  # a fixture
from tests.support.changing_source import execute, folders, insert, newest, pulled


def test_cleaning_keeps_what_is_referred_to_and_the_newest(tmp_path: Path) -> None:
    problem = begun(tmp_path, **CHANGED)
    digests = []
    for number in range(6):
        stamp = f"{moment(ROWS + number + 1):%Y-%m-%d %H:%M:%S.%f}"
        execute(tmp_path, f"update rows set x = -{number}, changed = '{stamp}' where id = 10")
        digests.append(pulled(problem, moment(ROWS + number + 2)))
    (folders(problem).parts / "orphan.parquet").write_bytes(b"x" * 10)
    before = {s.digest: read(s) for s in digests}
    freed = clean(folders(problem), {digests[1].digest}, keep=2)
    assert freed > 10
    for snapshot in (digests[1], *digests[-2:]):
        pd.testing.assert_frame_equal(read(snapshot), before[snapshot.digest])
    assert not digests[0].path.exists()
    assert not (folders(problem).parts / "orphan.parquet").exists()
    named = {
        p["name"]
        for f in folders(problem).snapshots.iterdir()
        for p in json.loads(f.read_text())["parts"]
    }
    assert {f.stem for f in folders(problem).parts.iterdir()} == named
    assert clean(folders(problem), {digests[1].digest}, keep=2) == 0
    pulled(problem, moment(ROWS + 20))
    assert newest(problem).full == ""


KILLED = """
import sys, time
from automl.history.storage import writer
from automl.problem import load_problem
from tests.support import audited_history, changing_source
writer.PART_ROWS = 50
write = writer.pq.write_table
def slowly(table, file, **options):
    write(table, file, **options)
    print("written", file, flush=True)
    time.sleep(60)
writer.pq.write_table = slowly
changing_source.pulled(load_problem(sys.argv[1]), audited_history.moment(600))
"""


def test_a_killed_pull_has_no_effect_and_its_leftovers_go(tmp_path: Path) -> None:
    problem = begun(tmp_path)
    insert(tmp_path, hours(100, ROWS))
    history, before = folders(problem), files(problem)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(problem.file)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert "written" in process.stdout.readline()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    left = [f for f in history.parts.iterdir() if f.suffix == ".tmp"]
    assert len(left) == 1
    assert newest(problem).as_of == moment(ROWS)
    unfinished = history.parts / f"live.{os.getpid()}.tmp"
    unfinished.write_bytes(b"x")
    clean(history, ())
    assert not left[0].exists()
    assert unfinished.exists(), "a living process writes it"
    os.utime(unfinished, (time.time() - 4000,) * 2)
    clean(history, ())
    assert files(problem) == before
    assert keys(pulled(problem, moment(600))) == set(range(580))


def test_parts_are_whole_days_in_order(tmp_path: Path) -> None:
    problem = begun(tmp_path)
    content = json.loads(
        (folders(problem).snapshots / f"{newest(problem).snapshot[:24]}.json").read_text()
    )
    ends = [(p["first"], p["last"]) for p in content["parts"]]
    days = np.array([d for p in content["parts"] for d in p["days"]])
    assert len(ends) > 5
    assert (days[:-1] < days[1:]).all(), "no day lies in two parts"
    assert timedelta(0) < datetime.fromisoformat(ends[1][0]) - datetime.fromisoformat(ends[0][1])
