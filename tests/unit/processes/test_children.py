"""Processes of our own: what the server has imported, none of them imports again, nor `__main__`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GUARD = 'if __name__ == "__main__":'
STARTED = """
import heavy
from automl.processes import children

{guard}
    children.PRELOADED.clear()
    for _ in range(3):
        child = children.context().Process(target=int)
        children.start(child)
        child.join()
        assert child.exitcode == 0
"""
HEAVY = 'import os\nwith open("imported", "a") as file:\n    print(os.getpid(), file=file)\n'


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("engine.py", ["-m", "engine"]),
        ("shop/engine.py", ["-m", "shop.engine"]),
        ("engine/__main__.py", ["-m", "engine"]),
        ("script.py", ["script.py"]),
    ],
)
@pytest.mark.parametrize("guard", [GUARD, "if True:"], ids=["guarded", "without a guard"])
def test_no_worker_imports_what_python_was_started_with(
    tmp_path: Path, file: str, command: list[str], guard: str
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(STARTED.format(guard=guard), encoding="utf-8")
    (tmp_path / "heavy.py").write_text(HEAVY, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )

    importers = (tmp_path / "imported").read_text(encoding="utf-8").split()
    assert len(importers) == 1  # the program itself
    assert not done.stderr
