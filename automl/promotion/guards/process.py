"""A fresh process that a model is loaded in, from this side; what it does there is in `fresh`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.modeling.workers import context, end, fate, start
from automl.problem import Problem
from automl.promotion.guards.worker import examine

__all__ = ["Examiner", "NoOutputError"]

SECONDS = 120  # a model that cannot answer 200 rows in this time serves nobody


class NoOutputError(Exception):
    """The process did not answer: what was found, and what was wanted."""


class Examiner:
    """A process that loads libraries beside whatever the caller does, then one model; a context."""

    def __init__(self, problem: Problem) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._here, there = context().Pipe()
        self._process = context().Process(
            target=examine, args=(there, Path(self._folder.name), problem.file, dict(os.environ))
        )
        start(self._process)
        there.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, asked or not."""
        end(self._process, self._here)
        self._folder.cleanup()

    def ask(
        self, spec: Mapping[str, Any], frames: Mapping[str, pd.DataFrame]
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        """What the process measured of a model, and its outputs on the frames; once.

        Raises
        ------
        NoAnswerError
            It died, or took too long.
        """
        place = Path(self._folder.name)
        for name, frame in frames.items():
            frame.to_parquet(place / f"{name}.parquet")
        (place / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        try:
            self._here.send("answer")
            if not self._here.poll(SECONDS):
                raise NoOutputError(f"no answer in {SECONDS} s", "an answer")
            said = self._here.recv()
        except (EOFError, OSError):
            said = f"the process died: {fate(self._process)}"
        if said:
            raise NoOutputError(said[:300], "the model loads and predicts")
        answer = json.loads((place / "answer.json").read_text(encoding="utf-8"))
        with np.load(place / "outputs.npz") as arrays:
            outputs = {name: arrays[name] for name in arrays.files}
        return answer, outputs
