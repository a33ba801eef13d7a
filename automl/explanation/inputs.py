"""What a report needs of a cycle that has published, kept until the report is written: then only aggregates stay.

Keeping is cheap: outputs of the blocks, the rows they belong to, and the fitted model, moved out of the sweep's
scratch folder. Everything else is computed by the process that writes the report.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.files import write_json
from automl.modeling.recipes import Blend
from automl.modeling.tasks import task_of
from automl.sweep import Work, blend_outputs

__all__ = ["Inputs", "forget_inputs", "keep_inputs", "read_inputs"]

INPUTS = "inputs"  # folder inside a report's; removed once the report is written
MOST_ROWS = 20_000  # rows of all blocks together; more change no picture


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Inputs:
    """Out-of-sample predictions of a cycle's blends on its blocks, and the model that was released.

    Each block was predicted by fits on the rows known at its start. `outputs` maps roles ("released", and "rival"
    where there is one) to outputs, shape (n_rows,) or (n_rows, n_classes); "baseline" is the constant.
    """

    truth: NDArray[np.float64]
    weight: NDArray[np.float64]
    block: NDArray[np.int64]  # 0 is the newest
    outputs: Mapping[str, NDArray[np.float64]]
    rows: pd.DataFrame  # features, slices and time
    model: Path | None
    about: Mapping[str, Any]  # names of the roles, blocks, members, seed, rows before sampling


def keep_inputs(
    folder: Path,
    work: Work,
    blends: Mapping[str, Blend],
    names: Mapping[str, str],
    *,
    model: Path | None,
    warnings: list[str],
) -> None:
    """Keep what a report needs; `blends` maps roles to blends, `names` to words, `model` is moved."""
    forget_inputs(folder)
    place = folder / INPUTS
    place.mkdir(parents=True)
    predicted = {role: blend_outputs(work, blend) for role, blend in blends.items()}
    predicted = {role: blocks for role, blocks in predicted.items() if blocks}
    about = {**_about(work, blends, warnings), "names": dict(names)}
    if predicted:
        chosen = _sample(work)
        first = next(iter(predicted.values()))
        arrays = {role: _joined([b.output for b in blocks]) for role, blocks in predicted.items()}
        arrays |= {
            "truth": _joined([b.truth for b in first]),
            "weight": _joined([b.weight for b in first]),
            "block": _joined([np.full(len(b.truth), i) for i, b in enumerate(first)]),
            "baseline": _joined(_baselines(work)),
        }
        np.savez(
            place / "outputs.npz",
            allow_pickle=False,
            **{name: array[chosen] for name, array in arrays.items()},
        )
        _rows(work).iloc[chosen].reset_index(drop=True).to_pickle(place / "rows.pickle")
    write_json(place / "about.json", about)
    if model is not None:
        os.replace(model, place / "model.pickle")


def read_inputs(folder: Path) -> Inputs | None:
    """What was kept; None of a cycle that trained nothing."""
    place = folder / INPUTS
    if not (place / "about.json").exists() or not (place / "outputs.npz").exists():
        return None
    with np.load(place / "outputs.npz") as arrays:
        found = {name: arrays[name] for name in arrays.files}
    model = place / "model.pickle"
    return Inputs(
        truth=found.pop("truth"),
        weight=found.pop("weight"),
        block=found.pop("block"),
        outputs=found,
        rows=pd.read_pickle(place / "rows.pickle"),
        model=model if model.exists() else None,
        about=json.loads((place / "about.json").read_text(encoding="utf-8")),
    )


def forget_inputs(folder: Path) -> None:
    """Delete what was kept; nothing of it is a part of the report."""
    shutil.rmtree(folder / INPUTS, ignore_errors=True)


def _about(work: Work, blends: Mapping[str, Blend], warnings: list[str]) -> dict[str, Any]:
    released = next(iter(blends.values()), None)
    return {
        "roles": {role: str(blend) for role, blend in blends.items()},
        "blocks": [
            {"start": b.start.isoformat(), "end": b.end.isoformat(), "rows": len(b.validation)}
            for b in work.blocks
        ],
        "members": [
            {"family": m.recipe.family, "weight": m.weight}
            for m in (released.members if released else ())
        ],
        "seed": work.problem.sweep.seed,
        "rows": sum(len(b.validation) for b in work.blocks),
        "training_rows": len(work.frame),
        "workers": work.workers,
        "warnings": warnings,
    }


def _sample(work: Work) -> NDArray[np.int64]:
    """Positions among the rows of all blocks, at most `MOST_ROWS`, in order."""
    whole = sum(len(b.validation) for b in work.blocks)
    if whole <= MOST_ROWS:
        return np.arange(whole)
    rng = np.random.default_rng(work.problem.sweep.seed)
    return np.sort(rng.choice(whole, MOST_ROWS, replace=False))


def _rows(work: Work) -> pd.DataFrame:
    h = work.problem.history
    names = [*work.contract.features, *work.problem.metric.slices, h.time]
    positions = np.concatenate([b.validation for b in work.blocks])
    return work.frame.iloc[positions][list(dict.fromkeys(names))]


def _baselines(work: Work) -> list[NDArray[np.float64]]:
    """The constant of each block: class shares or mean of its training rows."""
    task = task_of(work.contract.classes, work.problem.task)
    target = work.frame[work.problem.history.target]
    truth = task.outcomes(target)
    ones = np.ones(len(truth))
    return [task.baseline(truth[b.train], ones[b.train], len(b.validation)) for b in work.blocks]


def _joined(parts: list[Any]) -> NDArray[Any]:
    return np.concatenate(parts)
