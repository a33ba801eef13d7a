"""What a pull writes, compares, repairs and cleans; and when it reads everything again."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automl.errors import HistoryError
from automl.history import pull, read
from automl.history.contract import infer, save_contract
from automl.history.sources import base
from automl.problem import Problem
from automl.workspace import open_workspace
from tests.support.audited_history import (
    APPEND,
    CHANGED,
    ROOT,
    ROWS,
    begun,
    files,
    hours,
    keys,
    moment,
)
from tests.support.audited_history import small_parts as small_parts  # a fixture
from tests.support.changing_source import (
    DAY,
    HOUR,
    NONE,
    START,
    Row,
    differences,
    execute,
    folders,
    insert,
    newest,
    pulled,
    some_row,
    truth,
    write_problem,
)

# ---------------------------------------------------------------- what is written


def test_a_pull_that_brings_nothing_new_writes_nothing(tmp_path: Path) -> None:
    problem = begun(tmp_path)
    before, first = files(problem), newest(problem)
    snapshot = pulled(problem, moment(ROWS + 1))
    record = newest(problem)
    assert (record.full, record.bytes_written, files(problem)) == ("", 0, before)
    assert snapshot.digest == first.snapshot
    assert (record.new, record.updated, record.late, record.deleted) == (0, 0, 0, 0)
    assert record.fetched < 100, "a day of overlap, not everything"


def test_parts_that_do_not_change_keep_their_files(tmp_path: Path) -> None:
    problem = begun(tmp_path, **CHANGED)
    before = files(problem)
    insert(tmp_path, hours(30, ROWS))
    stamp = f"{moment(ROWS + 20):%Y-%m-%d %H:%M:%S.%f}"
    execute(tmp_path, f"update rows set x = 99.5, changed = '{stamp}' where id = 100")
    pulled(problem, moment(ROWS + 40))
    record = newest(problem)
    assert (record.new, record.updated, record.full) == (30, 1, "")
    after = files(problem)
    assert before.items() <= after.items()
    assert len(after) - len(before) in (2, 3), "the part of row 100, and the newest"
    assert record.bytes_written == sum(
        (folders(problem).parts / n).stat().st_size for n in after.keys() - before.keys()
    )
    assert record.bytes_total > record.bytes_written > 0


def test_what_an_update_says_again_is_no_update(tmp_path: Path) -> None:
    problem = begun(tmp_path, **CHANGED)
    stamp = f"{moment(ROWS + 1):%Y-%m-%d %H:%M:%S.%f}"
    execute(tmp_path, f"update rows set changed = '{stamp}' where id between 100 and 104")
    digest = newest(problem).snapshot
    for hour in (2, 3):
        assert pulled(problem, moment(ROWS + hour)).digest == digest
        assert (newest(problem).updated, newest(problem).repaired) == (0, 0)


# ---------------------------------------------------------------- everything again


def read_in_full(problem: Problem, why: str, **options: Any) -> None:
    snapshot = pulled(problem, moment(ROWS + 5), **options)
    assert why in newest(problem).full
    assert newest(problem).fetched == ROWS
    assert keys(snapshot) <= set(range(ROWS))


def test_an_earlier_as_of_is_read_in_full_and_leaves_later_pulls_right(tmp_path: Path) -> None:
    problem = begun(tmp_path)
    early = pulled(problem, moment(200))
    assert keys(early) == set(range(200))
    earliest = min(folders(problem).pulls.iterdir())
    assert "not later" in json.loads(earliest.read_text())["full"]
    insert(tmp_path, hours(30, ROWS))
    snapshot = pulled(problem, moment(ROWS + 40))
    assert newest(problem).full == ""
    assert keys(snapshot) == set(range(ROWS + 30))


def test_a_changed_contract_reads_everything_again(tmp_path: Path) -> None:
    problem = begun(tmp_path)
    read_in_full(problem, "contract have changed", nulls=("ant",))


def test_a_changed_problem_file_reads_everything_again(tmp_path: Path) -> None:
    begun(tmp_path)
    other = write_problem(tmp_path, **APPEND, label_delay='"1d"')
    read_in_full(other, "problem file or contract have changed")


@pytest.mark.parametrize("part", [0, 4, -1])
def test_a_missing_part_is_brought_again(tmp_path: Path, part: int) -> None:
    problem = begun(tmp_path)
    insert(tmp_path, hours(30, ROWS))
    snapshot = pulled(problem, moment(ROWS + 30))
    names = [p["name"] for p in json.loads(snapshot.path.read_text())["parts"]]
    (folders(problem).parts / f"{names[part]}.parquet").unlink()
    again = pulled(problem, moment(ROWS + 31))
    assert "part of the last snapshot is gone" in newest(problem).full
    assert keys(again) == set(range(ROWS + 30))
    assert again.digest == snapshot.digest


def test_a_column_that_shows_itself_as_text_later_is_text_from_the_start(tmp_path: Path) -> None:
    rows = hours()
    for row in rows:
        row["kind"] = "B12" if row["id"] == 300 else str(row["id"] % 5)
    insert(tmp_path, rows, replace=True)
    problem = write_problem(tmp_path, **APPEND)
    snapshot = pulled(problem, moment(ROWS), kinds=None)
    frame = read(snapshot)
    assert list(frame["kind"].iloc[[0, 300]]) == ["0", "B12"]
    assert snapshot.rows == ROWS
    assert snapshot.digest == pulled(problem, moment(ROWS)).digest


@pytest.fixture
def _whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that show at once which texts are nearly unique."""
    monkeypatch.setattr(base, "CHUNK_ROWS", 1000)


@pytest.mark.usefixtures("_whole")
def test_the_second_cycle_goes_on_from_the_first_that_wrote_the_contract(tmp_path: Path) -> None:
    insert(tmp_path, hours(), replace=True)
    problem = write_problem(tmp_path, **CHANGED)
    workspace = open_workspace(problem.file)
    first = pull(problem, workspace, moment(ROWS))
    contract = infer(read(first), problem, first.unused)
    save_contract(problem, contract)
    pull(
        problem,
        workspace,
        moment(ROWS + 1),
        kinds=contract.kinds(problem),
        nulls=contract.nulls,
    )
    assert newest(problem).full == ""


# ---------------------------------------------------------------- against the source


@pytest.mark.parametrize("policy", ["drop", "keep", "refuse"])
def test_rows_that_are_gone_from_the_source_follow_the_policy(tmp_path: Path, policy: str) -> None:
    problem = begun(tmp_path, **CHANGED, deleted=f'"{policy}"')
    execute(tmp_path, "delete from rows where id in (5, 6, 250)")
    if policy == "refuse":
        before = files(problem)
        with pytest.raises(HistoryError, match="3 rows of 2026-01-05 to 2026-01-15 are gone"):
            pulled(problem, moment(ROWS + 1), verify=True)
        assert newest(problem).as_of == moment(ROWS)
        assert before.items() <= files(problem).items()
        return
    snapshot = pulled(problem, moment(ROWS + 1), verify=True)
    gone = set() if policy == "keep" else {5, 6, 250}
    assert keys(snapshot) == set(range(ROWS)) - gone
    assert newest(problem).deleted == len(gone)
    assert newest(problem).repaired == 2
    assert f"({policy})" in snapshot.warnings[-1]


@pytest.mark.parametrize("policy", ["take", "refuse"])
def test_rows_later_than_the_overlap_are_found_and_follow_the_policy(
    tmp_path: Path, policy: str
) -> None:
    problem = begun(tmp_path, **APPEND, late=f'"{policy}"')
    insert(tmp_path, [some_row(9000, moment(100)), some_row(9001, START - 40 * DAY)])
    if policy == "refuse":
        with pytest.raises(HistoryError, match="2 rows of 2025-11-26 to 2026-01-09 came later"):
            pulled(problem, moment(ROWS + 1), verify=True)
        return
    snapshot = pulled(problem, moment(ROWS + 1), verify=True)
    assert keys(snapshot) == {*range(ROWS), 9000, 9001}
    assert newest(problem).late == 2
    assert "came later than the overlap" in snapshot.warnings[-1]


def test_a_row_in_a_gap_between_parts_is_found(tmp_path: Path) -> None:
    gap = [
        r for r in hours() if not 5 * DAY <= r["at"].replace(tzinfo=START.tzinfo) - START < 9 * DAY
    ]
    insert(tmp_path, gap, replace=True)
    problem = write_problem(tmp_path, **APPEND)
    pulled(problem, moment(ROWS))
    insert(tmp_path, [some_row(9000, START + 7 * DAY)])
    assert 9000 in keys(pulled(problem, moment(ROWS + 1), verify=True))


@pytest.mark.parametrize("step", [1, 24, 7 * 24])
def test_the_rotation_reaches_every_window_in_as_many_pulls_as_there_are(
    tmp_path: Path, step: int
) -> None:
    problem = begun(tmp_path)
    windows = len(list(folders(problem).parts.iterdir()))
    insert(tmp_path, [some_row(9000 + day, START + day * DAY + HOUR / 2) for day in range(18)])
    for number in range(windows):
        pulled(problem, moment(ROWS + step * (number + 1)))
        assert newest(problem).full == ""
    assert keys(pulled(problem, moment(ROWS + step * 50))) >= set(range(9000, 9018))


def test_a_label_that_an_append_only_source_mends_is_found(tmp_path: Path) -> None:
    problem = begun(tmp_path)
    execute(tmp_path, "update rows set y = 1 - y where id = 30")
    snapshot = pulled(problem, moment(ROWS + 1), verify=True)
    assert read(snapshot).set_index("id")["y"][30] == 1
    assert newest(problem).updated == 1


@pytest.mark.parametrize("policy", ["drop", "refuse"])
def test_a_version_that_was_known_stays_when_the_row_changes_after_as_of(
    tmp_path: Path, policy: str
) -> None:
    """A pull at three in the morning, as of midnight: what changed at two is no deleted row."""
    problem = begun(tmp_path, **CHANGED, deleted=f'"{policy}"')
    as_of, later = moment(ROWS + 1), f"{moment(ROWS + 3):%Y-%m-%d %H:%M:%S.%f}"
    digest = newest(problem).snapshot
    execute(tmp_path, f"update rows set x = -1, changed = '{later}' where id in (7, 300, 479)")
    execute(tmp_path, f"update rows set at = '2027-01-01', changed = '{later}' where id = 200")
    assert pulled(problem, as_of, verify=True).digest == digest
    assert newest(problem).deleted == 0
    snapshot = pulled(problem, moment(ROWS + 4))
    assert keys(snapshot) == set(range(ROWS)) - {200}
    assert (read(snapshot).set_index("id")["x"].loc[[7, 300, 479]] == -1).all()


def test_an_as_of_ahead_of_the_clock_loses_nothing(tmp_path: Path) -> None:
    ahead = datetime.now(START.tzinfo) + 30 * DAY
    insert(tmp_path, hours(), replace=True)
    problem = write_problem(tmp_path, **CHANGED)
    pulled(problem, ahead)
    insert(tmp_path, [some_row(9000, datetime.now(START.tzinfo))])
    assert 9000 in keys(pulled(problem, ahead + 30 * DAY))


@pytest.mark.usefixtures("_whole")
def test_verify_on_the_command_line(tmp_path: Path) -> None:
    problem = begun(tmp_path)
    contract = infer(read(pulled(problem, moment(ROWS), kinds=None)), problem, {})
    save_contract(problem, contract)
    execute(tmp_path, "delete from rows where id = 5")
    insert(tmp_path, [some_row(9000, moment(100))])
    command = [
        sys.executable,
        "-m",
        "automl.cli",
        "history",
        str(problem.file),
        "--verify",
        "--json",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    entry = json.loads(done.stdout)["pulls"][0]
    assert (entry["rows"], entry["late"], entry["deleted"], entry["repaired"]) == (ROWS, 1, 1, 2)


def test_rows_set_aside_are_counted_once_and_return_when_they_are_fixed(tmp_path: Path) -> None:
    problem = begun(tmp_path, **CHANGED, quarantine="0.4")
    bad = some_row(9000, moment(ROWS + 1), x="junk")
    insert(tmp_path, [bad, *hours(20, ROWS)])
    for hour in (30, 31, 32):
        snapshot = pulled(problem, moment(ROWS + hour))
        assert snapshot.quarantined == {"kind_changed": 1}
        assert newest(problem).repaired == 0
    stamp = f"{moment(ROWS + 33):%Y-%m-%d %H:%M:%S.%f}"
    execute(tmp_path, f"update rows set x = 1.0, changed = '{stamp}' where id = 9000")
    snapshot = pulled(problem, moment(ROWS + 34))
    assert snapshot.quarantined == {}
    assert 9000 in keys(snapshot)


# ---------------------------------------------------------------- files


def write_file(folder: Path, name: str, rows: list[Row]) -> None:
    frame = pd.DataFrame(rows).drop(columns=["changed", "known_at"])
    frame["x"] = frame["x"].astype("float64")
    (folder / "data").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "data" / name)


@pytest.mark.parametrize("key", ["", '["id"]'])
def test_new_files_are_added_and_old_ones_are_not_read_again(tmp_path: Path, key: str) -> None:
    rows = hours()
    write_file(tmp_path, "200.parquet", rows[:200])
    problem = write_problem(
        tmp_path, 'files = "data/*.parquet"', key=key, ignore="", label_delay='"1d"'
    )
    for number, count in enumerate((200, 330, 330, 480), start=1):
        if not (tmp_path / "data" / f"{count}.parquet").exists():
            first = 200 if count == 330 else 330
            write_file(tmp_path, f"{count}.parquet", rows[first:count])
        snapshot = pulled(problem, moment(count + number))
        wanted = truth(rows[:count], problem, moment(count + number))
        assert differences(snapshot, wanted, ["id"]) == NONE
        assert (newest(problem).full == "") == (number > 1)
    write_file(tmp_path, "200.parquet", rows[:199])
    snapshot = pulled(problem, moment(ROWS + 50))
    assert newest(problem).full
    assert snapshot.rows == ROWS - 1
