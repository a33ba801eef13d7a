"""What a run leaves on its page in Prefect: decision, leaderboard, warnings, link to MLflow, failure.

Artifacts are a view. One that cannot be written is a warning in the log: the cycle has ended by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from automl import report
from automl.cycles.result import CycleResult
from automl.problem import Problem
from automl.redaction import redact
from automl.workspace import Workspace
from flows.keys import artifact_key

__all__ = ["show_failure", "show_findings", "show_result", "show_table"]

TRIALS = 20  # rows of the leaderboard; `automl leaderboard` shows all
_log = logging.getLogger(__name__)


def show_result(
    result: CycleResult, workspace: Workspace, findings: Sequence[Mapping[str, Any]]
) -> None:
    """Decision, leaderboard, warnings and the link to MLflow."""
    problem = result.problem
    _write([
        lambda: _decision(result, workspace, findings),
        lambda: _leaderboard(result, workspace),
        lambda: _findings(problem, findings),
        lambda: _mlflow_run(result, workspace),
    ])  # fmt: skip


def show_failure(problem: str, what: str, *, unchanged: str, next_step: str) -> None:
    """What went wrong, what is in effect, and the next command."""
    rows = [("in effect", unchanged), ("next", next_step)]
    text = redact("\n".join([f"**{what}**", "", *_rows(rows)]))
    _write([lambda: create_markdown_artifact(text, key=artifact_key("failure", problem))])


def show_findings(problem: Problem, findings: Sequence[Mapping[str, Any]]) -> None:
    """The warnings of a run."""
    _write([lambda: _findings(problem, findings)])


def show_table(problem: Problem, kind: str, rows: Sequence[Mapping[str, Any]], about: str) -> None:
    """A table of plain values, as Prefect renders it."""
    if rows:
        key = artifact_key(kind, problem.name)
        table = [{name: _plain(value) for name, value in row.items()} for row in rows]
        _write([lambda: create_table_artifact(table, key=key, description=about)])


def _write(artifacts: Iterable[Callable[[], object]]) -> None:
    """Write artifacts until one fails: if Prefect's server is away, each would wait for it."""
    try:
        for write in artifacts:
            write()
    except Exception as error:  # noqa: BLE001  the cycle has ended
        _log.info("the artifacts are not complete: %s", error)


def _decision(
    result: CycleResult, workspace: Workspace, findings: Sequence[Mapping[str, Any]]
) -> None:
    name, file = result.problem.name, result.problem.file
    document = report.result(result, workspace)
    predictions = document["predictions"] or {}
    rows = [
        ("decision", result.reason),
        ("champion", f"version {result.model_version}" if result.model_version else ""),
        ("predictions", _predictions(result)),
        ("parquet", str(predictions.get("parquet") or "")),
        ("warnings", str(len(findings)) if findings else ""),
        ("look closer", f"`automl why {file}`, `automl status {file}`"),
    ]
    title = f"**{name} as of {result.as_of:%Y-%m-%d %H:%M} UTC: {result.status}**"
    text = redact("\n".join([title, "", *_rows(rows)]))
    create_markdown_artifact(text, key=artifact_key("decision", name))


def _predictions(result: CycleResult) -> str:
    if not result.generation:
        return ""
    return f"{result.rows} rows, generation {result.generation}, table `{result.problem.table}`"


def _leaderboard(result: CycleResult, workspace: Workspace) -> None:
    if result.leaderboard is None or not result.leaderboard.trials:
        return
    problem = result.problem
    ranking = report.leaderboard(problem, workspace, result.as_of)
    metric = ranking["metric"]
    rows = [
        {
            "rank": t["rank"],
            "family": t["family"],
            metric: _rounded(t["score"]),
            "weight": _rounded(t["weight"]),
            "blocks": t["blocks"],
            "fit seconds": _rounded(t["fit_seconds"]),
            "state": t["state"],
        }
        for t in ranking["trials"][:TRIALS]
    ]
    about = (
        f"{len(ranking['trials'])} trials, {metric} ({ranking['better']} is better) over {ranking['blocks']} blocks; "
        f"`automl leaderboard {problem.file}` shows params"
    )
    create_table_artifact(rows, key=artifact_key("leaderboard", problem.name), description=about)


def _findings(problem: Problem, findings: Sequence[Mapping[str, Any]]) -> None:
    if findings:
        rows = [dict(row) for row in findings]
        about = "warnings of this run; codes are explained in docs/operations.md, under Findings"
        create_table_artifact(rows, key=artifact_key("findings", problem.name), description=about)


def _mlflow_run(result: CycleResult, workspace: Workspace) -> None:
    if not result.run_id or not result.experiment:
        return
    problem = result.problem
    key, page = (
        artifact_key("mlflow-run", problem.name),
        f"#/experiments/{result.experiment}/runs/{result.run_id}",
    )
    if workspace.tracking_uri.startswith("http"):
        link = f"{workspace.tracking_uri.rstrip('/')}/{page}"
        create_link_artifact(link, link_text="The cycle's run in MLflow", key=key)
        return
    text = (
        f"MLflow is a file of the workspace. `automl ui {problem.file}` shows it; then the cycle's run is "
        f"[http://127.0.0.1:5000/{page}](http://127.0.0.1:5000/{page})"
    )
    create_markdown_artifact(text, key=key)


def _rows(rows: Iterable[tuple[str, str]]) -> list[str]:
    """A table in markdown, without its empty rows."""
    lines = [f"| {name} | {' '.join(text.split())} |" for name, text in rows if text]
    return ["| | |", "| --- | --- |", *lines]


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.4g}")
