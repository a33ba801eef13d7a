"""The released model of a past cycle fitted again, and its batch predicted again; writes to a temporary folder alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from automl import history, predictions
from automl.errors import AutomlError
from automl.history import Folders
from automl.history.contract import Contract
from automl.modeling.ensemble import assemble
from automl.modeling.splits import make_blocks
from automl.predictions import fingerprint, model_output, predict_pieces, read_pieces
from automl.processes import UserProcess
from automl.promotion.guards import sample_rows
from automl.reproduction.causes import TOLERANCE
from automl.reproduction.past import PastCycle
from automl.reproduction.values import Check
from automl.retrain.training_data import counted_rows, kept_snapshot
from automl.score.notices import BatchNotices
from automl.store import Generation
from automl.sweep import Refits, Work
from automl.tracking import Code, digest_folder, load_folder, save_folder

__all__ = ["rebuilt"]


def rebuilt(past: PastCycle, contract: Contract) -> Iterator[Check]:
    """The model and its predictions, made again."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _model(past, contract, Path(folder)) as (model, sample):
                output = model_output(model, sample, contract)
                found = fingerprint(output, past.release.blend.id)
                same = found == past.release.fingerprint
                text = f"fingerprint {found[:12]}"
                if not same:
                    text += f", was {past.release.fingerprint[:12]}"
                yield Check("model", same, text)
                yield _predictions(past, contract, model)
        except AutomlError as error:
            yield Check("model", False, f"it cannot be made again: {error}")


@contextmanager
def _model(
    past: PastCycle, contract: Contract, folder: Path
) -> Iterator[tuple[_Reloaded, pd.DataFrame]]:
    """The released blend fitted again, saved, and loaded in a fresh process; and the sample of fingerprints."""
    problem, blend = past.problem, past.release.blend
    snapshot = kept_snapshot(past.cycle.receipts["snapshot"])
    frame = counted_rows(problem, past.cycle.as_of, snapshot)
    work = Work(
        problem=problem,
        contract=contract,
        families=past.families,
        frame=frame,
        # categories of many levels are coded at a distance of a block
        blocks=make_blocks(frame, problem, past.cycle.as_of),
        scratch=folder / "scratch",
        workers=past.workspace.workers,
        columns=past.columns,
    )
    rows = (past.cycle.receipts.get("cost") or {}).get("refit_rows")
    with Refits(work) as refits:
        done = refits.fit(blend, float("inf"), {}, rows=rows)
    model = assemble(done.parts, contract, list(contract.features))
    sample = sample_rows(work.frame, contract)
    code: list[Code] = [past.families[f] for f in sorted(set(blend.families))]
    save_folder(model, sample, [*code, *([past.columns] if past.columns else [])], folder / "model")
    with UserProcess() as process:
        yield _Reloaded(folder / "model", process.call), sample


class _Reloaded:
    """A saved model in another process, with the methods that predictions use."""

    def __init__(self, folder: Path, call: Callable[..., Any]) -> None:
        self._folder, self._process_call = folder, call

    def predict(self, rows: pd.DataFrame) -> Any:
        return self._call("predict", rows)

    def predict_proba(self, rows: pd.DataFrame) -> Any:
        return self._call("predict_proba", rows)

    @cached_property
    def classes_(self) -> Any:
        return self._call("classes_")

    def _call(self, name: str, *arguments: Any) -> Any:
        return self._process_call(_attribute, self._folder, name, *arguments)


@lru_cache(maxsize=1)
def _loaded(folder: Path) -> Any:
    return load_folder(folder, digest_folder(folder))


def _attribute(folder: Path, name: str, *arguments: Any) -> Any:
    """An attribute of the saved model, called if it is a method; called in its process."""
    found = getattr(_loaded(folder), name)
    return found(*arguments) if callable(found) else found


def _predictions(past: PastCycle, contract: Contract, model: _Reloaded) -> Check:
    """Compare what was published for the batch of the cycle with what the rebuilt model predicts."""
    problem, keep = past.problem, past.problem.publish.keep
    generation = _generation(past)
    if generation is None:
        return Check("predictions", None, "this version predicted no batch of its as_of")
    batch = history.frozen_batch(Folders(past.workspace.history(problem.name)), generation.batch)
    if generation.state == "removed" or batch is None:
        newer = past.store.generations(problem.name, limit=100_000)
        needed = sum(g.id >= generation.id for g in newer) + 1
        text = (
            f"generation {generation.id} was cleaned; publish.keep = {max(needed, keep + 1)} would have kept "
            f"its rows (it is {keep})"
        )
        return Check("predictions", None, text)
    if history.personal_keys(problem):
        return Check("predictions", None, "its keys are personal, and hashed in the frozen batch")
    frames = BatchNotices(batch).check(read_pieces(batch, problem), contract, problem)
    made = pd.concat([p for p, _ in predict_pieces(model, frames, problem, contract)])
    then = predictions.read_generation(past.store, problem, generation.id)
    key = list(problem.history.key or (history.ROW_ID,))
    joined = then.astype(dict.fromkeys(key, "str")).merge(
        made.astype(dict.fromkeys(key, "str")), on=key, suffixes=("", "_again"), how="outer"
    )
    name = "probability" if "probability" in made else "prediction"
    before, after = joined[name].to_numpy("float64"), joined[f"{name}_again"].to_numpy("float64")
    differs = ~np.isclose(before, after, rtol=0, atol=TOLERANCE)
    if not differs.any():
        return Check("predictions", True, f"generation {generation.id}, {len(joined)} rows")
    first = joined.loc[differs].iloc[0]
    row = ", ".join(f"{k} {first[k]}" for k in key)
    again = first[f"{name}_again"]
    text = f"{differs.sum()} of {len(joined)} rows, first {row}: {name} {again}, was {first[name]}"
    return Check("predictions", False, text)


def _generation(past: PastCycle) -> Generation | None:
    """The generation that the released version made for the batch of its cycle, also one that was cleaned."""
    found = past.store.generations_of(past.problem.name, past.release.model_version)
    same = [g for g in found if g.as_of == past.cycle.as_of and g.published_at is not None]
    return same[-1] if same else None
