"""Events of a problem on Prefect's server, and the one by which another system asks for a retraining."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient

from automl.redaction import redact
from automl.workspace import now

__all__ = ["EVENTS", "emit", "resource_of"]

# event: what has happened, as an automation describes it
EVENTS: Mapping[str, str] = {
    "automl.new-rows": "as many new labelled rows as retraining.rows or retraining.share says",
    "automl.file-arrived": "a complete new file in schedule.arrives, or of the history",
    "automl.drift": "monitoring has found inputs, predictions or labels far from their past",
    "automl.degradation": "published predictions are worse than their evidence promised",
    "automl.call": "another system has posted this event",
}
_log = logging.getLogger(__name__)


def resource_of(problem: str) -> str:
    """What the events of a problem concern."""
    return f"automl.problem.{problem}"


def emit(client: SyncPrefectClient, problem: str, event: str, payload: Mapping[str, Any]) -> None:
    """Send one event; a server that is away misses it, and the next slot retrains anyway."""
    content = {
        "id": str(uuid4()),
        "occurred": now().isoformat(),
        "event": event,
        "resource": {"prefect.resource.id": resource_of(problem), "prefect.resource.name": problem},
        "payload": {name: redact(v) if isinstance(v, str) else v for name, v in payload.items()},
    }
    try:
        client._client.post("/events", json=[content]).raise_for_status()
    except httpx.HTTPError as error:
        _log.warning("the event %s of %s was not sent: %s", event, problem, error)
        return
    _log.info("event %s of %s: %s", event, problem, payload)
