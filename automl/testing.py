"""Fault points: named places at which a test can kill or stop the process; without a test they do nothing.

`AUTOML_FAULT=name` kills the process with SIGKILL at that point, as a power cut would;
`AUTOML_FAULT=name:stop` stops it there with SIGSTOP, as a sleeping machine would, until SIGCONT. Points
are named `pipeline.step`. `POINTS` collects the names that this process has passed, so that a test can
compare them with the names it covers.

`AUTOML_TEST_SECONDS=1` lets a cron line have a sixth field, of seconds, so that a test need not wait for minutes.
"""

from __future__ import annotations

import os
import signal

__all__ = ["POINTS", "fault", "slots_of_seconds"]

POINTS: set[str] = set()
_ARMED = os.environ.get("AUTOML_FAULT", "")


def fault(name: str) -> None:
    """Kill or stop this process here if AUTOML_FAULT names this point."""
    POINTS.add(name)
    if name == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
    if f"{name}:stop" == _ARMED:
        os.kill(os.getpid(), signal.SIGSTOP)


def slots_of_seconds() -> bool:
    """Whether a test lets cron lines name seconds."""
    return os.environ.get("AUTOML_TEST_SECONDS") == "1"
