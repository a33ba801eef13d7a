"""Models that hold users' code, in a process of their own: they may exit, hang or crash, and the command goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import Any

import pandas as pd

from automl.errors import PredictError
from automl.modeling.user_files import is_path
from automl.problem import Problem, family_names
from automl.processes import UserCodeError, UserProcess
from automl.tracking.files import open_registry
from automl.tracking.registry import Registry
from automl.workspace import Workspace

__all__ = ["UserModel", "closing_model", "load_model"]

SECONDS = 600.0  # for one piece of a batch; a model that needs longer hangs


class UserModel:
    """A registered model in another process, with the methods that predictions use.

    Raises
    ------
    PredictError
        It cannot be loaded.
    """

    def __init__(
        self, problem: Problem, workspace: Workspace, version: int, digests: Mapping[str, str]
    ) -> None:
        self._model = problem, workspace, version, tuple(sorted(digests.items()))
        self._process = UserProcess()
        self._lock = threading.Lock()  # pieces are predicted in threads
        try:
            self._call("", call=False)
        except UserCodeError as error:
            raise PredictError(
                f"model version {version} of {problem.name} cannot be loaded: {error}",
                code="load_failed",
                next_step="Fix the family's file and retrain, or roll back.",
            ) from error

    def predict(self, rows: pd.DataFrame) -> Any:
        """As the model's own."""
        return self._call("predict", rows)

    def predict_proba(self, rows: pd.DataFrame) -> Any:
        """As the model's own."""
        return self._call("predict_proba", rows)

    @cached_property
    def classes_(self) -> Any:
        """As the model's own."""
        return self._call("classes_")

    def close(self) -> None:
        """End the process, also while it predicts."""
        self._process.kill()

    def _call(self, name: str, *arguments: Any, call: bool = True) -> Any:
        function = _result if call else _loads
        with self._lock:
            until = time.monotonic() + SECONDS
            return self._process.call(function, *self._model, name, *arguments, until=until)


def load_model(
    registry: Registry, version: int, digests: Mapping[str, str], families: Sequence[str]
) -> Any:
    """A registered model to predict with; one with users' code stays in a process of its own.

    `families` are those of its blend. `closing_model` ends the process.

    Raises
    ------
    PredictError
        The version does not exist, cannot be loaded, or its files differ (`DigestError`).
    """
    problem, shipped = registry.problem, set(family_names())
    of_users = problem.transformer is not None or any(map(is_path, problem.sweep.families))
    if of_users or not set(families) <= shipped:
        return UserModel(problem, registry.workspace, version, digests)
    return registry.load(version, digests)


@contextmanager
def closing_model(model: Any) -> Iterator[None]:
    """In the end, the process of a model with users' code is killed, also while it predicts."""
    try:
        yield
    finally:
        if isinstance(model, UserModel):
            model.close()


@lru_cache(maxsize=1)
def _model(
    problem: Problem, workspace: Workspace, version: int, digests: tuple[tuple[str, str], ...]
) -> Any:
    return open_registry(problem, workspace).load(version, dict(digests))


def _loads(*model: Any) -> None:
    """Load the model; called in its process."""
    _model(*model[:4])


def _result(*model: Any) -> Any:
    """An attribute of the model, called if it is a method; called in its process."""
    found = getattr(_model(*model[:4]), model[4])
    return found(*model[5:]) if callable(found) else found
