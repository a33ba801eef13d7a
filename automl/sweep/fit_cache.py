"""Fitted recipes cached for the next cycle, which scores the newly labelled block with them before any fit.

A recipe refitted in one cycle was trained on all rows before the next cycle's newest block and on none of
it, so its predictions there evaluate the recipe on that block, out-of-sample. Predictions on older blocks are
cached too, as long as the rows of a block do not change. The cache can be deleted; the next cycle then fits
again.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.files import replacing
from automl.modeling.families import in_family_folder, load_family
from automl.modeling.features import load_columns
from automl.modeling.recipes import Params, Recipe
from automl.modeling.splits import Block
from automl.modeling.tasks import task_of
from automl.modeling.training import predict
from automl.processes import UserCodeError, UserProcess
from automl.sweep.leaderboard import Work, output_file

__all__ = ["CachedFit", "FitCache", "block_name", "columns_of"]

# A cached fit is reused if its training cut-off is within this share of a block before the wanted one
CUTOFF_TOLERANCE = 0.25
# Of the pickled format; files of other versions are ignored, and the next cycle fits again
VERSION = 3
SECONDS = 60.0  # for the predictions of a block by users' code
_log = logging.getLogger(__name__)
Predicted = dict[tuple[str, int], Params]  # (recipe, block) -> learned params


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CachedFit:
    """A recipe and its fitted model, trained on labels before `labels_until`.

    Without a model (`estimator` is None) only its predictions are cached.
    """

    recipe: Recipe
    learned: Params
    labels_until: datetime
    features: Mapping[str, str]
    classes: tuple[Any, ...]
    columns: str = ""  # digest of the user's transformer
    encoder: Any = None
    estimator: Any = None
    zone: str = "UTC"  # of calendar features
    weight: str = ""  # column of the user's row weights
    version: int = VERSION


class FitCache:
    """A problem's folder of cached fits (`<recipe>.pickle`) and their predictions (`<recipe>-<block>.npy`).

    Only files with a known digest are unpickled: a pickle can run any code.

    Parameters
    ----------
    known
        sha256 of the fits that earlier cycles wrote.
    """

    def __init__(self, folder: Path, known: Collection[str] = ()) -> None:
        self.folder = folder
        self.known = set(known)

    def predict(self, work: Work) -> Predicted:
        """Write predictions on the work's blocks to its output files; (recipe, block) -> learned params.

        Nothing is fitted: cached predictions are copied, cached models predict.
        """
        predicted: Predicted = {}
        if not self.folder.is_dir():
            return predicted
        (work.scratch / "outputs").mkdir(parents=True, exist_ok=True)
        names = [block_name(work, block) for block in work.blocks]
        for fit in filter(None, map(self._load, sorted(self.folder.glob("*.pickle")))):
            if not _suits(fit, work):
                continue
            for b, block in enumerate(work.blocks):
                output = output_file(work, fit.recipe, b)
                cached = self.folder / f"{fit.recipe.id}-{names[b]}.npy"
                if cached.exists():
                    shutil.copyfile(cached, output)
                elif fit.estimator is not None and _same_cutoff(fit, work, block):
                    if not _predict(fit, work, block, output):
                        break
                else:
                    continue
                predicted[fit.recipe.id, b] = fit.learned
        return predicted

    def replace(
        self, fits: Iterable[CachedFit], work: Work, predicted: Collection[tuple[str, int]]
    ) -> list[str]:
        """Replace the content by these fits and their predictions: (recipe, block) of the work; returns digests."""
        self.folder.mkdir(parents=True, exist_ok=True)
        written, digests = set(), []
        names = [block_name(work, block) for block in work.blocks]
        for fit in fits:
            file = self.folder / f"{fit.recipe.id}.pickle"
            content = pickle.dumps(fit)
            _write(file, content)
            digests.append(hashlib.sha256(content).hexdigest())
            written.add(file.name)
            for b, name in enumerate(names):
                if (fit.recipe.id, b) in predicted:
                    file = self.folder / f"{fit.recipe.id}-{name}.npy"
                    _write(file, output_file(work, fit.recipe, b).read_bytes())
                    written.add(file.name)
        for file in self.folder.iterdir():
            if file.name not in written:
                file.unlink(missing_ok=True)
        self.known |= set(digests)
        return digests

    def _load(self, file: Path) -> CachedFit | None:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() not in self.known:
            _log.info("ignoring cached fit %s: no cycle recorded its digest", file.stem)
            return None
        try:
            fit = pickle.loads(content)
        except Exception as error:  # noqa: BLE001  another version, a changed family: it is fitted again
            _log.info("ignoring cached fit %s: %s", file.stem, error)
            return None
        current = isinstance(fit, CachedFit) and getattr(fit, "version", 1) == VERSION
        return fit if current else None


def block_name(work: Work, block: Block) -> str:
    """Sixteen hex digits of a digest of a block's validation rows: columns, target, weights, and order."""
    h = work.problem.history
    columns = [*work.contract.features, h.target, *([h.weight] if h.weight else [])]
    rows = work.frame[columns].iloc[block.validation]
    digest = hashlib.sha256(f"{block.start} {block.end} {columns}".encode())
    digest.update(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def columns_of(work: Work) -> dict[str, Any]:
    """Fields of a cached fit that must equal those of the work that reuses it."""
    return {
        "features": dict(work.contract.features),
        "classes": work.contract.classes,
        "columns": work.columns.digest if work.columns else "",
        "zone": work.problem.history.timezone,
        "weight": work.problem.history.weight,
    }


def _suits(fit: CachedFit, work: Work) -> bool:
    return all(getattr(fit, name) == value for name, value in columns_of(work).items())


def _same_cutoff(fit: CachedFit, work: Work, block: Block) -> bool:
    """Whether a cached fit was trained on about the rows that a fit for this block would use, and no later ones.

    A fit for a block ends before its gap. A model fitted at the start of the block was trained on labels within
    the gap and looks better than such a fit, so with a label delay it is not reused.
    """
    gap = work.problem.mature(block.start)
    tolerance = CUTOFF_TOLERANCE * (block.end - block.start)
    return fit.labels_until <= gap and gap - fit.labels_until <= tolerance


def _predict(fit: CachedFit, work: Work, block: Block, output: Path) -> bool:
    """Write its predictions; False if the user's code in it fails, so that it is fitted again."""
    rows = work.frame[list(fit.features)].iloc[block.validation]
    family = work.families.get(fit.recipe.family)
    if work.columns is None and (family is None or in_family_folder(family.path)):
        np.save(output, _output(fit, rows))
        return True
    files = [family.path if family else None, work.columns.path if work.columns else None]
    try:
        with UserProcess() as process:
            until = time.monotonic() + SECONDS
            made = process.call(_output_there, *files, pickle.dumps(fit), rows, until=until)
    except UserCodeError as error:
        _log.warning("ignoring the cached fit %s: %s", fit.recipe.id, error)
        return False
    np.save(output, made)
    return True


def _output_there(
    family: Path | None, columns: Path | None, pickled: bytes, rows: pd.DataFrame
) -> NDArray[np.float64]:
    """`_output` of a pickled fit whose classes are in these files; called in its process."""
    if family is not None:
        load_family(str(family), Path("/"))
    load_columns(columns)
    return _output(pickle.loads(pickled), rows)


def _output(fit: CachedFit, rows: pd.DataFrame) -> NDArray[np.float64]:
    X = np.asarray(fit.encoder.transform(rows), dtype="float64")
    return predict(fit.estimator, X, task_of(fit.classes))


def _write(file: Path, content: bytes) -> None:
    with replacing(file) as aside:
        aside.write_bytes(content)
