"""What a model must pass before release, each guard with its number.

The model is loaded from the registry in a fresh process, because every later use loads it that way. A
guard that fails refuses the release; champion and predictions are unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.errors import AutomlError
from automl.history.contract import Contract
from automl.problem import Problem
from automl.promotion.guards.checks import (
    Guard,
    agreement,
    drift,
    latency,
    leak,
    mean_level,
    size,
    worst_slice,
)
from automl.promotion.guards.comparison import Comparison
from automl.promotion.guards.process import Examiner, NoOutputError

__all__ = ["REFUSED", "check_model", "sample_rows"]

REFUSED = "guards"  # code of the error
SAMPLE_ROWS = 200
NEWEST_ROWS = 2000  # of the newest block, evenly thinned; enough for a mean and a correlation
CONSTANT_SHARE = 0.99  # of equal predictions, at most
Array = NDArray[np.float64]


def sample_rows(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Features of the newest rows: the fixed sample of fingerprints."""
    return frame[list(contract.features)].tail(SAMPLE_ROWS).reset_index(drop=True)


def check_model(
    problem: Problem,
    version: int,
    digests: Mapping[str, str],
    sample: pd.DataFrame,
    *,
    recipe: str,
    losses: Mapping[str, float],
    against: Comparison | None = None,
    examiner: Examiner | None = None,
) -> tuple[list[Guard], str]:
    """Run all guards; returns them and the model's fingerprint.

    `losses` holds "model" and "baseline", the losses on the newest block. An `examiner` that was started
    earlier has loaded its libraries by now.

    Raises
    ------
    AutomlError
        A guard failed; the message names each with its number.
    """
    against = against or Comparison()
    rows = _thinned(len(against.rows)) if against.rows is not None else None
    spec = {
        "version": version,
        "digests": dict(digests),
        "recipe": recipe,
        "champion": (against.champion[0], dict(against.champion[1])) if against.champion else None,
    }
    frames = {"sample": sample}
    if against.rows is not None:
        newest = against.rows.iloc[rows][list(sample.columns)]
        frames["newest"] = newest.reset_index(drop=True)
    try:
        with examiner or Examiner(problem) as process:
            measured, outputs = process.examine(spec, frames)
    except NoOutputError as error:
        found, wanted = error.args
        guard = Guard("fresh process", False, found, wanted)
        raise _refused([guard], problem, against) from None
    better = losses["model"] < losses["baseline"] or problem.sweep.families == ("baseline",)
    beaten, wanted = f"loss {losses['model']:.5g}", f"below {losses['baseline']:.5g}"
    guards = [
        Guard(
            "loads in a fresh process, digests equal", True, f"{len(digests)} files", "all equal"
        ),
        *_sample_guards(outputs),
        Guard("beats the baseline", better, beaten, wanted),
        latency(measured["seconds_per_1000"]),
        size(measured["megabytes"]),
        leak(measured["shares"]),
        *_comparison_guards(against, rows, outputs, measured["champion_lacks"]),
    ]
    if any(not g.passed for g in guards):
        raise _refused(guards, problem, against)
    return guards, measured["fingerprint"]


def _sample_guards(outputs: Mapping[str, Array]) -> list[Guard]:
    """Guards on the outputs for the sample; the process has checked that they are finite."""
    output, alone = outputs["output"], outputs["alone"]
    same = float(np.abs(alone - output[::40]).max())
    first = output if output.ndim == 1 else output[:, 0]
    equal = float(pd.Series(first).value_counts(normalize=True).iloc[0])
    return [
        Guard("finite", True, f"{len(output)} rows", "all finite"),
        Guard(
            "one row = the same row in a batch",
            same <= 1e-9,
            f"difference {same:.2g}",
            "at most 1e-9",
        ),
        Guard(
            "not constant",
            equal <= CONSTANT_SHARE,
            f"{equal:.0%} equal",
            f"at most {CONSTANT_SHARE:.0%}",
        ),
    ]


def _comparison_guards(
    against: Comparison, rows: NDArray[np.int64] | None, outputs: Mapping[str, Array], lacks: str
) -> list[Guard]:
    """Guards that compare the model with champion, labels and sweep, as far as these are known."""
    guards = []
    weight = None if against.weight is None else against.weight[rows]
    if weight is not None and (weight == weight[0]).all():
        weight = None
    if "champion" in outputs:
        guards.append(drift(outputs["champion"], outputs["newest"], weight))
    elif lacks:
        found = f"cannot be compared: {lacks}"[:200]
        guards.append(Guard("drift against the champion", True, found, "a warning only"))
    if against.rows is not None and against.labels is not None:
        guards.append(mean_level(outputs["newest"], against.labels, weight))
    if against.rows is not None and against.outputs is not None:
        guards.append(agreement(against.outputs[rows], outputs["newest"], weight))
    if against.slices:
        guards.append(worst_slice(against.slices))
    return guards


def _thinned(n_rows: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, NEWEST_ROWS)).astype(np.int64))


def _refused(guards: list[Guard], problem: Problem, against: Comparison) -> AutomlError:
    lines = "; ".join(
        f"{g.name}: found {g.found}, wanted {g.wanted}" for g in guards if not g.passed
    )
    return AutomlError(
        f"the new model did not pass its guards: {lines}",
        code=REFUSED,
        next_step=f"automl score {problem.file.name} predicts the new batch with the champion; the next cycle tries again."
        if against.champion
        else "Look at the model's run in MLflow; the next cycle tries again.",
    )
