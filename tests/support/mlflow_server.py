"""A real MLflow server, and a proxy before it that fails from a chosen request on."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

REQUEST = re.compile(rb"(?:GET|POST|PUT|PATCH|DELETE) (\S+) HTTP")
FAILED = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"
SECONDS = 120


@dataclass
class Proxy:
    """Passes requests on; those that match `pattern`, and with `down` all after them, fail.

    `how`: cut (no response), 500, drip (a byte now and then).
    """

    behind: int
    pattern: str = ""
    how: str = "cut"
    down: bool = False
    _failed: bool = False
    _listener: socket.socket = field(default_factory=socket.socket)

    def start(self) -> str:
        """Listen; returns the address."""
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def fail(self, pattern: str, how: str = "cut", *, down: bool = False) -> None:
        """From the next request that matches on; an empty pattern: nothing fails."""
        self.pattern, self.how, self.down, self._failed = pattern, how, down, False

    @property
    def failed(self) -> bool:
        """Whether a request has failed since."""
        return self._failed

    def close(self) -> None:
        """Refuse connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self.behind)) as server,
        ):
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()
            while sent := client.recv(65536):
                request = REQUEST.match(sent)
                path = request[1].decode() if request else ""
                matches = bool(self.pattern and path and re.search(self.pattern, path))
                if matches or (self.down and self._failed):
                    self._failed = True
                    self._fail(client)
                    return
                server.sendall(sent)

    def _fail(self, client: socket.socket) -> None:
        if self.how == "500":
            client.sendall(FAILED)
        ends = time.monotonic() + SECONDS
        if self.how == "drip":
            client.sendall(BEGUN)
            while time.monotonic() < ends:
                client.sendall(b" ")
                time.sleep(0.5)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while sent := source.recv(65536):
            target.sendall(sent)


@contextmanager
def mlflow_behind_proxy(folder: Path) -> Iterator[tuple[Proxy, str]]:
    """The proxy before an MLflow server on files in a folder, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    options += ["--artifacts-destination", (folder / "served").as_uri(), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port), *options], stdout=log, stderr=log, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
    proxy = Proxy(port)
    try:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                break
            time.sleep(0.2)
        yield proxy, proxy.start()
    finally:
        proxy.close()
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
