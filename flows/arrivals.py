"""The serving process looks for files that arrive, and says so to Prefect."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.client.orchestration import SyncPrefectClient

from automl.cycles.arrivals import arrived
from flows.deployed import Deployed, Opened
from flows.events import emit

__all__ = ["emit_arrivals"]

NAMED = 20  # files that an event names


def emit_arrivals(client: SyncPrefectClient, deployed: Sequence[Deployed]) -> None:
    """One event per problem whose files have arrived since the last look."""
    for one in {d.file: d for d in deployed}.values():
        opened = Opened.of(one)
        files = arrived(opened.problem, opened.workspace) if opened is not None else []
        if files:
            payload = {"files": files[:NAMED], "count": len(files)}
            emit(client, one.name, "automl.file-arrived", payload)
