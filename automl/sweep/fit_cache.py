"""Fitted recipes kept from one cycle to the next, so that a newly labelled block is scored before any fit.

A recipe refitted at one cycle has seen all rows before the next cycle's newest block and none of it: what
it answers there is at once the evaluation of that recipe on that block, and free of any choice. Answers
on older blocks are kept too, as long as the rows of a block have not changed. Everything here can be
thrown away; the next cycle then fits again.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from automl.files import replacing
from automl.modeling.recipes import Params, Recipe
from automl.modeling.splits import Block
from automl.modeling.tasks import task_of
from automl.modeling.training import predict
from automl.sweep.leaderboard import Work, output_file

__all__ = ["FitCache", "Kept", "columns_of"]

# Share of a block's length: a model that lacks so much of its newest rows is the same model
AS_OLD = 0.25
# Of what is cached; predictions of an older one may come from models that saw a block's gap
VERSION = 2
_log = logging.getLogger(__name__)
Known = dict[tuple[str, int], Params]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A recipe and its model, which has seen the labels before `labels_until` and no later ones.

    Without a model (`estimator` is None) only its answers are kept.
    """

    recipe: Recipe
    learned: Params
    labels_until: datetime
    features: Mapping[str, str]
    classes: tuple[Any, ...]
    columns: str = ""  # digest of the user's own
    encoder: Any = None
    estimator: Any = None
    zone: str = "UTC"  # of calendar features
    weight: str = ""  # column of the user's row weights
    version: int = VERSION


class FitCache:
    """A problem's folder of kept recipes (`<recipe>.pickle`) and answers (`<recipe>-<block>.npy`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answer(self, work: Work) -> Known:
        """Put what is known of the work's blocks where the sweep looks for it: (recipe, block) -> learned.

        No fit is made: kept answers are copied, kept models asked.
        """
        known: Known = {}
        if not self.folder.is_dir():
            return known
        (work.scratch / "outputs").mkdir(parents=True, exist_ok=True)
        names = [block_name(work, block) for block in work.blocks]
        models = [m for m in map(_load, sorted(self.folder.glob("*.pickle"))) if m]
        for model in models:
            if not _fits(model, work):
                continue
            for b, block in enumerate(work.blocks):
                there = output_file(work, model.recipe, b)
                kept = self.folder / f"{model.recipe.id}-{names[b]}.npy"
                if kept.exists():
                    shutil.copyfile(kept, there)
                elif model.estimator is not None and _as_old(model, work, block):
                    _ask(model, work, block, there)
                else:
                    continue
                known[model.recipe.id, b] = model.learned
        return known

    def put(self, kept: Iterable[Kept], work: Work, answered: Collection[tuple[str, int]]) -> None:
        """Replace what lies here by these recipes and their answers: (recipe, block) of the work."""
        self.folder.mkdir(parents=True, exist_ok=True)
        there = set()
        names = [block_name(work, block) for block in work.blocks]
        for model in kept:
            file = self.folder / f"{model.recipe.id}.pickle"
            _write(file, pickle.dumps(model))
            there.add(file.name)
            for b, name in enumerate(names):
                if (model.recipe.id, b) in answered:
                    file = self.folder / f"{model.recipe.id}-{name}.npy"
                    _write(file, output_file(work, model.recipe, b).read_bytes())
                    there.add(file.name)
        for file in self.folder.iterdir():
            if file.name not in there:
                file.unlink(missing_ok=True)


def block_name(work: Work, block: Block) -> str:
    """Sixteen hex digits for the judged rows of a block: columns, target, row weights, and their order."""
    h = work.problem.history
    columns = [*work.contract.features, h.target, *([h.weight] if h.weight else [])]
    rows = work.frame[columns].iloc[block.validation]
    digest = hashlib.sha256(f"{block.start} {block.end} {columns}".encode())
    digest.update(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def columns_of(work: Work) -> dict[str, Any]:
    """What a kept recipe must have in common with the work that it answers for."""
    return {
        "features": dict(work.contract.features),
        "classes": work.contract.classes,
        "columns": work.columns.digest if work.columns else "",
        "zone": work.problem.history.timezone,
        "weight": work.problem.history.weight,
    }


def _fits(model: Kept, work: Work) -> bool:
    return all(getattr(model, name) == value for name, value in columns_of(work).items())


def _as_old(model: Kept, work: Work, block: Block) -> bool:
    """Whether a model has seen about the rows that a fit for this block would see, and no later ones.

    A fit for a block ends before its gap. A model that was fitted where the block begins has seen the
    labels within the gap and looks better than a fit: with a label delay such a model says nothing.
    """
    gap = work.problem.mature(block.start)
    return model.labels_until <= gap and gap - model.labels_until <= AS_OLD * (
        block.end - block.start
    )


def _ask(model: Kept, work: Work, block: Block, there: Path) -> None:
    rows = work.frame[list(model.features)].iloc[block.validation]
    X = np.asarray(model.encoder.transform(rows), dtype="float64")
    np.save(there, predict(model.estimator, X, task_of(model.classes)))


def _load(file: Path) -> Kept | None:
    try:
        model = pickle.loads(file.read_bytes())
    except Exception as error:  # noqa: BLE001  other versions, a changed family: it is fitted again
        _log.info("kept model %s is of no use any more: %s", file.stem, error)
        return None
    current = isinstance(model, Kept) and getattr(model, "version", 1) == VERSION
    return model if current else None


def _write(file: Path, content: bytes) -> None:
    with replacing(file) as aside:
        aside.write_bytes(content)
