"""Start and question the fresh process that a model is loaded in; `worker` is what runs there.

In a scratch workspace models are files that only this process loads: it examines them itself, unless they hold
users' code.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.disk import full_disk
from automl.errors import UnreachableError
from automl.modeling.user_files import is_path
from automl.problem import Problem
from automl.processes import context, end, fate, start
from automl.promotion.guards.worker import examine, failure, measure
from automl.tracking import FileRegistry, Registry
from automl.workspace import Workspace, open_workspace

__all__ = ["Examiner", "NoOutputError", "open_examiner"]

SECONDS = 120  # a model that needs longer for 200 rows is of no use


class NoOutputError(Exception):
    """The process gave no output; its arguments are what was found and what was wanted."""


def open_examiner(problem: Problem, registry: Registry) -> Examiner:
    """What examines models of this registry: a fresh process, or this one."""
    of_users = problem.transformer is not None or any(map(is_path, problem.sweep.families))
    if isinstance(registry, FileRegistry) and not of_users:
        return _Here(registry)
    return Examiner(problem, registry.workspace)


class Examiner:
    """A process that loads libraries while the caller goes on, then examines one model; a context."""

    def __init__(self, problem: Problem, workspace: Workspace | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._connection, remote = context().Pipe()
        place, workspace = Path(self._folder.name), workspace or open_workspace(problem.file)
        self._process = context().Process(
            target=examine, args=(remote, place, problem, workspace, dict(os.environ))
        )
        start(self._process)
        remote.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, whether it has examined a model or not."""
        end(self._process, self._connection)
        self._folder.cleanup()

    def examine(
        self, spec: Mapping[str, Any], frames: Mapping[str, pd.DataFrame]
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        """Measurements of a model, and its outputs on the frames; to be called once.

        Raises
        ------
        NoOutputError
            The process died, or took too long.
        UnreachableError
            MLflow does not respond.
        """
        place = Path(self._folder.name)
        for name, frame in frames.items():
            frame.to_parquet(place / f"{name}.parquet")
        (place / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        try:
            with contextlib.suppress(OSError):  # it has sent an error and ended
                self._connection.send("examine")
            if not self._connection.poll(SECONDS):
                raise NoOutputError(f"no output in {SECONDS} s", "an output")
            failure = self._connection.recv()
        except (EOFError, OSError):
            failure = f"the process died: {fate(self._process)}"
        if isinstance(failure, UnreachableError):
            raise failure
        full = full_disk(failure)
        if full is not None:
            raise full
        if failure:
            raise NoOutputError(failure[:300], "the model loads and predicts")
        measured = json.loads((place / "measured.json").read_text(encoding="utf-8"))
        with np.load(place / "outputs.npz") as arrays:
            outputs = {name: arrays[name] for name in arrays.files}
        return measured, outputs


class _Here(Examiner):
    """Examines models in this process."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def examine(
        self, spec: Mapping[str, Any], frames: Mapping[str, pd.DataFrame]
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        try:
            return measure(self._registry, spec, frames)
        except Exception as error:
            raise NoOutputError(failure(error)[:300], "the model loads and predicts") from error
