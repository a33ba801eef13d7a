"""An HTTP server that fails in one way, in a thread; its bodies quote a secret."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

QUOTED = "HUNTER2QUOTED"
JSON = b'{"error_code": "INTERNAL_ERROR", "message": "HUNTER2QUOTED"}'
DENIED = b'{"error_code": "PERMISSION_DENIED", "message": "HUNTER2QUOTED"}'
HTML = b"<html>HUNTER2QUOTED, please log in</html>"
# mode -> status, headers, body
RESPONSES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "401": (401, {"WWW-Authenticate": 'Basic realm="mlflow"'}, b"You are not authenticated."),
    "401 json": (401, {}, b'{"detail": "HUNTER2QUOTED"}'),
    "403": (403, {}, DENIED),
    "404 page": (404, {}, HTML),
    "404 json": (404, {}, b'{"detail": "Not Found"}'),
    "429": (429, {}, b"slow down"),
    "429 for an hour": (429, {"Retry-After": "3600"}, b"slow down"),
    "500": (500, {}, JSON),
    "500 page": (500, {}, HTML),
    "502": (502, {}, HTML),
    "503": (503, {"Retry-After": "3600"}, b""),
    "rubbish": (200, {}, b'{"experiment'),
    "other json": (200, {}, b'{"status": "ok"}'),
    "list": (200, {}, b"[1, 2]"),
    "wrong types": (200, {}, b'{"experiment": "HUNTER2QUOTED"}'),
    "login page": (200, {"Content-Type": "text/html"}, HTML),
    "empty": (200, {}, b""),
    "bytes": (200, {}, b"\xff\xfe\x00\x01" * 20),
    "redirect": (302, {"Location": "/login"}, b""),
}
SILENT = ("hang", "hang after headers", "drip", "cut", "too short")
SECONDS = 20  # of silence; a test has gone by then


class _Handler(http.server.BaseHTTPRequestHandler):
    mode = ""

    def respond(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/login":
            self._send(200, {}, HTML)
        elif self.mode in RESPONSES:
            self._send(*RESPONSES[self.mode])
        else:
            self._fall_silent()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond  # noqa: N815

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _fall_silent(self) -> None:
        if self.mode == "cut":
            self.close_connection = True
            return
        if self.mode != "hang":
            self.send_response(200)
            self.send_header("Content-Length", "9999")
            self.end_headers()
        if self.mode == "too short":
            self.wfile.write(b'{"exp')
            self.close_connection = True
            return
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            time.sleep(0.2)
            if self.mode == "drip":
                self.wfile.write(b" ")
                self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def failing(mode: str) -> Iterator[str]:
    """The address of a server that fails in this way."""
    handler = type("Handler", (_Handler,), {"mode": mode})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients go away
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
