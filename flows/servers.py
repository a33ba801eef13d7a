"""The Prefect server that commands talk to, and what they say when it does not respond."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL

from automl.errors import ProblemError, UnreachableError
from automl.redaction import redact

__all__ = ["connected", "denied", "require_server"]


def require_server() -> None:
    """Refuse to run on a temporary server, which ends with this process and shows no page.

    Raises
    ------
    ProblemError
        PREFECT_API_URL is not set.
    """
    if not PREFECT_API_URL.value():
        raise ProblemError(
            "PREFECT_API_URL is not set; wanted the address of a Prefect server, such as http://127.0.0.1:4200/api",
            code="no_prefect",
            next_step="Start one with `PREFECT_SERVER_API_PORT=4200 prefect server start`, then "
            "`export PREFECT_API_URL=http://127.0.0.1:4200/api`. Or run `automl cycle FILE` from cron.",
        )


def denied(error: httpx.HTTPStatusError) -> UnreachableError:
    """The server refuses the login."""
    return UnreachableError(
        f"Prefect's server refuses the login, with {error.response.status_code}",
        code="prefect_denied",
        next_step="Set PREFECT_API_AUTH_STRING to the server's PREFECT_SERVER_API_AUTH_STRING.",
    )


@contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """A client, whose errors are those of this project.

    Raises
    ------
    UnreachableError
        The server does not respond, or refuses the login.
    """
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (401, 403):
            raise denied(error) from None
        raise UnreachableError(
            f"Prefect's server responds with {error.response.status_code}: {redact(str(error))}",
            code="prefect_unreachable",
            next_step="Look at the server's log; then the same command.",
        ) from None
    except httpx.TransportError as error:
        raise UnreachableError(
            f"Prefect's server does not respond: {redact(str(error))}",
            code="prefect_unreachable",
            next_step="Start it, or correct PREFECT_API_URL; then the same command.",
        ) from None
