"""Columns by the role that the problem file gives them: which are read, which only training needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from automl.errors import HistoryError
from automl.problem import Problem

__all__ = ["ROW_ID", "also_named", "ignored", "learning_only", "listed", "require", "unread"]

ROW_ID = "row_id"


def ignored(problem: Problem) -> set[str]:
    """Columns in `history.ignore`, except those that have another role."""
    h = problem.history
    roles = {h.target, h.time, h.label_time, h.updated_at, h.weight, *h.key, *h.group}
    return {*h.ignore} - roles


def unread(problem: Problem) -> set[str]:
    """Columns that are never read: ignored ones, personal ones outside the key, and those without a name."""
    h = problem.history
    return ignored(problem) | ({*h.personal} - {*h.key}) | {""}


def learning_only(problem: Problem) -> list[str]:
    """Columns that only training rows need: target, label time, weight, group."""
    h = problem.history
    names = (h.target, h.label_time, h.weight, *h.group)
    return [name for name in names if name and name not in (h.time, *h.key)]


def also_named(problem: Problem) -> dict[str, str]:
    """Columns that the problem file names besides time and target: role -> column."""
    h = problem.history
    named = {f"history.key {k!r}": k for k in h.key} | {f"history.group {g!r}": g for g in h.group}
    for role in ("updated_at", "label_time", "weight"):
        if getattr(h, role):
            named[f"history.{role}"] = getattr(h, role)
    named |= {f"metric.slices {s!r}": s for s in problem.metric.slices}
    # a typo in history.personal would let a personal column through
    return named | {f"history.personal {p!r}": p for p in h.personal}


def listed(names: Iterable[str]) -> str:
    """Names of columns in a message; quoted if they begin or end with a space."""
    return ", ".join(name if name == name.strip() else repr(name) for name in names)


def require(names: list[str], *roles: Mapping[str, str]) -> None:
    """Raise HistoryError if a column of these roles is missing; the message names all of them."""
    wanted = {role: name for group in roles for role, name in group.items()}
    missing = {role: name for role, name in wanted.items() if name not in names}
    if missing:
        lines = "; ".join(f"{role}: column {name!r} is missing" for role, name in missing.items())
        raise HistoryError(
            f"{lines}; found {listed(names)}",
            code="missing_column",
            next_step="Restore the column in the source, or change its name in the problem file.",
        )
