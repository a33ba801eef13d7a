"""What is in effect now: a cycle that has already ended, the champion and the live predictions."""

from __future__ import annotations

from automl.cycles.options import RunOptions, default_as_of
from automl.cycles.result import CycleResult, ended_result
from automl.problem import Problem
from automl.store import UNSCORED, Store
from automl.workspace import Workspace, now

__all__ = ["finished", "in_effect"]


def finished(
    problem: Problem, workspace: Workspace, verb: str, options: RunOptions
) -> CycleResult | None:
    """The result of a cycle that has already ended; None if there is work to do. Takes well under a second."""
    if options.again or _without_store(workspace):
        return None
    store = Store(workspace)
    as_of = options.as_of or default_as_of(problem, verb, now())
    found = store.find_cycle(problem.name, "score" if verb == "score" else "retrain", as_of)
    champion, live = store.champion(problem.name), store.live(problem.table)
    lagging = (champion and not champion.projected) or (
        live and problem.publish.parquet and live.exported_at is None
    )
    if (
        found is None
        or not found.ended
        or lagging
        or (verb == "cycle" and found.status in UNSCORED)
    ):
        return None
    return ended_result(store, problem, found)


def in_effect(problem: Problem, workspace: Workspace) -> str:
    """Champion and live predictions in a sentence, for an error message."""
    if _without_store(workspace):
        return "there is still no champion and no published table"
    store = Store(workspace)
    champion, live = store.champion(problem.name), store.live(problem.table)
    model = (
        f"champion is still version {champion.model_version}"
        if champion
        else "there is still no champion"
    )
    shown = (
        f"table {problem.table} still shows generation {live.id}, {live.rows} rows as of {live.as_of:%Y-%m-%d %H:%M}"
        if live
        else f"table {problem.table} is still unpublished"
    )
    return f"{model}; {shown}"


def _without_store(workspace: Workspace) -> bool:
    """Whether there is no store yet; opening it would create one."""
    return (
        workspace.database_url.startswith("sqlite") and not (workspace.home / "automl.db").exists()
    )
