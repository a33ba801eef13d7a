"""The steps of monitoring: labels that have arrived, performance, drift, freshness, alerts.

Nothing is trained, released or published. Running it again at the same as_of replaces what it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from automl import history
from automl.cycles.options import RunOptions
from automl.cycles.steps import Runner, call, step
from automl.errors import UnreachableError
from automl.history import Snapshot
from automl.monitoring.alerts import alerting, raise_alert, recover
from automl.monitoring.drift import BlockStatistics, Drift
from automl.monitoring.freshness import freshness, row_counts, stability
from automl.monitoring.measuring import Findings, drift_rows, find_drift, keep_profiles, measure
from automl.monitoring.watching import Watching, labelled_rows, open_watching
from automl.problem import HIGHER_IS_BETTER, Problem
from automl.store import open_alerts, plain, write_watch
from automl.workspace import Workspace, day_of

__all__ = ["MonitorResult", "monitor"]

SHOWN = 10  # measures in the document


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MonitorResult:
    """What one run of monitoring found."""

    problem: Problem
    as_of: datetime
    document: Mapping[str, Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """Drift of the newest rows: quiet | alarm | uncalibrated."""
        return str(self.document["drift"]["state"])

    @property
    def degraded(self) -> bool:
        """Whether the newest generation with labels is worse than its promise."""
        return bool(self.document["degraded"])


def monitor(
    problem: Problem,
    workspace: Workspace,
    options: RunOptions | None = None,
    *,
    run: Runner = call,
) -> MonitorResult:
    """Measure published predictions on the labels that have arrived, and watch the newest rows.

    Raises
    ------
    NoModelError
        Nothing was released yet.
    AutomlError
        The history cannot be pulled, or another run holds the problem. Predictions are untouched.
    """
    options = options or RunOptions()
    with (
        alerting(problem, workspace, "monitor"),
        open_watching(problem, workspace, options) as watching,
    ):
        snapshot = run(pull_labels, watching)
        labelled = labelled_rows(watching, snapshot)
        basis, statistics, drift = run(watch_drift, watching, labelled)
        findings = run(measure_performance, watching, labelled, drift)
        document = run(look_around, watching, labelled, findings, (basis, statistics, drift))
        run(write_findings, watching, findings, document, (basis, statistics, drift))
        run(log_findings, watching, document)
    run(send_alerts, problem, workspace, document)
    document = {
        **document,
        "alerts": [alert.document for alert in open_alerts(watching.store, problem.name)],
        "warnings": watching.warnings,
    }
    return MonitorResult(
        problem=problem, as_of=watching.as_of, document=document, warnings=watching.warnings
    )


Watched = tuple[str, BlockStatistics, Drift]


@step("pull history", io=True)
def pull_labels(watching: Watching) -> Snapshot:
    """The history as it is known now, with the labels that have arrived; a cycle of this as_of has pulled it."""
    folders = history.Folders(watching.workspace.history(watching.problem.name))
    last = history.newest_pull(folders)
    if last is not None and last.as_of == watching.as_of:
        frozen = history.frozen_history(folders, last.snapshot)
        if frozen is not None:
            return frozen
    contract = watching.contract
    return history.pull(
        watching.problem,
        watching.workspace,
        watching.as_of,
        kinds=contract.kinds(watching.problem),
        nulls=contract.nulls,
        gaps=contract.gaps,
    )


@step("compare with past blocks")
def watch_drift(watching: Watching, labelled: pd.DataFrame) -> Watched:
    """Drift of inputs, predictions and labels."""
    keep_profiles(watching)
    return find_drift(watching, labelled)


@step("measure performance", io=True)
def measure_performance(watching: Watching, labelled: pd.DataFrame, drift: Drift) -> Findings:
    """Realised, expected and promised performance of published generations."""
    return measure(watching, labelled, drift)


@step("look at rows and ages")
def look_around(
    watching: Watching, labelled: pd.DataFrame, findings: Findings, watched: Watched
) -> dict[str, Any]:
    """Everything that was found, as one document."""
    w, (basis, statistics, drift) = watching, watched
    kept = w.generations
    worse = findings.newest is not None and findings.newest["state"] == "worse"
    live = w.store.live(w.problem.table)
    found: dict[str, Any] = {
        "problem": w.problem.name,
        "as_of": day_of(w.as_of),
        "metric": w.problem.metric.name,
        "degraded": worse,
        "performance": _performance(findings.newest, w.problem),
        "expected": _expected(findings, w),
        "drift": {
            "state": drift.state,
            "text": drift.text,
            "basis": basis,
            "window": [day_of(statistics.starts[-1]), day_of(statistics.ends[-1])]
            if statistics.rows
            else None,
            "blocks": drift.blocks,
            "needed": drift.needed,
            "p_value": drift.p_value,
            "columns": list(drift.columns[:SHOWN]) if drift.state == "alarm" else [],
            "shifts": [s._asdict() for s in drift.shifts[:SHOWN]],
        },
        "freshness": freshness(labelled, w.problem, w.as_of, live, findings.labelled_until),
        "rows": row_counts(kept),
        "stability": stability(w.store, w.problem, kept),
        "tables": [f"{w.problem.table}_performance", f"{w.problem.table}_drift"],
        "warnings": w.warnings,
    }
    return dict(plain(found))  # JSON knows no NaN


@step("write findings")
def write_findings(
    watching: Watching, findings: Findings, document: dict[str, Any], watched: Watched
) -> None:
    """Rows of both tables and the document, in one transaction."""
    basis, statistics, drift = watched
    rows = {
        "performance": findings.rows,
        "drift": drift_rows(watching, basis, statistics, drift),
    }
    write_watch(
        watching.store,
        watching.hold,
        watching.problem.table,
        as_of=watching.as_of,
        document=document,
        rows=rows,
    )


@step("log findings", io=True)
def log_findings(watching: Watching, document: dict[str, Any]) -> None:
    """Metrics over time on the run of the version that is live; MLflow may be out of reach."""
    live = watching.store.live(watching.problem.table)
    release = watching.releases.get(live.model_version) if live else None
    if watching.registry is None or release is None:
        return
    numbers = {
        "monitor/drift_p_value": document["drift"]["p_value"],
        "monitor/largest_effect": _largest(document),
        "monitor/history_age_hours": document["freshness"]["history_age_hours"],
        "monitor/labels_age_hours": document["freshness"]["labels_age_hours"],
        "monitor/rows": document["rows"]["newest"],
        **{
            f"monitor/expected_{k}": v
            for k, v in (document["expected"] or {}).get("scores", {}).items()
        },
        **{
            f"monitor/{k}": v
            for k, v in (document["stability"] or {}).items()
            if k.endswith("changed")
        },
    }
    finite = {k: float(v) for k, v in numbers.items() if v is not None}
    try:
        watching.registry.log_monitoring(release, finite, watching.as_of)
    except UnreachableError as error:
        watching.warnings.append(f"MLflow does not show what was found: {error}")


@step("send alerts", io=True)
def send_alerts(problem: Problem, workspace: Workspace, document: Mapping[str, Any]) -> None:
    """Alert of what became wrong since the last run, and of what recovered; outside the problem's lock."""
    name, drift, performance = problem.name, document["drift"], document["performance"]
    step_ = f"What to do: automl why {problem.file}; then automl cycle {problem.file}"
    if performance and document["degraded"]:
        text = f"What broke: {performance['text']}\nWhat still works: predictions are published as before.\n{step_}"
        raise_alert(problem, workspace, "performance", f"{name}: worse than promised", text)
    elif performance:
        recover(problem, workspace, "performance", f"{name}: as good as promised again")
    if drift["state"] == "alarm":
        text = (
            f"What moved: {drift['text']} (window {' to '.join(drift['window'])})\n"
            "What still works: predictions are published as before; whether they are worse, labels will show.\n"
            f"{step_}"
        )
        raise_alert(problem, workspace, "drift", f"{name}: rows unlike the past", text)
    elif drift["state"] == "quiet":
        recover(problem, workspace, "drift", f"{name}: rows are within what past blocks show again")
    fresh = document["freshness"]
    if fresh["predictions_until"] and not fresh["predictions_cover_as_of"]:
        text = (
            f"What broke: the predictions end at {fresh['predictions_until']} UTC, as of {document['as_of']}.\n"
            f"What still works: readers see the last complete generation.\nWhat to do: automl score {problem.file}"
        )
        raise_alert(problem, workspace, "stale", f"{name}: predictions have run out", text)
    else:
        recover(problem, workspace, "stale", f"{name}: predictions cover the present again")


def _performance(newest: Mapping[str, Any] | None, problem: Problem) -> dict[str, Any] | None:
    """The newest generation with labels in numbers and one sentence."""
    if newest is None:
        return None
    shown = {k: v for k, v in newest.items() if k not in ("as_of", "until", "measured_at")}
    return {
        **shown,
        "as_of": f"{newest['as_of']:%Y-%m-%d %H:%M}",
        "text": _sentence(newest, problem),
    }


def _sentence(row: Mapping[str, Any], problem: Problem) -> str:
    value, promised = row["value"], row["promised"]
    head = (
        f"version {row['model_version']}, generation {row['generation']}: {row['metric']} {value:.4g} "
        f"on {row['labelled_rows']} labels"
    )
    if promised is None:
        return f"{head}; no evidence to compare it with"
    within = f"{row['promised_low']:.4g} to {row['promised_high']:.4g}"
    head += f", promised {promised:.4g} ({within})"
    if row["state"] != "worse":
        return f"{head}: {row['state']}"
    higher = problem.metric.name in HIGHER_IS_BETTER
    ratio = (1 - value) / max(1 - promised, 1e-9) if higher else value / max(promised, 1e-9)
    return f"{head}: {ratio:.1f} times the promised loss; likely cause: {row['cause']}"


def _expected(findings: Findings, watching: Watching) -> dict[str, Any] | None:
    """Of the newest generation: what to expect before its labels come."""
    if watching.problem.task == "regression":
        return {
            "scores": {},
            "text": "not available for regression: predictions say nothing of their error",
        }
    newest = next(iter(watching.generations), None)
    scores = dict(findings.expected)
    if not scores:
        return {"scores": {}, "text": "not available yet: no earlier generation has 200 labels"}
    shown = ", ".join(f"{name} {score:.4g}" for name, score in scores.items())
    text = f"generation {newest.id if newest else ''}: {shown}; valid only if inputs alone moved"
    return {"generation": newest.id if newest else None, "scores": scores, "text": text}


def _largest(document: Mapping[str, Any]) -> float | None:
    effects = [abs(s["effect"]) for s in document["drift"]["shifts"] if s["effect"] is not None]
    return max(effects, default=None)
