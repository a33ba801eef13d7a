"""A file is replaced as a whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from automl.files import ABANDONED_SECONDS, is_abandoned, replacing, write_json


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path: Path) -> None:
    file = tmp_path / "entry.json"
    file.write_text("old", encoding="utf-8")
    with replacing(file) as aside:
        aside.write_text("new", encoding="utf-8")
        assert file.read_text(encoding="utf-8") == "old"
    assert file.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "entry.json"
    write_json(file, {"rows": 1})

    def write_half() -> None:
        with replacing(file) as aside:
            aside.write_text("half", encoding="utf-8")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_half()
    assert json.loads(file.read_text(encoding="utf-8")) == {"rows": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_an_unfinished_file_is_abandoned_when_its_process_is_dead_or_it_is_old(
    tmp_path: Path,
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    dead = tmp_path / f"part.{process.pid}.tmp"
    living = tmp_path / f"part.{os.getpid()}.tmp"
    for file in (dead, living):
        file.touch()
    assert is_abandoned(dead)
    assert not is_abandoned(living)
    old = time.time() - ABANDONED_SECONDS - 1
    os.utime(living, (old, old))
    assert is_abandoned(living)
    assert not is_abandoned(tmp_path / "gone.1.tmp")
