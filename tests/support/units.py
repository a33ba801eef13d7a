"""What the units of `examples/deploy` say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

__all__ = ["exec_start", "unit_environment"]

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"


def exec_start(unit: str) -> list[str]:
    """The command of a unit."""
    found = re.findall(r"(?m)^ExecStart=(.+)$", (DEPLOY / unit).read_text("utf-8"))
    [line] = found
    return shlex.split(line)


def unit_environment(unit: str) -> dict[str, str]:
    """The variables that a unit sets itself."""
    found = re.findall(r"(?m)^Environment=(\w+)=(.*)$", (DEPLOY / unit).read_text("utf-8"))
    return dict(found)
