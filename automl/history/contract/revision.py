"""Compare the newest rows with the contract, and revise it as `automl contract --accept` does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypeAlias

import pandas as pd
import pyarrow as pa

from automl.history.contract.inference import infer_columns, kind_of, with_extent
from automl.history.contract.values import Contract, Finding
from automl.history.rows.casting import as_kind
from automl.problem import Problem

__all__ = ["accept", "changes"]

Gaps: TypeAlias = Mapping[str, Collection[str]]
STRAYS = 0.01  # share of cells that may not fit a kind; their rows are quarantined at the next pull


def changes(
    fresh: pd.DataFrame, contract: Contract, problem: Problem, gaps: Gaps | None = None
) -> list[Finding]:
    """The changes of the contract that `fresh` suggests, rows that were pulled without it.

    `gaps` are the texts of each column that were read as missing.
    """
    fresh = _without_strays(fresh, contract, problem)
    proposed = infer_columns(fresh, problem)
    found = [
        Finding("column_new", f"{n}: new column of kind {k}")
        for n, k in proposed.features.items()
        if n not in contract.features and n not in contract.unused
    ]
    found += [
        Finding("column_removed", f"{n}: no longer in the source")
        for n in contract.features
        if n not in fresh.columns
    ]
    found += [
        Finding("kind_changed", f"{name}: kind {contract.roles[name]} -> text")
        for name in _become_text(fresh, contract, problem)
    ]
    for name, kind in contract.features.items():
        other = kind_of(fresh[name]) if name in fresh.columns else kind
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
    merged = _merged_gaps(contract, problem, gaps or {})
    found += [
        Finding("gap_new", f"{name}: {', '.join(map(repr, new))} read as missing")
        for name, texts in merged.items()
        if (new := [t for t in texts if t not in contract.gaps.get(name, ())])
    ]
    classes = sorted({str(v) for v in fresh[problem.history.target].dropna().unique()})
    listed = {str(c) for c in contract.classes}
    if contract.classes and set(classes) - listed:
        found.append(
            Finding(
                "class_new",
                f"{problem.history.target}: new classes {', '.join(sorted(set(classes) - listed))}",
            )
        )
    return found


def accept(
    fresh: pd.DataFrame, contract: Contract, problem: Problem, gaps: Gaps | None = None
) -> Contract:
    """The contract with all `changes`."""
    fresh = _without_strays(fresh, contract, problem)
    h = problem.history
    proposed = infer_columns(fresh, problem)
    missing = {n for n in contract.features if n not in fresh.columns}
    features = {n: k for n, k in contract.features.items() if n not in missing}
    for name, kind in proposed.features.items():
        if name not in contract.unused and (name not in features or fresh[name].notna().any()):
            features[name] = kind
    for name in list(features):
        if name in fresh.columns and fresh[name].notna().any():
            features[name] = kind_of(fresh[name])
    classes, roles = contract.classes, dict(contract.roles)
    roles |= dict.fromkeys(_become_text(fresh, contract, problem), "text")
    if classes:
        if roles.get(h.target) == "text":
            classes = tuple(map(str, classes))
        extra = [v for v in fresh[h.target].dropna().unique().tolist() if v not in classes]
        classes = (*classes, *sorted(extra, key=str)) if problem.task == "multiclass" else classes
        if problem.task == "multiclass":
            classes = tuple(sorted(classes, key=lambda v: (str(type(v)), v)))
    features = dict(sorted(features.items()))
    merged = replace(contract, features=features, classes=classes, roles=roles)
    merged = replace(merged, gaps=_merged_gaps(merged, problem, gaps or {}))
    extent = with_extent(replace(merged, categories={}, ranges={}), fresh)
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


def _become_text(fresh: pd.DataFrame, contract: Contract, problem: Problem) -> list[str]:
    """Keys, groups and a target with classes that are no longer what the contract says: text holds both."""
    h = problem.history
    fixed = {*h.personal} | ({h.target} if problem.task != "multiclass" else set())
    return [
        name
        for name, kind in contract.roles.items()
        if name in fresh.columns
        and name not in fixed
        and kind != "text"
        and kind_of(fresh[name]) != kind
        and fresh[name].notna().any()
    ]


def _merged_gaps(contract: Contract, problem: Problem, gaps: Gaps) -> dict[str, tuple[str, ...]]:
    """The gaps of the contract and those found, of columns that are not texts."""
    kinds = contract.kinds(problem)
    merged = {
        name: tuple(sorted({*contract.gaps.get(name, ()), *gaps.get(name, ())}))
        for name in sorted({*contract.gaps, *gaps})
        if name in contract.gaps or kinds.get(name, "text") != "text"
    }
    return {name: texts for name, texts in merged.items() if texts}


def _without_strays(fresh: pd.DataFrame, contract: Contract, problem: Problem) -> pd.DataFrame:
    """The rows; a text column of which almost all cells fit the contract's kind is cast to that kind."""
    recast = {}
    for name, kind in {**contract.roles, **contract.features}.items():
        if name in fresh.columns and kind != "text" and kind_of(fresh[name]) == "text":
            cast = as_kind(fresh[name].astype("object"), kind, problem.history.timezone)
            if cast.bad.sum() <= STRAYS * fresh[name].notna().sum():
                # whole numbers stay whole where a stray leaves a gap
                cells = cast.cells.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
                recast[name] = cells.set_axis(fresh.index)
    return fresh.assign(**recast)
