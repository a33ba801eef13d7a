"""A Prefect server to look at: the deployments of two problems, a run that published and one that was refused."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.support.parcels import write_problem
from tests.support.prefect_server import PrefectServer, start, stop, until

__all__ = ["PUBLISHED", "REFUSED", "shown_flows"]

PUBLISHED, REFUSED = "parcels", "letters"
SECONDS = 900.0  # on a machine that does other things too
YEARLY = '\n[schedule]\nretrain = "0 0 1 1 *"\n'


@contextmanager
def shown_flows(folder: Path) -> Iterator[PrefectServer]:
    """The server, once a run of both problems has ended."""
    files = [
        _write(folder, PUBLISHED, {"trials   = 4": "trials   = 6"}),
        _write(folder, REFUSED, {'target      = "late"': 'target      = "lost"'}),
    ]
    home = folder / "prefect"
    home.mkdir()
    with PrefectServer(home) as server:
        serving = start(
            [sys.executable, "-m", "automl.cli", "schedule", *map(str, files)],
            server.environment,
            folder / "serve.log",
        )
        try:
            for name, file in zip((PUBLISHED, REFUSED), files, strict=True):
                _run(server, name, file)
            until(
                lambda: _ended(server) >= {PUBLISHED: "COMPLETED", REFUSED: "FAILED"}.items(),
                SECONDS,
                lambda: (folder / "serve.log").read_text(errors="replace")[-3000:],
            )
            yield server
        finally:
            stop(serving, signal.SIGTERM)


def _write(folder: Path, name: str, edits: dict[str, str]) -> Path:
    own = folder / name
    own.mkdir()
    file = write_problem(own, name=name, replace=edits)
    file.write_text(file.read_text("utf-8") + YEARLY, "utf-8")
    return file


def _run(server: PrefectServer, name: str, file: Path) -> None:
    """Start a run by hand, as the form of the deployment does."""

    def deployment() -> Any:
        wanted = {"deployments": {"name": {"any_": [name]}}}
        return server.post("deployments/filter", wanted)

    [found] = until(deployment, SECONDS)
    body = {"parameters": {"file": str(file), "as_of": "2026-03-02"}, "idempotency_key": name}

    def started() -> Any:
        with suppress(httpx.HTTPStatusError):  # a busy server's database is locked for a moment
            return server.post(f"deployments/{found['id']}/create_flow_run", body)

    until(started, SECONDS)


def _ended(server: PrefectServer) -> Any:
    """Problem -> type of its run's state."""
    return {r["name"].partition(" ")[0]: r["state_type"] for r in server.runs()}.items()
