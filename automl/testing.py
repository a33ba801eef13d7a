"""Named points at which a test may stop the world; without a test they do nothing.

`AUTOML_FAULT=name` kills the process with SIGKILL at that point, as a power cut would;
`AUTOML_FAULT=name:stop` halts it there with SIGSTOP, as a machine that sleeps would, and SIGCONT lets it
go on. Points are named `story.step`, and `POINTS` collects the names that this process has passed, so
that a test can compare them with the names it has covered.
"""

from __future__ import annotations

import os
import signal

__all__ = ["POINTS", "fault"]

POINTS: set[str] = set()
_ARMED = os.environ.get("AUTOML_FAULT", "")


def fault(name: str) -> None:
    """Die or halt here if the environment says so."""
    POINTS.add(name)
    if name == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
    if f"{name}:stop" == _ARMED:
        os.kill(os.getpid(), signal.SIGSTOP)
