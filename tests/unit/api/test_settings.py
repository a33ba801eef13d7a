"""Threads are limited before numpy loads, or the caller hears of it, once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.parcels import write_problem

ROOT = Path(__file__).parents[3]
OPENED = """
import sys, types, warnings
{before}
warnings.simplefilter("always")
import automl
for _ in range(2):
    automl.open_project(sys.argv[1])
import numpy, os
from threadpoolctl import threadpool_info
print([p["num_threads"] for p in threadpool_info()], os.environ["OMP_WAIT_POLICY"])
"""


def opened(tmp_path: Path, before: str = "", **environment: str) -> tuple[str, str]:
    """Output and errors of a fresh process that opens a project."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "OPENBLAS_"))}
    done = subprocess.run(
        [sys.executable, "-c", OPENED.format(before=before), str(write_problem(tmp_path))],
        env={**clean, **environment, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip(), done.stderr


def test_opening_a_project_limits_threads_before_numpy_loads(tmp_path: Path) -> None:
    assert opened(tmp_path) == ("[1] PASSIVE", "")


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    assert opened(tmp_path, OPENBLAS_NUM_THREADS="2", OMP_WAIT_POLICY="ACTIVE") == (
        "[2] ACTIVE",
        "",
    )


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has one thread")
def test_a_library_that_was_imported_before_is_warned_of_once(tmp_path: Path) -> None:
    _, errors = opened(tmp_path, 'sys.modules["lightgbm"] = types.ModuleType("lightgbm")')

    assert (
        errors.count("RuntimeWarning: lightgbm was imported before automl set OMP_NUM_THREADS=1")
        == 1
    )
    assert "<string>:" in errors  # the caller's line


def test_no_warning_where_the_user_has_set_threads(tmp_path: Path) -> None:
    before = 'sys.modules["lightgbm"] = types.ModuleType("lightgbm")'

    assert opened(tmp_path, before, OMP_NUM_THREADS="1")[1] == ""
