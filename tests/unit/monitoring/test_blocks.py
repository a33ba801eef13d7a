"""Blocks of history that drift is measured on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pandas as pd

from automl.monitoring.blocks import _spans
from automl.problem import Problem
from tests.support.parcels import AS_OF


def test_blocks_without_rows_are_neither_past_nor_newest(
    make_problem: Callable[..., Problem], world: pd.DataFrame
) -> None:
    problem = make_problem()
    times = np.sort(pd.to_datetime(world["sent_at"]).to_numpy("datetime64[us]"))
    last = pd.Timestamp(times[-1], tz="UTC").to_pydatetime()
    assert last > AS_OF - timedelta(days=7)
    gap = (times < times[-1] - np.timedelta64(30, "D")) | (
        times > times[-1] - np.timedelta64(9, "D")
    )

    spans = _spans(problem, last + timedelta(weeks=20), times[gap])

    stamps = [[np.datetime64(edge.replace(tzinfo=None), "us") for edge in span] for span in spans]
    rows = [int(((times[gap] >= a) & (times[gap] < b)).sum()) for a, b in stamps]
    assert len(spans) > 3
    assert min(rows) > 0
    assert spans[-1][0] <= last, "the newest block is the last with rows"
    assert sum(rows) > 0.9 * gap.sum()
