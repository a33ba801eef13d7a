"""Keys of artifacts."""

from __future__ import annotations

import re

__all__ = ["artifact_key"]


def artifact_key(kind: str, problem: str) -> str:
    """The key of an artifact, one per problem: lower-case letters, digits and dashes.

    >>> artifact_key("decision", "Flight_delays")
    'decision-flight-delays'
    """
    return f"{kind}-{re.sub(r'[^a-z0-9]+', '-', problem.lower()).strip('-')}"
