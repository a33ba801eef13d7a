"""Which columns a pull keeps, and as which kinds: from the contract, or inferred at a first pull."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import pyarrow as pa
import pyarrow.compute as pc

from automl.errors import ContractError, HistoryError
from automl.history.rows.gaps import unused_text, without_gaps
from automl.history.rows.kinds import (
    ARROW,
    Column,
    ColumnKind,
    ColumnKinds,
    infer_key,
    infer_kind,
    infer_label,
)
from automl.history.rows.names import UPDATED, refuse_type
from automl.history.rows.roles import learning_only, listed, unread
from automl.problem import Problem

__all__ = ["Chunk", "Layout", "Widen", "infer_layout", "kinds_to_pull", "refuse_vanished"]

Chunk = dict[str, Column]
MOST_DISTINCT = 0.5  # share of rows above which a text is an id or free text, not a category


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that are kept and their kinds.

    `inferring` is set at the first pull only: kinds may still widen to text. `unused` says why an
    offered column is left out. `nulls` are texts that mean a gap in every column, `gaps` in one.
    """

    kinds: dict[str, ColumnKind]
    nulls: tuple[str, ...] = ()
    gaps: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inferring: bool = False
    unused: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Kept columns, in name order."""
        return sorted(self.kinds)

    def schema(self, *, updated: bool) -> pa.Schema:
        """The Arrow schema of kept rows; `updated`: with the time of their last change."""
        fields = [pa.field(name, ARROW[self.kinds[name]]) for name in self.names]
        return pa.schema(fields + ([pa.field(UPDATED, ARROW["time"])] if updated else []))


class Widen(Exception):  # noqa: N818  not an error: the pull starts again with these kinds
    """A later chunk of the first pull shows that a column is text."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def infer_layout(
    problem: Problem, chunk: Chunk, names: Sequence[str], *, loose: bool, every: bool
) -> Layout:
    """The layout that the first usable rows suggest; a later contradiction widens a kind to text.

    `names` are all columns of the source. `loose`: the source returns only texts. `every`: keep nearly
    unique texts too.
    """
    h = problem.history
    kinds: dict[str, ColumnKind] = {}
    unused: dict[str, str] = {}
    left_out = unread(problem) | ({h.updated_at} - {h.target, h.time, h.label_time, *h.key})
    roles = {*h.key, h.time, h.label_time, h.weight, h.target, *h.group, *problem.metric.slices}
    for name in names:
        if name in left_out or name not in chunk:
            continue
        column = chunk[name]
        refuse_type(name, column)
        kind = _infer_one(problem, name, column, loose=loose)
        if kind == "text" and not every and name not in roles and _nearly_unique(column):
            unused[name] = unused_text(column)
        else:
            kinds[name] = kind
    return Layout(kinds, inferring=True, unused=unused)


def _infer_one(problem: Problem, name: str, column: Column, *, loose: bool) -> ColumnKind:
    h = problem.history
    if name in h.key and name != h.time:
        return "text" if name in h.personal else infer_key(column, loose=loose)
    if name in (h.time, h.label_time):
        return "time"
    if name == h.weight:
        return "number"
    if name not in h.group:
        column = without_gaps(column)
    if name == h.target:
        number = problem.task == "regression" and infer_kind(column) == "number"
        return "number" if number else infer_label(column)
    return infer_kind(column)


def _nearly_unique(column: Column) -> bool:
    distinct = (
        pc.count_distinct(column).as_py()
        if isinstance(column, pa.Array)
        # plain str: pandas refuses bytes that are not UTF-8
        else len(set(map(str, column.dropna())))
    )
    return bool(distinct > max(100, MOST_DISTINCT * len(column)))


def refuse_vanished(layout_kinds: ColumnKinds, names: Sequence[str]) -> None:
    """Raise HistoryError if the source lacks a column of the contract; suggests the likely new name."""
    missing = [name for name in layout_kinds if name not in names]
    if not missing:
        return
    new = [n for n in names if n not in layout_kinds]
    close = [(n, get_close_matches(n, new, n=1, cutoff=0.6)) for n in missing]
    renamed = "".join(f". Was {old!r} renamed to {match[0]!r}?" for old, match in close if match)
    raise HistoryError(
        f"column {', '.join(map(repr, missing))} is missing; found {listed(names)}{renamed}",
        code="missing_column",
        next_step="Restore the column in the source, or accept the change: automl contract FILE --accept",
    )


def kinds_to_pull(problem: Problem, kinds: ColumnKinds, *, batch: bool) -> dict[str, ColumnKind]:
    """The kinds of the columns to pull; a batch has neither target nor label columns.

    Raises
    ------
    ContractError
        The contract lists a column that `history.personal` keeps from being read.
    """
    hidden = sorted({*kinds} & {*problem.history.personal} - {*problem.history.key})
    if hidden:
        raise ContractError(
            f"the contract lists column {', '.join(map(repr, hidden))}, which history.personal keeps from "
            "being read",
            code="contract",
            next_step=f"Remove it from the contract: automl contract {problem.file.name} --accept",
        )
    labels = learning_only(problem) if batch else []
    return {name: kind for name, kind in kinds.items() if name not in labels}
