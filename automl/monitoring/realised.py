"""Realised performance: published predictions scored on the labels that have arrived since.

Uses only the snapshot of the present cycle, so a score never knows more than the cycle does.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from automl import history, predictions
from automl.cycles.job import Job
from automl.history import ROW_ID, Snapshot
from automl.history.contract import Contract, as_kind_of
from automl.history.maturity import mature_rows
from automl.modeling.features import row_weights, to_outcomes
from automl.modeling.metrics import get_metric
from automl.modeling.recipes import Blend
from automl.modeling.tasks import task_of
from automl.problem import Problem
from automl.promotion.evidence import attribute
from automl.store import Generation, Store
from automl.sweep import Work, blend_outputs

__all__ = [
    "Labelled",
    "as_in_history",
    "attribution",
    "match_labels",
    "published_output",
    "record_realised",
    "score_published",
]

PLACE = "__place__"  # column: position of a row in its block
LEAST_ROWS = 30  # published rows; fewer say nothing about how their gain splits

_log = logging.getLogger(__name__)


class Labelled(NamedTuple):
    """Published rows whose label has arrived, by time: labels, outputs and weights, and the rows themselves."""

    truth: np.ndarray
    output: np.ndarray
    weight: np.ndarray | None
    rows: pd.DataFrame


def record_realised(job: Job, snapshot: Snapshot, contract: Contract) -> int:
    """Score every published generation that has new labels; returns how many were scored.

    Rows that are not mature do not count: among them, outcomes that are known early are overrepresented.
    """
    frame = mature_rows(history.read(snapshot), job.problem, job.as_of)
    measured = 0
    for generation in job.store.generations(job.problem.name, limit=job.problem.publish.keep + 1):
        if generation.labelled_rows >= generation.rows or generation.as_of >= job.as_of:
            continue
        scores, rows = score_published(job.store, job.problem, contract, generation, frame)
        if rows <= generation.labelled_rows:
            continue
        release = next(
            (
                r
                for r in job.store.releases(job.problem.name)
                if r.model_version == generation.model_version
            ),
            None,
        )
        if release is not None:
            job.registry.log_live(
                release, {k: v for k, v in scores.items() if np.isfinite(v)}, rows
            )
        # after MLflow: a failure there is repeated by the next cycle, which finds these labels new
        job.store.record_realised(generation.id, rows, scores)
        measured += 1
    return measured


def score_published(
    store: Store,
    problem: Problem,
    contract: Contract,
    generation: Generation,
    labelled: pd.DataFrame,
) -> tuple[dict[str, float], int]:
    """Scores of a generation by metric name, and the number of its rows whose label has arrived."""
    found = match_labels(store, problem, contract, generation, labelled)
    if found is None:
        return {}, 0
    names = [problem.metric.name, *problem.metric.also]
    truth, output, weight, rows = found
    return {name: get_metric(name).score(truth, output, weight) for name in names}, len(rows)


def match_labels(
    store: Store,
    problem: Problem,
    contract: Contract,
    generation: Generation,
    labelled: pd.DataFrame,
) -> Labelled | None:
    """The rows of a generation that have a label in `labelled` history; None without any."""
    keys = list(problem.history.key or (ROW_ID,))
    predicted = predictions.read_generation(store, problem, generation.id)
    predicted = as_in_history(predicted, problem, labelled)
    h = problem.history
    wanted = [*keys, h.target, *([h.weight] if h.weight else []), *problem.metric.slices]
    brought = [n for n in dict.fromkeys(wanted) if n in keys or n not in predicted or n == h.target]
    joined = predicted.merge(labelled[brought], on=keys, how="inner")
    if not len(joined):
        return None
    truth = to_outcomes(joined[problem.history.target], contract)
    output = published_output(store, problem, contract, generation, joined)
    return Labelled(truth, output, row_weights(joined, problem), joined)


def attribution(
    job: Job, work: Work, champion: Blend, challenger: Blend, baseline: float
) -> dict[str, Any] | None:
    """A challenger's gain on the newest block, split into fresh data and new recipe; None if too few rows.

    Three losses on the same rows, those of the block for which predictions were published: of what was
    published, and of the champion's and the challenger's recipes fitted on what was known at the block's
    start. `baseline` is the loss of a constant prediction.
    """
    refits = [blend_outputs(work, blend, blocks=1) for blend in (champion, challenger)]
    places, published = _published(job, work)
    if not all(refits) or len(places) < LEAST_ROWS:
        return None
    outputs = [blocks[0].take(places) for blocks in refits]
    outputs.insert(0, outputs[0]._replace(output=published))
    losses = [work.metric.loss(each.score(work.metric)) for each in outputs]
    if not np.isfinite(losses).all():
        return None
    before, refit, after = losses
    split = attribute(before, refit, after, baseline)
    return {
        "text": f"newest block, {len(places)} published rows: fresh data {split.fresh:+.2%}, "
        f"new recipe {split.recipe:+.2%} of the published loss",
        "rows": len(places),
        "published": before,
        "refit": refit,
        "challenger": after,
        "fresh": split.fresh,
        "recipe": split.recipe,
    }


def _published(job: Job, work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the newest block of the rows with published predictions, and those predictions."""
    block, keys = work.blocks[0], list(job.problem.history.key or (ROW_ID,))
    rows = work.frame.iloc[block.validation][[*keys, job.problem.history.target]]
    rows = rows.assign(**{PLACE: np.arange(len(rows))})
    taken: list[np.ndarray] = []
    outputs: list[np.ndarray] = []
    published = job.store.generations(job.problem.name, limit=job.problem.publish.keep + 1)
    for generation in sorted(published, key=lambda g: (g.as_of, g.id), reverse=True):
        start, end = generation.window
        if start >= min(block.end, job.as_of) or end <= block.start:
            continue
        predicted = predictions.read_generation(job.store, job.problem, generation.id)
        joined = as_in_history(predicted, job.problem, rows).merge(rows, on=keys, how="inner")
        if taken:
            joined = joined[~joined[PLACE].isin(np.concatenate(taken))]
        if len(joined):
            taken.append(joined[PLACE].to_numpy())
            outputs.append(
                published_output(job.store, job.problem, work.contract, generation, joined)
            )
    if not taken:
        return np.empty(0, dtype="int64"), np.empty(0)
    return np.concatenate(taken), np.concatenate(outputs)


def as_in_history(
    published: pd.DataFrame, problem: Problem, labelled: pd.DataFrame
) -> pd.DataFrame:
    """Published rows with the keys of `labelled` history: hashed where personal, and of the same kind.

    A key that was a number when it was published may have become text since.
    """
    hashes = {
        n: history.hashed(pa.array(published[n].astype("str"))).to_pandas()
        for n in history.personal_keys(problem)
    }
    keys = problem.history.key or (ROW_ID,)
    others = {n: as_kind_of(published[n], labelled[n]) for n in keys if n not in hashes}
    return published.assign(**hashes, **others)


def published_output(
    store: Store,
    problem: Problem,
    contract: Contract,
    generation: Generation,
    joined: pd.DataFrame,
) -> np.ndarray:
    """Outputs from which these rows of a generation were published."""
    keys = list(problem.history.key or (ROW_ID,))

    def per_class() -> pd.DataFrame:
        rows = predictions.read_classes(store, problem, generation.id)
        rows = as_in_history(rows, problem, joined)
        rows["class"] = as_kind_of(rows["class"], pd.Series(contract.classes))
        wide = rows.pivot(index=keys, columns="class", values="probability")
        index = pd.MultiIndex.from_frame(joined[keys]) if len(keys) > 1 else joined[keys[0]]
        # a class that the contract did not list then had no probability
        return wide.loc[index].reindex(columns=list(contract.classes), fill_value=0.0)

    return task_of(contract.classes, problem.task).from_published(joined, per_class)
