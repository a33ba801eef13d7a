"""MLflow's server as `automl ui` starts it, with one page more: the one that the browser opens first.

MLflow's pages open in a mode for language models, behind an assistant and an announcement, until the browser keeps
what a person has closed. The first page lets it keep that, and goes on to the place after its `#`. It is served by
the process of MLflow's server alone, which finds `app` through the entry point `mlflow.app` (`--app-name automl`).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mlflow.server.fastapi_app import app as mlflow_app

__all__ = ["FirstPage", "app", "page"]

# what MLflow 3.17 keeps in the browser once a person has chosen "Model training" and closed what pops up
KEPT = {
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,
    "mlflow.assistant.panelOpen_v1": False,
    "_mlflow_model_registry_promo_modal_dismissed_v1": True,
    "mlflow.telemetry.info.alert.dismissed_v1": True,
}
PLACE = "/automl"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Server = Callable[[Scope, Receive, Send], Awaitable[None]]


def page() -> bytes:
    """The first page: it shows nothing, and is left at once."""
    lines = [
        f"  localStorage.setItem({json.dumps(key)}, {json.dumps(json.dumps(value))});"
        for key, value in KEPT.items()
    ]
    script = "\n".join(["try {", *lines, "} catch {}", 'location.replace("/" + location.hash);'])
    return f"<!doctype html><title>MLflow</title><script>\n{script}\n</script>\n".encode()


class FirstPage:
    """A server that serves the first page, and everything else as before."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http" or scope["path"] != PLACE:
            await self._server(scope, receive, send)
            return
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": page()})


app = FirstPage(mlflow_app)
