"""Who started whom: a process ends with its parent, and ends what it has started. Nothing here imports `automl`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["adopt_orphans", "die_with_parent", "has_children", "kill_descendants", "reaped"]

ROUNDS = 100  # of killing; what starts meanwhile is killed in the next round
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def die_with_parent() -> None:
    """On Linux, be killed when the thread that started this process ends: that must be the parent's only one."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """On Linux, become the parent of descendants whose own parents end."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def has_children() -> bool:
    """On Linux, whether this process has child processes."""
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            if file.read_text():
                return True
    return False


def reaped() -> Iterator[tuple[int, int]]:
    """Children that have ended, with their status."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def kill_descendants() -> None:
    """Kill every process below this one."""
    for _ in range(ROUNDS):
        below = _descendants(os.getpid())
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        list(reaped())
        if not below:
            return
        time.sleep(0.02)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _parents() -> list[tuple[int, int]]:
    """Every process with its parent."""
    if sys.platform == "linux":
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                # the name, in parentheses, may hold anything
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                found.append((int(folder.name), int(fields[1])))
        return found
    listing = subprocess.Popen(["/bin/ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE)
    lines = listing.communicate()[0].decode().splitlines()
    pairs = [(int(a), int(b)) for a, b in map(str.split, lines)]
    return [pair for pair in pairs if pair[0] != listing.pid]


def _prctl(option: int, value: int) -> None:
    """Set an attribute of this process, on Linux."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
