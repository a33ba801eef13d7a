"""What drives predictions: permutation importance of raw columns, and SHAP values of the LightGBM members."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.explanation.slices import levels_of
from automl.history.contract import Contract
from automl.modeling.features import carried
from automl.modeling.metrics import Metric
from automl.predictions import model_output

__all__ = ["Labelled", "contributions", "permutation_importance"]

Array = NDArray[np.float64]
ROWS = 1000  # of the newest block, at most
LEAST_ROWS = 100
REPEATS = 3
STACKED_ROWS = 20_000  # of one prediction
SHOWN = 12  # columns
LEAST_IN_BIN = 10  # rows behind every number of a profile
MOST_BINS = 5


class Labelled(NamedTuple):
    """Rows with their outcomes and weights."""

    rows: pd.DataFrame
    truth: Array
    weight: Array


def permutation_importance(
    model: Any,
    labelled: Labelled,
    contract: Contract,
    metric: Metric,
    *,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """Loss added when one column is shuffled, for every column, as a share of the loss; most important first.

    Source: Breiman 2001, "Random forests", Machine Learning 45; of any model: Fisher, Rudin and Dominici 2019,
    "All models are wrong, but many are useful", JMLR 20. Columns that say the same share their importance:
    shuffling one leaves the other. Several shuffled copies are predicted at once, within about `seconds`.
    """
    rng, names, until = (
        np.random.default_rng(seed),
        list(contract.features),
        time.monotonic() + 2 * seconds,
    )
    sample, repeats = _affordable(model, labelled, contract, rng, seconds)

    def loss(output: Array) -> float:
        return metric.loss(metric.score(sample.truth, output, sample.weight))

    base = loss(model_output(model, sample.rows, contract))
    added: dict[str, list[float]] = {name: [] for name in names}
    jobs = [name for name in names for _ in range(repeats)]
    size = max(1, STACKED_ROWS // max(1, len(sample.rows)))
    for start in range(0, len(jobs), size):
        if time.monotonic() > until:
            break
        part = jobs[start : start + size]
        copies = [_shuffled(sample.rows, name, rng) for name in part]
        stacked = model_output(model, pd.concat(copies, ignore_index=True), contract)
        for name, output in zip(part, np.split(stacked, len(part)), strict=True):
            added[name].append(loss(output) - base)
    features = [_feature(n, v, base) for n, v in added.items() if v and np.isfinite(v).all()]
    features.sort(key=lambda f: (-f["added"], f["name"]))
    return {
        "rows": len(sample.rows),
        "repeats": repeats,
        "columns": len(names),
        "measured": len(features),
        "loss": float(base),
        "features": features,
    }


def _affordable(
    model: Any, labelled: Labelled, contract: Contract, rng: np.random.Generator, seconds: float
) -> tuple[Labelled, int]:
    """A sample of rows, in order, and the number of repeats whose predictions take about so many seconds."""
    drawn = rng.permutation(len(labelled.rows))[:ROWS]
    began = time.monotonic()
    model_output(model, labelled.rows.iloc[drawn], contract)
    affordable = seconds / max(1e-4, time.monotonic() - began)
    repeats = int(np.clip(affordable / len(contract.features), 1, REPEATS))
    share = min(1.0, affordable / (len(contract.features) * repeats))
    kept = np.sort(drawn[: max(LEAST_ROWS, int(len(drawn) * share))])
    return Labelled(labelled.rows.iloc[kept], labelled.truth[kept], labelled.weight[kept]), repeats


def _feature(name: str, added: Sequence[float], base: float) -> dict[str, Any]:
    mean = float(np.mean(added))
    return {
        "name": name,
        "added": mean,
        "low": float(np.min(added)),
        "high": float(np.max(added)),
        "share": mean / max(abs(base), 1e-12),
    }


def _shuffled(rows: pd.DataFrame, name: str, rng: np.random.Generator) -> pd.DataFrame:
    order = rng.permutation(len(rows))
    return rows.assign(**{name: rows[name].iloc[order].to_numpy()})


def contributions(
    model: Any, rows: pd.DataFrame, contract: Contract, weights: Sequence[float]
) -> dict[str, Any] | None:
    """SHAP values of the LightGBM members on a sample of rows, by raw column; None without such members.

    `pred_contrib` of LightGBM: exact values of TreeSHAP (Lundberg, Erion, Lee 2018, "Consistent individualized
    feature attribution for tree ensembles"). They are in the units of a tree's sum: log-odds for classes, the
    target's unit for values. Members count by weight; encoded columns are added up to their raw column.
    """
    names, sample = list(contract.features), rows.iloc[:ROWS]
    total = np.zeros((len(sample), len(names)))
    size = np.zeros(len(names))
    used = 0.0
    for pipeline, weight in zip(getattr(model, "estimators_", ()), weights, strict=False):
        encoder, estimator = pipeline[0], pipeline[-1]
        if isinstance(estimator, carried.AllClasses):
            estimator = estimator.estimator
        booster = getattr(estimator, "booster_", None)
        if booster is None:
            continue
        values = _by_class(booster, encoder.transform(sample[names]))
        raw = _raw_columns(encoder, values.shape[2])
        if not set(raw) <= set(names):  # a user's transformer makes columns of its own
            continue
        places = [names.index(name) for name in raw]
        folded = np.zeros((values.shape[0], len(sample), len(names)))
        for i, place in enumerate(places):
            folded[:, :, place] += values[:, :, i]
        size += weight * np.abs(folded).mean(axis=1).sum(axis=0)
        total += weight * folded[-1]
        used += weight
    if not used:
        return None
    order = np.argsort(-size, kind="stable")[:SHOWN]
    several = len(contract.classes) > 2
    return {
        "rows": len(sample),
        "weight": float(used / max(1e-12, sum(weights))),
        "unit": "log-odds" if contract.classes else "units of the target",
        "features": [
            {
                "name": names[i],
                "mean_abs": float(size[i] / used),
                "profile": [] if several else _profile(sample[names[i]], total[:, i] / used),
            }
            for i in order
            if size[i] > 0
        ],
    }


def _raw_columns(encoder: Any, width: int) -> list[str]:
    """The raw column of each encoded one; "" where that is unknown."""
    names = [""] * width
    for part, step, own in getattr(encoder, "transformers_", ()):
        place = encoder.output_indices_.get(part, slice(0, 0))
        size, columns = place.stop - place.start, [str(c) for c in own]
        if isinstance(step, carried.TargetCodes) and step.coded_:
            repeats = [(columns[i], size // len(step.coded_)) for i in step.coded_]
        elif isinstance(step, carried.Calendar):
            parts = [sum(m) * (3 if step.cyclic else 1) + step.trend for m in step.moving_]
            repeats = list(zip(columns, parts, strict=True))
        else:
            repeats = [(c, size // len(columns)) for c in columns]
        spread = [name for name, count in repeats for _ in range(count)]
        if len(spread) == size:
            names[place] = spread
    return names


def _by_class(booster: Any, X: Any) -> Array:
    """Shape (n_classes or 1, n_rows, n_encoded_columns); the constant part is left out."""
    flat = np.asarray(booster.predict(X, pred_contrib=True), dtype="float64")
    width = booster.num_feature() + 1
    return flat.reshape(len(flat), -1, width).transpose(1, 0, 2)[:, :, :-1]


def _profile(column: pd.Series, values: Array) -> list[dict[str, Any]]:
    """Mean SHAP value per value, or per quarter of the values, of at least ten rows each."""
    levels = levels_of(column.reset_index(drop=True))
    if levels is None:
        return []
    numbers, names = levels
    found = [
        {
            "label": name,
            "mean": float(values[numbers == i].mean()),
            "rows": int((numbers == i).sum()),
        }
        for i, name in enumerate(names)
        if (numbers == i).sum() >= LEAST_IN_BIN
    ]
    return found[:MOST_BINS]
