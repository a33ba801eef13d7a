"""How published predictions have turned out, on the labels that have arrived since.

Uses only the snapshot of the present cycle, so a score never knows more than the cycle does.
"""

from __future__ import annotations

import logging
from datetime import UTC
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from automl import history, publish
from automl.contract import Contract
from automl.features.matrices import to_outcomes
from automl.history import ROW_ID, Snapshot
from automl.metrics import get_metric
from automl.problem import Problem
from automl.store import Store
from automl.story import Job

__all__ = ["judge", "judge_frame"]

_log = logging.getLogger(__name__)


def judge(job: Job, snapshot: Snapshot, contract: Contract) -> int:
    """Score every published generation that has new labels; returns how many were scored."""
    frame = history.read(snapshot)
    judged = 0
    for generation in job.store.generations(job.problem.name, limit=job.problem.publish.keep + 1):
        if (
            generation["judged_rows"] >= generation["rows"]
            or generation["as_of"].replace(tzinfo=UTC) >= job.as_of
        ):
            continue
        scores, rows = judge_frame(job.store, job.problem, contract, generation, frame)
        if rows <= generation["judged_rows"]:
            continue
        job.store.judged(generation["id"], rows, scores)
        release = next(
            (
                r
                for r in job.store.releases(job.problem.name)
                if r.model_version == generation["model_version"]
            ),
            None,
        )
        if release is not None:
            job.registry.log_live(
                release, {k: v for k, v in scores.items() if np.isfinite(v)}, rows
            )
        judged += 1
    return judged


def judge_frame(
    store: Store,
    problem: Problem,
    contract: Contract,
    generation: dict[str, Any],
    labelled: pd.DataFrame,
) -> tuple[dict[str, float], int]:
    """Scores of a generation by metric name, and the number of rows that could be judged."""
    keys = list(problem.history.key or (ROW_ID,))
    predicted = publish.read_generation(store, problem, generation["id"])
    predicted = _as_in_history(predicted, problem)
    joined = predicted.merge(labelled[[*keys, problem.history.target]], on=keys, how="inner")
    if not len(joined):
        return {}, 0
    truth = to_outcomes(joined[problem.history.target], contract)
    output = _output(store, problem, contract, generation, joined)
    names = [problem.metric.name, *problem.metric.also]
    return {name: get_metric(name).score(truth, output) for name in names}, len(joined)


def _as_in_history(published: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Published rows under the keys of history, which knows personal ones by their hash alone."""
    told = {
        n: history.hashed(pa.array(published[n].astype("str"))).to_pandas()
        for n in history.personal_keys(problem)
    }
    return published.assign(**told)


def _output(
    store: Store,
    problem: Problem,
    contract: Contract,
    generation: dict[str, Any],
    joined: pd.DataFrame,
) -> np.ndarray:
    if not contract.classes:
        return joined["prediction"].to_numpy("float64")
    if problem.task == "binary":
        positive = joined["probability"].to_numpy("float64")
        return np.column_stack([1 - positive, positive])
    keys = list(problem.history.key or (ROW_ID,))
    table = store.engine.dialect.identifier_preparer.quote(f"{problem.table}_classes_generations")
    with store.engine.connect() as connection:
        query = sa.text(f"select * from {table} where generation = :g")  # noqa: S608
        rows = pd.read_sql(query, connection, params={"g": generation["id"]})
    wide = _as_in_history(rows, problem).pivot(index=keys, columns="class", values="probability")[
        list(contract.classes)
    ]
    return wide.loc[
        pd.MultiIndex.from_frame(joined[keys]) if len(keys) > 1 else joined[keys[0]]
    ].to_numpy("float64")
