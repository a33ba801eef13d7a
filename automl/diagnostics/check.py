"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Check"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was checked and what was found; `remedy` says what to do if it did not pass."""

    name: str
    passed: bool
    found: str
    remedy: str = ""
