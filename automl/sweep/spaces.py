"""The `space` functions of families; those of users' files run in a process of their own, within seconds.

The trial stays here: a user's function suggests through it, so that the process can be killed at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import optuna

from automl.modeling.families import (
    Family,
    Shape,
    Suggests,
    in_family_folder,
    load_family,
    suggest_recipe,
)
from automl.modeling.recipes import Params, Recipe, plain_params
from automl.processes import Caller, UserCodeError, UserProcess

__all__ = ["SpaceFailedError", "Spaces"]

# a space draws params in microseconds; one that imports a library first, in a few seconds
SECONDS = 5.0


class SpaceFailedError(Exception):
    """A space raised, exited, returned no params, or did not end in time (`late`)."""

    def __init__(self, text: str, *, late: bool = False) -> None:
        super().__init__(text)
        self.late = late


@dataclass(slots=True, eq=False, kw_only=True)
class Spaces:
    """Recipes from spaces; `end` is the monotonic moment after which no space may run."""

    end: Callable[[], float] = lambda: float("inf")
    _process: UserProcess = field(default_factory=UserProcess)

    def recipe(self, family: Family, trial: Suggests, shape: Shape, seed: int) -> Recipe:
        """A recipe with values that the trial suggests.

        Raises
        ------
        SpaceFailedError
            The space gave no params.
        """
        try:
            return suggest_recipe(family, trial, shape, seed, self._space(family))
        except UserCodeError as error:
            raise SpaceFailedError(f"space: {error}", late=error.late) from error
        except Exception as error:
            raise SpaceFailedError(f"space: {type(error).__name__}: {error}") from error

    def suggests(self, family: Family, shape: Shape) -> bool:
        """Whether a space has a param to suggest, or fails before it does."""
        try:
            self._space(family)(optuna.trial.FixedTrial({}), shape)
        except Exception:  # noqa: BLE001  the trial's own; or the space fails, and its first recipe will say how
            return True
        return False

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def _space(self, family: Family) -> Callable[[Any, Shape], Any]:
        shipped = in_family_folder(family.path) or not family.path.is_file()
        return family.space if shipped else partial(self._there, family)

    def _there(self, family: Family, trial: Suggests, shape: Shape) -> Any:
        until = min(time.monotonic() + SECONDS, self.end())
        return self._process.call(_params, str(family.path), shape, until=until, asked=trial)


class _DistantTrial:
    """The trial of the process that called: what it suggests, and what it is."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if callable(getattr(optuna.trial.Trial, name, None)):
            return partial(self._caller, name)
        return self._caller(name)


@cache
def _family(path: str) -> Family:
    return load_family(path, Path("/"))


def _params(caller: Caller, path: str, shape: Shape) -> Params:
    """What the family's space returns; called in its process."""
    return plain_params(_family(path).space(_DistantTrial(caller), shape), "space")
