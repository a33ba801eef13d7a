"""Monitoring as a flow: what it found on the run's page, and the events by which a retraining starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed

from automl import history
from automl.cycles.options import RunOptions
from automl.cycles.steps import Step
from automl.history import Snapshot
from automl.monitoring.late import check_late
from automl.monitoring.pipeline import MonitorResult
from automl.monitoring.pipeline import monitor as watch
from automl.problem import Problem
from automl.retrain.policies import rows_wanted
from automl.store import Store
from automl.workspace import Workspace
from flows.artifacts import show_findings, show_table
from flows.events import emit
from flows.logs import Findings
from flows.tasks import as_task, one_line

__all__ = ["happened", "new_rows", "watched_state"]

P = ParamSpec("P")
T = TypeVar("T")
TRAINED = ("published", "released", "kept", "waiting")


def watched_state(
    problem: Problem, workspace: Workspace, options: RunOptions, findings: Findings
) -> State[Any]:
    """Monitor once, send the events, and return the final state of the run."""
    snapshots: list[Snapshot] = []

    def run(step: Step[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        result = as_task(step, *args, **kwargs)
        if isinstance(result, Snapshot):
            snapshots.append(result)
        return result

    result = watch(problem, workspace, options, run=run)
    late = check_late(problem, workspace)
    for warning in [*result.warnings, *([late] if late else [])]:
        findings.add(warning)
    events = dict(happened(result))
    if snapshots:
        events |= new_rows(problem, Store(workspace), snapshots[-1])
    if events:
        with get_client(sync_client=True) as client:
            for event, payload in events.items():
                emit(client, problem.name, event, payload)
    _show(problem, result, findings)
    return _state(result, late, events)


def happened(result: MonitorResult) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Events of drift and degradation, with their payloads."""
    drift = result.document["drift"]
    if result.state == "alarm":
        yield "automl.drift", {"columns": list(drift["columns"]), "text": drift["text"]}
    if result.degraded:
        yield "automl.degradation", {"text": result.document["performance"]["text"]}


def new_rows(problem: Problem, store: Store, snapshot: Snapshot) -> dict[str, Mapping[str, Any]]:
    """The event of new rows, if enough labelled rows have come since the last training.

    Counted are rows that matured since then, of those that monitoring has just pulled.
    """
    cycles = store.cycles(problem.name, verb="retrain", limit=100)
    last = next((c for c in cycles if c.status in TRAINED and "plan" in c.receipts), None)
    if last is None:
        return {}
    new = len(history.read(snapshot, since=problem.mature(last.as_of)))
    before = max(1, snapshot.rows - new)
    section = problem.retraining
    enough = new >= rows_wanted(before, rows=section.rows, share=section.share)
    payload = {"rows": new, "share": round(new / before, 4)}
    return {"automl.new-rows": payload} if enough and new else {}


def _show(problem: Problem, result: MonitorResult, findings: Findings) -> None:
    drift = result.document["drift"]
    show_table(problem, "drift", drift["shifts"], f"{drift['state']}: {drift['text']}")
    performance = result.document["performance"]
    if performance:
        plain = {k: v for k, v in performance.items() if isinstance(v, str | int | float | bool)}
        rows = [{"what": name, "value": str(value)} for name, value in plain.items()]
        show_table(problem, "performance", rows, performance["text"])
    show_findings(problem, findings.rows)


def _state(result: MonitorResult, late: str, events: Mapping[str, Any]) -> State[Any]:
    alarm = result.state == "alarm" or result.degraded or bool(late)
    performance = result.document["performance"]
    facts = [
        "alarm" if alarm else "quiet",
        late,
        performance["text"] if performance else "no labels of published predictions yet",
        f"drift {result.state}: {result.document['drift']['text']}",
        f"events: {', '.join(events)}" if events else "",
    ]
    return Completed(message=one_line(" · ".join(f for f in facts if f)))
