"""Opens a page in the browser once its server responds: `python -m automl.cli.opening ADDRESS HEALTH`.

`automl ui` becomes MLflow's server, so this waits in a process of its own; it ends with the server, or after a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
import webbrowser
from contextlib import suppress

__all__ = ["can_open", "open_when_served"]

SECONDS = 60.0


def can_open() -> bool:
    """Whether a person would see a browser: it has a display, or one was chosen in BROWSER."""
    if sys.platform in {"darwin", "win32"}:
        return True
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))


def open_when_served(address: str, health: str = "") -> None:
    """Open an address in the browser: at once, or in the background as soon as `health` responds."""
    if not health:
        webbrowser.open(address)
        return
    subprocess.Popen(
        [sys.executable, "-m", "automl.cli.opening", address, health], stdout=subprocess.DEVNULL
    )


def _main(address: str, health: str) -> None:
    server, ends = os.getppid(), time.monotonic() + SECONDS
    while time.monotonic() < ends and os.getppid() == server:
        with suppress(OSError), urllib.request.urlopen(health, timeout=5):
            webbrowser.open(address)
            return
        time.sleep(0.3)


if __name__ == "__main__":
    _main(*sys.argv[1:3])
