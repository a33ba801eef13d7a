"""Processes of our own: what the server has imported, none of them imports again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENGINE = """
import heavy
from automl import children

if __name__ == "__main__":
    del children.PRELOADED[1:]
    for _ in range(3):
        child = children.context().Process(target=int)
        child.start()
        child.join()
"""


@pytest.mark.parametrize(
    ("file", "started", "imports"),
    [
        ("engine.py", "engine", 2),
        ("shop/engine.py", "shop.engine", 2),
        ("engine/__main__.py", "engine", 1),
    ],
)
def test_what_python_was_started_with_is_imported_once_for_all_children(
    tmp_path: Path, file: str, started: str, imports: int
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(ENGINE, encoding="utf-8")
    heavy = 'import os\nwith open("imported", "a") as file:\n    print(os.getpid(), file=file)\n'
    (tmp_path / "heavy.py").write_text(heavy, encoding="utf-8")

    command, environment = [sys.executable, "-m", started], {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )

    importers = (tmp_path / "imported").read_text(encoding="utf-8").split()
    assert len(importers) == len(set(importers)) == imports  # itself, and the server
    assert not done.stderr
