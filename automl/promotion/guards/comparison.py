"""What a new model is compared with: champion, newest block, labels; nothing is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.history import utc_naive
from automl.modeling.features import row_weights, to_outcomes
from automl.modeling.recipes import Blend
from automl.promotion.guards.checks import SliceGains, slice_gains
from automl.store import Release
from automl.sweep import Work, blend_outputs

__all__ = ["Comparison", "compare"]

RECENT_BLOCKS = 12  # whose labels bound the mean prediction; older ones belong to another season
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Comparison:
    """What a new model is compared with; what is left out is not checked.

    `champion` is the version and the digests of the champion that it follows. `rows` are the newest
    block's rows and `outputs` the predictions of the sweep's fits of the blend for them, shape (n_rows,) or
    (n_rows, n_classes), `weight` how much each row counts. `labels` are the target's mean, or the classes' shares, per recent block, shape
    (n_blocks,) or (n_blocks, n_classes). `slices` are gains over the champion per declared slice.
    """

    champion: tuple[int, Mapping[str, str]] | None = None
    rows: pd.DataFrame | None = None
    outputs: Array | None = None
    weight: Array | None = None
    labels: Array | None = None
    slices: Sequence[SliceGains] = ()


def compare(work: Work, blend: Blend, champion: Release | None) -> Comparison:
    """What to compare a blend with that was chosen in this work, and follows that champion."""
    outputs = blend_outputs(work, blend, blocks=1)
    return Comparison(
        champion=(champion.model_version, champion.digests) if champion else None,
        rows=work.frame.iloc[work.blocks[0].validation],
        outputs=outputs[0].output if outputs else None,
        weight=row_weights(work.frame, work.problem)[work.blocks[0].validation],
        labels=_labels(work),
        slices=_slices(work, blend, champion.blend) if champion else (),
    )


def _slices(work: Work, blend: Blend, champion: Blend) -> list[SliceGains]:
    names = list(work.problem.metric.slices)
    if not names or blend.id == champion.id:
        return []
    new, old = blend_outputs(work, blend), blend_outputs(work, champion)
    if not new or not old:
        return []
    columns = [work.frame[names].iloc[block.validation] for block in work.blocks]
    return slice_gains(columns, old, new, work.metric)


def _labels(work: Work) -> Array:
    """Means of the target, or shares of the classes, over blocks back from the newest, newest first."""
    times = work.frame[work.problem.history.time].to_numpy()
    outcomes = to_outcomes(work.frame[work.problem.history.target], work.contract)
    end, length = work.blocks[0].end, work.blocks[0].end - work.blocks[0].start
    cuts = [utc_naive(end - i * length).to_datetime64() for i in range(RECENT_BLOCKS + 1)]
    places = np.searchsorted(times, cuts)
    weights = row_weights(work.frame, work.problem)
    components = work.task.components(outcomes)
    means = [
        np.average(components[low:high], axis=0, weights=weights[low:high])
        for high, low in pairwise(places)
        if high > low
    ]
    return np.asarray(means, dtype="float64")
