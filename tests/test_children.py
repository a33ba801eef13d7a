"""Processes of our own: what the server has imported, none of them imports again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGINE = """
import heavy
from automl import children

if __name__ == "__main__":
    children.PRELOADED.clear()
    for _ in range(3):
        child = children.context().Process(target=int)
        child.start()
        child.join()
"""


@pytest.mark.parametrize("package", [False, True])
def test_what_python_was_started_with_is_imported_once_for_all_children(
    tmp_path: Path, package: bool
) -> None:
    file = tmp_path / "engine" / "__main__.py" if package else tmp_path / "engine.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(ENGINE, encoding="utf-8")
    heavy = 'import os\nwith open("imported", "a") as file:\n    print(os.getpid(), file=file)\n'
    (tmp_path / "heavy.py").write_text(heavy, encoding="utf-8")

    subprocess.run(
        [sys.executable, "-m", "engine"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True
    )

    importers = (tmp_path / "imported").read_text(encoding="utf-8").split()
    assert len(importers) == len(set(importers)) == (1 if package else 2)  # itself, and the server
