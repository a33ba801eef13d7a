"""Headless Chromium over its own protocol (Chrome DevTools), with the network beyond this machine blocked.

A test opens a page, waits until something is on it, reads its text, clicks, and takes a picture. What the page's
console calls an error, and every request that would have left the machine, is kept in `errors` and `left`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from websockets.sync.client import ClientConnection, connect

__all__ = ["Browser", "chromium", "needs_chromium", "open_browser"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--force-prefers-reduced-motion", "--lang=en-US",
    "--remote-debugging-port=0", "about:blank",
)  # fmt: skip
BLOCKED = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
SECONDS = 120.0  # on a machine that does other things too
# clicks on the innermost visible element whose text is exactly this, or begins with it
_CLICK = """
(wanted, within) => {
  const shown = e => e.getClientRects().length > 0;
  const text = e => (e.innerText || e.getAttribute("aria-label") || "").replaceAll("\u00a0", " ").trim();
  const all = [...document.querySelectorAll(within)].filter(shown);
  const found = all.filter(e => text(e) === wanted).at(-1) || all.filter(e => text(e).startsWith(wanted)).at(-1);
  if (!found) return null;
  found.scrollIntoView({block: "center"});
  const box = found.getClientRects()[0];  // of its first line
  return [box.x + box.width / 2, box.y + box.height / 2];
}
"""


def chromium() -> str | None:
    """The path of a Chromium, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


needs_chromium = pytest.mark.skipif(
    chromium() is None, reason="Chromium is not installed: no page was looked at"
)


class Browser:
    """One page of a headless Chromium; made by `open_browser`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.errors: list[str] = []  # of the console, and exceptions that nothing caught
        self.left: list[str] = []  # addresses outside this machine that pages requested
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, url: str, until: str = "", seconds: float = SECONDS) -> None:
        """Open an address, and wait until this text, or an expression that begins with `js:`, is there."""
        if url.partition("#")[0] == self.js("location.href.split('#')[0]"):
            self.js(
                "location.replace('about:blank')"
            )  # an address that differs after # loads nothing
            self.wait("js:location.href === 'about:blank'", seconds)
        self.call("Page.navigate", url=url)
        self.wait(until or "js:document.readyState === 'complete'", seconds)

    def wait(self, until: str, seconds: float = SECONDS) -> None:
        """Wait until this text, or an expression that begins with `js:`, is there."""
        ends = time.monotonic() + seconds
        while not self.shows(until):
            if time.monotonic() > ends:
                raise AssertionError(f"not on the page in {seconds:.0f} s: {until}\n{self.text()}")
            time.sleep(0.2)

    def shows(self, wanted: str) -> bool:
        """Whether this text, or an expression that begins with `js:`, is there."""
        if wanted.startswith("js:"):
            return bool(self.js(wanted[3:]))
        return wanted in self.text()

    def text(self) -> str:
        """What a person can read on the page."""
        return str(self.js("document.body ? document.body.innerText : ''")).replace("\xa0", " ")

    def texts(self, selector: str) -> list[str]:
        """Texts of the elements that a CSS selector finds."""
        found = self.js(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText.trim())"
        )
        return list(found or [])

    def click(self, text: str, within: str = "a, button, [role], label, span, div") -> None:
        """Press what shows this text, as a mouse does."""
        ends = time.monotonic() + SECONDS
        call = f"({_CLICK})({json.dumps(text)}, {json.dumps(within)})"
        while (place := self.js(call)) is None:
            if time.monotonic() > ends:
                raise AssertionError(f"nothing to click shows {text!r}\n{self.text()}")
            time.sleep(0.2)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1],
                button="none" if kind == "mouseMoved" else "left", clickCount=1,
            )  # fmt: skip

    def js(self, expression: str) -> Any:
        """The value of an expression on the page; None while it is being left."""
        with suppress(LookupError):
            found = self.call(
                "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
            )
            if "exceptionDetails" not in found:
                return found["result"].get("value")
        return None

    def resize(self, width: int, height: int) -> None:
        """Another size of the window."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """A picture of what the window shows, or of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol.

        Raises
        ------
        LookupError
            The browser refused it, such as while a page is being left.
        """
        self._number += 1
        number = self._number
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=5 * SECONDS))
            if message.get("id") != number:
                self._note(message)
            elif "error" in message:
                raise LookupError(message["error"]["message"])
            else:
                return dict(message["result"])

    def _note(self, event: dict[str, Any]) -> None:
        kind, params = event.get("method"), event.get("params", {})
        if kind == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif kind == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(
                " ".join(str(a.get("value", a.get("description"))) for a in params["args"])
            )
        elif kind == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif kind == "Network.requestWillBeSent":
            address = urlparse(params["request"]["url"])
            if address.scheme in {"http", "https", "ws"} and address.hostname != "127.0.0.1":
                self.left.append(params["request"]["url"])


@contextmanager
def open_browser(width: int = 1440, height: int = 900) -> Iterator[Browser]:
    """A browser with an empty profile: the first visit of a person."""
    command = chromium()
    if command is None:
        raise FileNotFoundError("no Chromium was found")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [command, f"--user-data-dir={profile}", f"--window-size={width},{height}", BLOCKED, *OPTIONS],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            with connect(
                _address(Path(profile)), max_size=None, open_timeout=SECONDS
            ) as connection:
                browser = Browser(connection)
                browser.resize(width, height)
                yield browser
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _address(profile: Path) -> str:
    """The address of the first page's protocol."""
    file, ends = profile / "DevToolsActivePort", time.monotonic() + SECONDS
    while not (file.exists() and file.read_text().count("\n")):
        if time.monotonic() > ends:
            raise AssertionError("Chromium did not start")
        time.sleep(0.05)
    port, place = file.read_text().split("\n")[:2]
    with connect(f"ws://127.0.0.1:{port}{place}", open_timeout=SECONDS) as whole:
        whole.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        found = json.loads(whole.recv(timeout=SECONDS))["result"]["targetInfos"]
    page = next(target["targetId"] for target in found if target["type"] == "page")
    return f"ws://127.0.0.1:{port}/devtools/page/{page}"
