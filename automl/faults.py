"""Named points at which a test may stop the world; without a test they do nothing.

`AUTOML_FAULT=name` kills the process with SIGKILL at that point, as a power cut would. Points are
named `story.step`, and `POINTS` collects the names that this process has passed, so that a test can
compare them with the names it has covered.
"""

from __future__ import annotations

import os
import signal

__all__ = ["POINTS", "fault"]

POINTS: set[str] = set()
_ARMED = os.environ.get("AUTOML_FAULT", "")


def fault(name: str) -> None:
    """Die here if the environment says so."""
    POINTS.add(name)
    if name == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
