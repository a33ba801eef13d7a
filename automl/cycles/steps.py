"""Steps of a cycle: a function with a name, and a runner that calls it.

A conductor takes `run=call`, a plain call by default and a Prefect task in `flows/`. So the engine imports no
scheduler, and notebook, test, cron and scheduler run the same code. A runner has the types of the step that
it is given: mypy checks the arguments of every `run(step, ...)`.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Generic, ParamSpec, Protocol, TypeVar

from automl import progress

__all__ = ["Runner", "Step", "call", "step"]

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_log = logging.getLogger(__name__)


class Step(Generic[P, T_co]):
    """A function that is one step of a cycle; called directly, it is the function."""

    def __init__(self, name: str, function: Callable[P, T_co], *, io: bool) -> None:
        self.name = name  # in the log, and of the Prefect task
        self.io = io  # it reaches out, so that a scheduler may try it again
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Step({self.name!r})"


class Runner(Protocol):
    """How a step is run."""

    def __call__(self, step: Step[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `step(*args, **kwargs)` and return its result."""


def step(name: str, *, io: bool = False) -> Callable[[Callable[P, T]], Step[P, T]]:
    """Make a function a step of a cycle.

    Parameters
    ----------
    name
        What people read in the log and in Prefect.
    io
        The step reads or writes a server or disk: a scheduler may try it again.

    Examples
    --------
    >>> @step("add")
    ... def add(a: int, b: int) -> int:
    ...     return a + b
    >>> call(add, 1, 2)
    3
    """

    def decorate(function: Callable[P, T]) -> Step[P, T]:
        return Step(name, function, io=io)

    return decorate


def call(step: Step[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a step by a plain call, with one line in the log: the default runner."""
    started = time.monotonic()
    with progress.step(step.name):
        result = step(*args, **kwargs)
    _log.info("%s: %.1f s", step.name, time.monotonic() - started)
    return result
