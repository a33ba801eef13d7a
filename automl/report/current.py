"""What is in effect now: a cycle that has already ended, the champion and the live predictions."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from automl.cycles.options import RunOptions, default_as_of
from automl.cycles.result import CycleResult, ended_result
from automl.problem import Problem
from automl.store import UNSCORED, Generation, Store
from automl.workspace import Workspace, now

__all__ = ["InEffect", "finished", "in_effect"]


def finished(
    problem: Problem, workspace: Workspace, verb: str, options: RunOptions
) -> CycleResult | None:
    """The result of a cycle that has already ended; None if there is work to do. Takes well under a second."""
    if options.again or _without_store(workspace):
        return None
    store = Store(workspace)
    as_of = options.as_of or default_as_of(problem, verb, now())
    found = store.find_cycle(problem.name, "score" if verb == "score" else "retrain", as_of)
    if verb == "cycle" and found is not None and found.status in UNSCORED:
        scored = store.find_cycle(problem.name, "score", as_of)
        found = scored if scored and scored.ended and not found.unrecorded else None
    champion, live = store.champion(problem.name), store.live(problem.table)
    lagging = (champion and not champion.projected) or (
        live and problem.publish.parquet and live.exported_at is None
    )
    if found is None or not found.ended or lagging or found.unrecorded:
        return None
    return ended_result(store, problem, found)


class InEffect(NamedTuple):
    """What readers see, in a sentence for an error message, and whether it is what they saw before."""

    text: str
    changed: bool


def in_effect(problem: Problem, workspace: Workspace, since: datetime) -> InEffect:
    """Champion and live predictions now; what was committed after `since` has changed."""
    if _without_store(workspace):
        return InEffect("there is still no champion and no published table", changed=False)
    store = Store(workspace)
    champion, live = store.champion(problem.name), store.live(problem.table)
    model, released = "there is still no champion", False
    if champion:
        released = champion.released_at is not None and champion.released_at >= since
        model = f"champion is {_now(released)} version {champion.model_version}"
    shown, published = f"table {problem.table} is still unpublished", False
    if live:
        published = _shown_since(store, problem, live) >= since
        rows = f"generation {live.id}, {live.rows} rows as of {live.as_of:%Y-%m-%d %H:%M}"
        shown = f"table {problem.table} {_now(published)} shows {rows}"
    return InEffect(f"{model}; {shown}", released or published)


def _shown_since(store: Store, problem: Problem, live: Generation) -> datetime:
    """When the pointer moved to the live generation; one that comes back keeps its first publication time."""
    moves = [e.at for e in store.ledger(problem.name) if e.generation == live.id]
    return max([*moves, live.published_at or live.scored_at])


def _now(changed: bool) -> str:
    return "now" if changed else "still"


def _without_store(workspace: Workspace) -> bool:
    """Whether there is no store yet; opening it would create one."""
    return (
        workspace.database_url.startswith("sqlite") and not (workspace.home / "automl.db").exists()
    )
