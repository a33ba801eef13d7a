"""Items of work and their outcomes, as every engine takes and returns them.

An item is a function of a module with paths and small plain values; what is large lies in files, which the
function writes aside and moves into place. An engine on several machines may run an item twice, because a machine
that has gone silent may still be working: the second run must find, or write, the same. Items know neither the
store nor MLflow of the problem: the process that collects outcomes alone talks to those, so workers need no
credentials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

__all__ = ["Engine", "Item", "Outcome", "Status"]

# done: it returned a value; failed: it raised; lost: its process ended; late: it was killed at its limit
Status = Literal["done", "failed", "lost", "late", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A function of a module, and the plain values that it is called with."""

    key: str  # no two items of an engine have the same
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    seconds: float = float("inf")  # it is killed after so long


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Outcome:
    """How an item ended."""

    key: str
    status: Status
    value: Any = None
    error: Exception | None = None  # unless it is done or cancelled
    seconds: float = 0.0  # wall clock


class Engine(Protocol):
    """Runs items, `capacity` of them at once; a context whose end kills what still runs."""

    @property
    def capacity(self) -> int:
        """How many items run at once."""

    def submit(self, item: Item) -> None:
        """Give out an item; returns at once. It starts when a place is free, in the order of submission."""

    def collect(self, timeout: float | None = None) -> Outcome | None:
        """The next item that ended, in the order in which they end; an outcome is returned once, then forgotten.

        None if there is nothing to wait for, or none ends within `timeout` seconds.
        """

    def cancel(self, key: str) -> None:
        """Drop an item that waits, or kill one that runs; its outcome says `cancelled`."""

    def close(self) -> None:
        """Kill what runs, drop what waits."""
