"""What the data must look like: written down at the first pull, enforced ever after.

The contract is a small JSON file beside the problem file, meant to be read, changed and committed by
people: one line per column, with its kind, its categories or its range. Data that breaks it is refused
before any model is touched, and it is never inferred twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from automl.errors import HistoryError
from automl.history.contract.checks import (
    MIN_PER_CLASS,
    MIN_ROWS,
    check,
    check_batch,
    check_target,
    check_weights,
    counted,
)
from automl.history.contract.values import (
    Contract,
    Finding,
    contract_file,
    load_contract,
    save_contract,
)
from automl.history.rows.casting import ROW_ID, Kind, as_kind
from automl.problem import Problem

__all__ = [
    "MIN_PER_CLASS",
    "MIN_ROWS",
    "Contract",
    "Finding",
    "accept",
    "changes",
    "check",
    "check_batch",
    "contract_file",
    "counted",
    "infer",
    "load_contract",
    "save_contract",
]

MOST_CATEGORIES_SHARE = 0.5  # a text column with more distinct values than this is an id
MOST_CATEGORIES = 10_000  # more of them are no category a model could learn anything about
STRAYS = 0.01  # share of cells that may not fit a kind; the pull sets their rows aside
MOST_LISTED = 40  # categories that are written down; more are checked by nobody's eye


def infer(
    frame: pd.DataFrame, problem: Problem, unused: Mapping[str, str] | None = None
) -> Contract:
    """The contract that these labelled rows suggest.

    `unused` are columns that the pull has already left out, with the reason.

    Raises
    ------
    HistoryError
        The target does not fit the task: constant, one class, or the positive class is missing. Row weights
        are negative or missing.
    """
    h = problem.history
    check_weights(frame, problem)
    frame = counted(frame, problem)
    features, unused_here = _sorted_out(frame, problem)
    left_out = {name: "key" for name in h.key if name != h.time} | dict.fromkeys(h.group, "group")
    left_out |= dict(unused or {}) | unused_here
    roles = {
        name: _kind_of(frame[name])
        for name in dict.fromkeys([*h.key, *h.group, h.target])
        if name in frame.columns and name not in features
    }
    contract = Contract(features, left_out, _classes(frame, problem), roles)
    check_target(frame, problem, contract)
    return _with_extent(contract, frame)


def changes(fresh: pd.DataFrame, contract: Contract, problem: Problem) -> list[Finding]:
    """What the newest rows, pulled without the contract, would change in it."""
    fresh = _without_strays(fresh, contract, problem)
    proposed = infer_columns(fresh, problem)
    found = [
        Finding("column_new", f"{n}: new column of kind {k}")
        for n, k in proposed.features.items()
        if n not in contract.features and n not in contract.unused
    ]
    found += [
        Finding("column_removed", f"{n}: no longer there")
        for n in contract.features
        if n not in fresh.columns
    ]
    for name, kind in contract.features.items():
        other = _kind_of(fresh[name]) if name in fresh.columns else kind
        if other != kind and fresh[name].notna().any():
            found.append(Finding("kind_changed", f"{name}: kind {kind} -> {other}"))
        new = sorted(
            set(proposed.categories.get(name, ())) - set(contract.categories.get(name, ()))
        )
        if name in contract.categories and new:
            found.append(Finding("category_new", f"{name}: new categories {', '.join(new[:8])}"))
        if name in contract.ranges and name in proposed.ranges:
            (low, high), (a, b) = contract.ranges[name], proposed.ranges[name]
            if a < low or b > high:
                found.append(
                    Finding(
                        "range_left",
                        f"{name}: range {low:g} to {high:g} -> {min(a, low):g} to {max(b, high):g}",
                    )
                )
    classes = sorted({str(v) for v in fresh[problem.history.target].dropna().unique()})
    known = {str(c) for c in contract.classes}
    if contract.classes and set(classes) - known:
        found.append(
            Finding(
                "class_new",
                f"{problem.history.target}: new classes {', '.join(sorted(set(classes) - known))}",
            )
        )
    return found


def accept(fresh: pd.DataFrame, contract: Contract, problem: Problem) -> Contract:
    """The contract with what `changes` found taken in."""
    fresh = _without_strays(fresh, contract, problem)
    h = problem.history
    proposed = infer_columns(fresh, problem)
    gone = {n for n in contract.features if n not in fresh.columns}
    features = {n: k for n, k in contract.features.items() if n not in gone}
    for name, kind in proposed.features.items():
        if name not in contract.unused and (name not in features or fresh[name].notna().any()):
            features[name] = kind
    for name in list(features):
        if name in fresh.columns and fresh[name].notna().any():
            features[name] = _kind_of(fresh[name])
    classes = contract.classes
    if classes:
        extra = [v for v in fresh[h.target].dropna().unique().tolist() if v not in classes]
        classes = (*classes, *sorted(extra, key=str)) if problem.task == "multiclass" else classes
        if problem.task == "multiclass":
            classes = tuple(sorted(classes, key=lambda v: (str(type(v)), v)))
    merged = replace(contract, features=dict(sorted(features.items())), classes=classes)
    extent = _with_extent(replace(merged, categories={}, ranges={}), fresh)
    categories = {
        n: tuple(sorted({*extent.categories.get(n, ()), *contract.categories.get(n, ())}))
        for n, kind in features.items()
        if kind == "text" and (n in extent.categories or n not in fresh.columns)
    }
    ranges = {}
    for name, span in extent.ranges.items():
        before = contract.ranges.get(name, span)
        ranges[name] = (min(span[0], before[0]), max(span[1], before[1]))
    return replace(merged, categories=categories, ranges=ranges)


def infer_columns(frame: pd.DataFrame, problem: Problem) -> Contract:
    """As `infer`, without a word about the target."""
    return _with_extent(Contract(*_sorted_out(frame, problem), ()), frame)


def _sorted_out(frame: pd.DataFrame, problem: Problem) -> tuple[dict[str, Kind], dict[str, str]]:
    """Columns that features are made of, and why others are not."""
    h = problem.history
    special = {h.target, h.weight, h.label_time, ROW_ID, *h.key, *h.group} - {h.time}
    features: dict[str, Kind] = {}
    unused: dict[str, str] = {}
    for name in frame.columns:
        if name in special:
            continue
        column = frame[name]
        kind = _kind_of(column)
        distinct = column.nunique() if kind == "text" else 0
        if distinct > max(100, MOST_CATEGORIES_SHARE * len(column)):
            unused[name] = "nearly unique text"
        elif distinct > MOST_CATEGORIES:
            unused[name] = f"more than {MOST_CATEGORIES:,} categories"
        elif kind == "number" and name not in problem.metric.slices and _counts_rows(column):
            unused[name] = "counts rows"
        else:
            features[name] = kind
    return features, unused


def _counts_rows(column: pd.Series) -> bool:
    """Whether whole numbers only ever rise from row to row: an id, whose next value nothing was seen of."""
    values = column.to_numpy("float64")
    return bool(len(values) > 1 and (np.diff(values) > 0).all() and (values % 1 == 0).all())


def _without_strays(fresh: pd.DataFrame, contract: Contract, problem: Problem) -> pd.DataFrame:
    """The rows with columns in the agreed kind where next to all cells fit it: strays change no kind."""
    mended = {}
    for name, kind in contract.features.items():
        if name in fresh.columns and kind != "text" and _kind_of(fresh[name]) == "text":
            cast = as_kind(fresh[name].astype("object"), kind, problem.history.timezone)
            if cast.bad.sum() <= STRAYS * fresh[name].notna().sum():
                mended[name] = cast.cells.to_pandas().set_axis(fresh.index)
    return fresh.assign(**mended)


def _kind_of(column: pd.Series) -> Kind:
    if pd.api.types.is_datetime64_any_dtype(column):
        return "time"
    if pd.api.types.is_integer_dtype(column):
        return "whole"
    return "number" if pd.api.types.is_float_dtype(column) else "text"


def _with_extent(contract: Contract, frame: pd.DataFrame) -> Contract:
    """Categories and ranges as these rows show them."""
    categories: dict[str, tuple[str, ...]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for name, kind in contract.features.items():
        if name not in frame.columns:
            continue
        known = frame[name].dropna()
        if kind == "text" and known.nunique() <= MOST_LISTED:
            categories[name] = tuple(sorted(known.astype("str").unique().tolist()))
        if kind == "number" and len(known) and pd.api.types.is_float_dtype(known):
            ranges[name] = (float(known.min()), float(known.max()))
    return replace(contract, categories=categories, ranges=ranges)


def _classes(frame: pd.DataFrame, problem: Problem) -> tuple[str | int, ...]:
    if problem.task == "regression":
        return ()
    values = frame[problem.history.target].unique().tolist()
    found = sorted(values, key=lambda v: (str(type(v)), v))
    if (
        problem.task == "multiclass" or len(found) != 2
    ):  # one class or three: refused in words of their own
        return tuple(found)
    positive = problem.history.positive
    wanted = found[-1] if positive is None else positive
    match = [v for v in found if v == wanted or str(v) == str(wanted)]
    if not match:
        raise HistoryError(
            f"history.positive: found {positive!r}; the target {problem.history.target!r} holds "
            f"{', '.join(map(repr, found[:8]))}",
            code="positive",
            next_step="Set history.positive to the value that the prediction is about.",
        )
    return (*[v for v in found if v != match[0]], match[0])
