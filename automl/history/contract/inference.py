"""Infer the contract from the rows of the first pull.

The contract is a small JSON file next to the problem file, to be read, edited and committed: one line per
column, with its kind and its categories or range. Later pulls are checked against it; it is not inferred
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from automl.errors import HistoryError
from automl.history.contract.target import check_target, check_weights, counted
from automl.history.contract.values import Contract
from automl.history.rows.casting import as_kind
from automl.history.rows.gaps import unused_text
from automl.history.rows.kinds import ColumnKind
from automl.history.rows.roles import ROW_ID
from automl.problem import Problem

__all__ = ["as_kind_of", "infer", "infer_columns", "kind_of", "with_extent"]

MOST_CATEGORIES_SHARE = 0.5  # a text column with more distinct values than this is an id
MOST_CATEGORIES = 10_000  # with more categories, each has too few rows to learn from
MOST_LISTED = 40  # categories that are listed in the contract; longer lists are not read


def infer(
    frame: pd.DataFrame,
    problem: Problem,
    unused: Mapping[str, str] | None = None,
    gaps: Mapping[str, Sequence[str]] | None = None,
) -> Contract:
    """The contract that these labelled rows suggest.

    `unused` are the columns that the pull left out: column -> reason. `gaps` are the texts that it read as
    missing.

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
        name: kind_of(frame[name])
        for name in dict.fromkeys([*h.key, *h.group, h.target])
        if name in frame.columns and name not in features
    }
    contract = Contract(
        features=features,
        unused=left_out,
        classes=_classes(frame, problem),
        roles=roles,
        gaps=_listed(gaps or {}, left_out),
    )
    check_target(frame, problem, contract)
    return with_extent(contract, frame)


def _listed(
    gaps: Mapping[str, Sequence[str]], unused: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    return {name: tuple(texts) for name, texts in gaps.items() if name not in unused}


def infer_columns(frame: pd.DataFrame, problem: Problem) -> Contract:
    """As `infer`, without the target."""
    features, unused = _sorted_out(frame, problem)
    return with_extent(Contract(features=features, unused=unused, classes=()), frame)


def _sorted_out(
    frame: pd.DataFrame, problem: Problem
) -> tuple[dict[str, ColumnKind], dict[str, str]]:
    """The feature columns with their kinds, and why the others are not used."""
    h = problem.history
    special = {h.target, h.weight, h.label_time, ROW_ID, *h.key, *h.group} - {h.time}
    features: dict[str, ColumnKind] = {}
    unused: dict[str, str] = {}
    for name in frame.columns:
        if name in special:
            continue
        column = frame[name]
        kind = kind_of(column)
        distinct = column.nunique() if kind == "text" else 0
        if distinct > max(100, MOST_CATEGORIES_SHARE * len(column)):
            unused[name] = unused_text(column)
        elif distinct > MOST_CATEGORIES:
            unused[name] = f"more than {MOST_CATEGORIES:,} categories"
        elif kind == "number" and name not in problem.metric.slices and _counts_rows(column):
            unused[name] = "counts rows"
        else:
            features[name] = kind
    return features, unused


def _counts_rows(column: pd.Series) -> bool:
    """Whether whole numbers rise from each row to the next: an id, whose future values are all unseen."""
    values = column.to_numpy("float64")
    return bool(len(values) > 1 and (np.diff(values) > 0).all() and (values % 1 == 0).all())


def kind_of(column: pd.Series) -> ColumnKind:
    """The kind of a column of a snapshot."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return "time"
    if pd.api.types.is_integer_dtype(column):
        return "whole"
    return "number" if pd.api.types.is_float_dtype(column) else "text"


def as_kind_of(column: pd.Series, like: pd.Series) -> pd.Series:
    """The column as the kind of another; cells that do not fit become missing.

    As text a day is written without its midnight.
    """
    kind = kind_of(like)
    if kind_of(column) == kind or not len(column):
        return column.astype(like.dtype) if not len(column) else column
    if kind == "text" and kind_of(column) == "time":
        days = (column.dropna() == column.dropna().dt.normalize()).all()
        column = column.dt.strftime("%Y-%m-%d" if days else "%Y-%m-%d %H:%M:%S")
    return as_kind(column.astype("object"), kind).cells.to_pandas().set_axis(column.index)


def with_extent(contract: Contract, frame: pd.DataFrame) -> Contract:
    """The contract with the categories and ranges of these rows."""
    categories: dict[str, tuple[str, ...]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for name, kind in contract.features.items():
        if name not in frame.columns:
            continue
        cells = frame[name].dropna()
        if kind == "text" and cells.nunique() <= MOST_LISTED:
            categories[name] = tuple(sorted(cells.astype("str").unique().tolist()))
        if kind == "number" and len(cells) and pd.api.types.is_float_dtype(cells):
            ranges[name] = (float(cells.min()), float(cells.max()))
    return replace(contract, categories=categories, ranges=ranges)


def _classes(frame: pd.DataFrame, problem: Problem) -> tuple[str | int, ...]:
    if problem.task == "regression":
        return ()
    values = frame[problem.history.target].unique().tolist()
    found = sorted(values, key=lambda v: (str(type(v)), v))
    # one class or three of a binary problem are refused later, by `check_target`
    if problem.task == "multiclass" or len(found) != 2:
        return tuple(found)
    positive = problem.history.positive
    wanted = found[-1] if positive is None else positive
    match = [v for v in found if v == wanted or str(v) == str(wanted)]
    if not match:
        raise HistoryError(
            f"history.positive: found {positive!r}; wanted a value of the target "
            f"{problem.history.target!r}: {', '.join(map(repr, found[:8]))}",
            code="positive",
            next_step="Set history.positive to the class whose probability is to be predicted.",
        )
    return (*[v for v in found if v != match[0]], match[0])
