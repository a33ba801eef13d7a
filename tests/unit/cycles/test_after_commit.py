"""After a commit a failing disk is reported at the end, once every step was tried."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from automl.cycles.after_commit import AfterCommit
from automl.cycles.result import CycleResult
from automl.errors import BusyError, DiskError


def result_of(after: AfterCommit) -> CycleResult:
    return after.ended(
        CycleResult(problem=None, as_of=None, status="published", reason="", warnings=["first"])  # type: ignore[arg-type]
    )


def test_a_full_disk_lets_the_other_steps_run_and_is_raised_at_the_end(tmp_path: Path) -> None:
    after, tried = AfterCommit(tmp_path), []
    for number in (errno.ENOSPC, 0):
        with after.trying(f"step {number} is missing", needed=True):
            tried.append(number)
            if number:
                raise OSError(number, "No space left on device")

    assert tried == [errno.ENOSPC, 0]
    with pytest.raises(DiskError, match="after the commit: step 28 is missing") as caught:
        result_of(after).require_finished()
    assert caught.value.code == "disk_full"


def test_other_failures_are_warnings_unless_the_step_is_needed(tmp_path: Path) -> None:
    after = AfterCommit(tmp_path)
    with after.trying("MLflow is not up to date"):
        raise ValueError("no answer\nmore lines")
    with (
        pytest.raises(BusyError, match="taken over"),
        after.trying("nothing is deleted", needed=True),
    ):
        raise BusyError("taken over")

    assert result_of(after).require_finished().warnings == [
        "first",
        "MLflow is not up to date: no answer",
    ]
