"""The process above the server that workers are forked from: importing this module makes it.

The server imports it before anything else. What was the server goes on as its child; the process that
was started stays as the guard of everything below. When its owner, the process that started it, has ended
in whatever way, the guard kills all of its descendants and ends. On Linux it is their subreaper, so that it
also finds processes that have left their group or session. Elsewhere it finds those whose parents still live.

It watches its parent's number, not a signal on the parent's death, because that signal comes as soon as the
thread ends that started the process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing import forkserver

from automl.processes.lineage import adopt_orphans, die_with_parent, kill_descendants, reaped

__all__: list[str] = []

SECONDS = 0.2  # between two looks at the parent


def _stand_guard() -> None:
    owner, guard = os.getppid(), os.getpid()
    adopt_orphans()
    server = os.fork()
    if server == 0:
        die_with_parent()
        if os.getppid() != guard:
            os._exit(1)
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends after its owner, never before
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    code = 0
    while os.getppid() == owner:
        ended = dict(reaped())
        if server in ended:
            code = max(0, os.waitstatus_to_exitcode(ended[server]))
            break
        time.sleep(SECONDS)
    kill_descendants()
    os._exit(code)


def _in_the_server() -> bool:
    """Whether the server of multiprocessing is what imports this."""
    frame = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != forkserver.__name__:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


if _in_the_server():
    _stand_guard()
