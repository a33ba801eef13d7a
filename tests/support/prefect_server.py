"""A Prefect server of a test: started on a free port, stopped and started again on the same database."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

__all__ = ["PrefectServer", "free_port", "start", "stop", "until", "wait_for"]

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own; its output is added to a file."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        os.killpg(process.pid, number)
    process.wait()


def wait_for(url: str, log: Path, seconds: float = 300) -> None:
    def responds() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return True
        return False

    until(responds, seconds, lambda: f"{url}: {log.read_text(errors='replace')[-2000:]}")


def until(
    reached: Callable[[], Any], seconds: float, shown: Callable[[], object] = lambda: ""
) -> Any:
    """What `reached` returns, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = reached()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not reached in {seconds:.0f} s: {shown()}")


class PrefectServer:
    """A server with the environment of its clients; a context."""

    def __init__(self, home: Path, *, login: str = "") -> None:
        port = free_port()
        self.home = home
        self.log = home / "server.log"
        self.api = f"http://127.0.0.1:{port}/api"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "DO_NOT_TRACK": "1",
        }
        self.login: tuple[str, str] | None = None
        if login:
            user, _, password = login.partition(":")
            self.login = (user, password)
            self.environment["PREFECT_SERVER_API_AUTH_STRING"] = login
            self.environment["PREFECT_API_AUTH_STRING"] = login
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        command = [sys.executable, "-m", "prefect", "server", "start"]
        self._process = start(command, self.environment, self.log)
        try:
            wait_for(f"{self.api}/health", self.log)
        except AssertionError:
            self.stop()
            raise

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
        self._process = None

    def post(self, path: str, body: Any) -> Any:
        response = httpx.post(f"{self.api}/{path}", json=body, timeout=60, auth=self.login)
        response.raise_for_status()
        return response.json() if response.content else None

    def runs(self, name: str = "") -> list[dict[str, Any]]:
        """Runs that were due, oldest slot first; those whose name begins with this."""
        found: list[dict[str, Any]] = []
        while True:
            body = {"sort": "EXPECTED_START_TIME_ASC", "limit": 200, "offset": len(found)}
            page = self.post("flow_runs/filter", body)
            found += page
            if len(page) < 200:
                break
        shown = [r for r in found if r["state_type"] != "SCHEDULED"]
        return [r for r in shown if r["name"].startswith(name)]
