"""The page that `automl ui` opens first: in Chromium it keeps what it says and goes on to its place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from automl.tracking import first_page
from tests.support.browser import needs_chromium, open_browser


def served(path: str) -> list[dict[str, Any]]:
    """What the app sends for a path; the server behind it sends its path back."""

    async def behind(scope: Any, _: Any, send: Any) -> None:
        await send({"behind": scope["path"]})

    async def receive() -> dict[str, Any]:
        return {}

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = first_page.FirstPage(behind)
    asyncio.run(app({"type": "http", "path": path}, receive, send))
    return sent


def test_only_its_own_place_is_served_by_the_first_page() -> None:
    assert served("/ajax-api/2.0/mlflow/runs/search") == [
        {"behind": "/ajax-api/2.0/mlflow/runs/search"}
    ]
    start, body = served(first_page.PLACE)
    assert start["status"] == 200
    assert body["body"] == first_page.page()


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        first = self.path == first_page.PLACE
        text = first_page.page() if first else b"<title>x</title><body>the runs</body>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base class
        """Print nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@needs_chromium
def test_the_browser_keeps_the_mode_and_goes_on_to_the_decisions(site: str) -> None:
    with open_browser() as browser:
        browser.open(f"{site}{first_page.PLACE}#/experiments/1/runs?a=b", "the runs")
        assert browser.js("location.href") == f"{site}/#/experiments/1/runs?a=b"
        kept = browser.js("Object.fromEntries(Object.entries(localStorage))")
    assert kept["mlflow.workflowType_v1"] == '"machine_learning"'
    assert kept["_mlflow_model_registry_promo_modal_dismissed_v1"] == "true"
    assert len(kept) == len(first_page.KEPT)
    assert (browser.errors, browser.left) == ([], [])
