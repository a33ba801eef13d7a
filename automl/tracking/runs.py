"""The runs of one problem in MLflow: an experiment, a parent run per cycle, a child run per trial.

What a reviewer sees is written here from plain values; nothing here decides or publishes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from automl.history import Snapshot
from automl.modeling.families import Family
from automl.modeling.metrics import get_metric
from automl.problem import Problem
from automl.redaction import redact
from automl.sweep import Trial
from automl.tracking.connection import Connection
from automl.tracking.trials import Look, TrialLog, looks_of, rounded, write_trial
from automl.tracking.views import saved_views
from automl.workspace import Workspace, day_of

__all__ = ["ABSENT", "CycleRecord", "RunTree", "cycle_tag"]

ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # the latter for an alias
DAY = 86_400_000  # milliseconds
DIED = "✘ Failed: its process died\n\nChampion and predictions are unchanged."
_log = logging.getLogger(__name__)


def cycle_tag(as_of: datetime, attempt: int) -> str:
    """Name of a cycle in MLflow: its as_of, and a number if it was decided again.

    >>> cycle_tag(datetime(2026, 3, 2), 1)
    '2026-03-02'
    >>> cycle_tag(datetime(2026, 3, 2, 6, 30), 3)
    '2026-03-02T06:30 · again 2'
    """
    name = day_of(as_of)
    return name if attempt == 1 else f"{name} · again {attempt - 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRecord:
    """What the parent run of an ended cycle must show."""

    run_id: str
    note: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    # (day since 1970, value) pairs: what MLflow draws as a line
    series: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    artifacts: Mapping[str, str | dict[str, Any]] = field(default_factory=dict)
    failed: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the store keeps it; metrics without a value are left out."""
        numbers = {k: float(v) for k, v in self.metrics.items() if math.isfinite(v)}
        series = {k: [[s, v] for s, v in x if math.isfinite(v)] for k, x in self.series.items()}
        return {**asdict(self), "metrics": numbers, "series": series}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CycleRecord:
        """What `to_json` made."""
        return cls(**content)


class RunTree:
    """Connection to MLflow, and the experiment of one problem with its runs.

    Opening it makes MLflow's tables and the experiment if they are missing; `reading` creates nothing, and knows
    no experiment.

    Raises
    ------
    UnreachableError
        MLflow does not respond; every later method may raise it too.
    """

    def __init__(self, problem: Problem, workspace: Workspace, *, reading: bool = False) -> None:
        self.problem, self.workspace = problem, workspace
        configured = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(workspace.tracking_uri)
        mlflow.set_registry_uri(workspace.tracking_uri)
        if configured is None:  # MLflow exports it; the next workspace would read it as a setting
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self.client = Connection(workspace, reading=reading)
        self.experiment = "" if reading else self._experiment()
        self._logged: dict[tuple[str, str, int], str] = {}  # (parent, recipe, number) -> run
        self._roles: dict[str, str] = {}  # run -> its role tag
        self.waited = 0.0  # seconds that the cycle waited until its trials were logged

    def _experiment(self) -> str:
        """The id of the problem's experiment: created if missing, restored if deleted."""
        found = self.client.get_experiment_by_name(self.problem.name)
        if found is None:
            served = self.workspace.tracking_uri.startswith("http")
            # without a server MLflow would write model files below the current folder
            artifacts = None if served else self.workspace.artifacts.as_uri()
            try:
                return str(
                    self.client.create_experiment(self.problem.name, artifact_location=artifacts)
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            # another command created it since
            found = self.client.get_experiment_by_name(self.problem.name)
        if found.lifecycle_stage != "active":
            with contextlib.suppress(MlflowException):  # another command restores it
                self.client.restore_experiment(found.experiment_id)
            _log.warning(
                "the experiment %s was deleted in MLflow; it is restored with its runs [restored]",
                self.problem.name,
            )
        return str(found.experiment_id)

    # ---- the run tree

    def open_cycle(self, cycle: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Create the parent run of a cycle; returns its id."""
        all_tags = {"kind": "cycle", "cycle": cycle, "mlflow.runColor": "#9aa0a6", **tags}
        run = self.client.create_run(self.experiment, run_name=f"cycle {cycle}", tags=all_tags)
        self.client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in params.items()])
        return str(run.info.run_id)

    def reopen(self, run_id: str) -> bool:
        """Resume the run of an interrupted attempt; False if the run was deleted."""
        run = self._find(run_id)
        if run is None or run.info.lifecycle_stage != "active":
            return False
        self._delete_children(run_id)  # the resumed attempt logs its trials itself
        if "decision" in run.data.tags:
            self.client.delete_tag(run_id, "decision")
        self.client.update_run(run_id, status="RUNNING")
        return True

    def require_run(self, run_id: str) -> bool:
        """Whether a run can be written to: a deleted run is restored; False if it is gone for good."""
        run = self._find(run_id)
        if run is None:
            _log.warning(
                "the run %s is gone from MLflow; nothing is written to it [run_gone]", run_id
            )
            return False
        if run.info.lifecycle_stage != "active":
            self.client.restore_run(run_id)
            name = run.info.run_name
            _log.warning("the run %s was deleted in MLflow; it is restored [restored]", name)
        return True

    def _find(self, run_id: str) -> Any | None:
        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            return None

    def log_snapshot(self, run_id: str, snapshot: Snapshot, columns: Mapping[str, str]) -> None:
        """Log digest and schema of the training data; never a row."""
        schema = {
            "mlflow_colspec": [{"name": n, "type": k, "required": True} for n, k in columns.items()]
        }
        dataset = Dataset(
            name=f"{self.problem.name} history",
            digest=snapshot.digest[:36],
            source_type="local",
            source=json.dumps({"uri": str(snapshot.path)}),
            schema=json.dumps(schema),
            profile=json.dumps(
                {"num_rows": snapshot.rows, "num_elements": snapshot.rows * len(columns)}
            ),
        )
        self.client.log_inputs(
            run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        )

    def log_trials(
        self,
        parent: str,
        cycle: str,
        trials: Sequence[Trial],
        families: Mapping[str, Family],
        roles: Mapping[str, str],
    ) -> dict[str, str]:
        """Log a child run per trial that is not logged yet, and all roles; returns run ids by recipe id."""
        began, looks = time.monotonic(), looks_of(families)
        runs = {t.recipe.id: self._log_trial(parent, cycle, t, looks) for t in trials}
        for recipe, run in runs.items():
            try:
                self._set_role(run, roles.get(recipe, ""))
            except MlflowException as error:
                if error.error_code not in ABSENT:
                    raise
                _log.info("the run of trial %s was deleted in MLflow; it stays deleted", recipe)
        self.waited += time.monotonic() - began
        return runs

    @contextlib.contextmanager
    def logging_trials(
        self,
        parent: str,
        cycle: str,
        families: Mapping[str, Family],
        require: Callable[[], None] = lambda: None,
    ) -> Iterator[TrialLog]:
        """Log trials, and then their roles, in a thread while sweep and refit run.

        `log_trials` logs what fails here. `require` raises if another process took the cycle over; trials
        not yet logged are then dropped.
        """
        looks = looks_of(families)

        def write(trial: Trial, role: str) -> None:
            require()
            self._set_role(self._log_trial(parent, cycle, trial, looks), role)

        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow") as pool:
            log = TrialLog(pool, write)
            yield log
            began = time.monotonic()
        self.waited += log.waited + time.monotonic() - began

    def _log_trial(self, parent: str, cycle: str, trial: Trial, looks: Mapping[str, Look]) -> str:
        key = parent, trial.recipe.id, trial.number
        if key not in self._logged:
            name, look = self.problem.metric.name, looks[trial.recipe.family]
            self._logged[key] = write_trial(
                self.client, self.experiment, name, parent, cycle, trial, look
            )
        return self._logged[key]

    def _set_role(self, run: str, role: str) -> None:
        """Set the run's `role` tag, or delete it if the trial no longer has one."""
        if role == self._roles.get(run, ""):
            return
        if role:
            self.client.set_tag(run, "role", role)
        else:
            self.client.delete_tag(run, "role")
        self._roles[run] = role

    def close_cycle(self, record: CycleRecord) -> None:
        """Write the decision to the parent run, note, tags, metrics and small documents, and end it."""
        if not self.require_run(record.run_id):
            return
        numbers = [
            Metric(k, rounded(v), 0, 0) for k, v in record.metrics.items() if math.isfinite(v)
        ]
        numbers += [
            Metric(k, rounded(v), day * DAY, day)
            for k, points in record.series.items()
            for day, v in points
            if math.isfinite(v)
        ]
        texts = {**record.tags, "mlflow.note.content": record.note}
        tags = [RunTag(k, redact(str(v))[:5000]) for k, v in texts.items()]
        self.client.log_batch(record.run_id, metrics=numbers, tags=tags)
        self._log_artifacts(record.run_id, record.artifacts)
        self.client.set_terminated(record.run_id, "FAILED" if record.failed else "FINISHED")

    def log_run(
        self,
        name: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        artifacts: Mapping[str, str | dict[str, Any]],
    ) -> str:
        """A finished run beside those of cycles, such as that of a backtest; returns its id."""
        run = self.client.create_run(self.experiment, run_name=name, tags=dict(tags))
        numbers = [Metric(k, rounded(v), 0, 0) for k, v in metrics.items() if math.isfinite(v)]
        values = [Param(k, str(v)) for k, v in params.items()]
        self.client.log_batch(run.info.run_id, metrics=numbers, params=values)
        self._log_artifacts(run.info.run_id, artifacts)
        self.client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)

    def _log_artifacts(self, run: str, artifacts: Mapping[str, str | dict[str, Any]]) -> None:
        for path, content in artifacts.items():
            if isinstance(content, str):
                self.client.log_text(run, content, path)
            else:
                self.client.log_dict(run, content, path)

    def finish_cycle(self, run_id: str, outcome: str, reason: str) -> None:
        """End the run of a committed cycle whose process died before `close_cycle`."""
        run = self._find(run_id)
        if run is not None and run.info.status == "RUNNING" and self.require_run(run_id):
            self.client.set_tag(run_id, "decision", outcome)
            self.client.set_tag(run_id, "mlflow.note.content", f"**{outcome}**: {reason}")
            self.client.set_terminated(run_id, "FINISHED")

    def end_dead_runs(self) -> int:
        """Mark runs as killed whose process died; callers hold the problem's lock."""
        dead = self._runs("attributes.status = 'RUNNING'")
        for run in dead:
            if run.data.tags.get("kind") == "cycle" and "decision" not in run.data.tags:
                self.client.set_tag(run.info.run_id, "decision", "failed")
                self.client.set_tag(run.info.run_id, "mlflow.note.content", DIED)
            self.client.set_terminated(run.info.run_id, "KILLED")
        return len(dead)

    def _runs(self, search: str) -> list[Any]:
        return list(self.client.search_runs([self.experiment], search, max_results=1000))

    def _delete_children(self, parent: str) -> None:
        for run in self._runs(f"tags.`mlflow.parentRunId` = '{parent}'"):
            self.client.delete_run(run.info.run_id)

    # ---- the experiment's page

    def describe(self, cycle: str, run_id: str = "") -> None:
        """Write description, tags and saved views of the experiment; never fails a cycle.

        The views show the trials of `cycle`, and the lines of its run.
        """
        metric = get_metric(self.problem.metric.name)
        note = (
            # first, because the page shows one line
            "*Views* (top right): 1 Decisions, 2 Leaderboard, 3 Families, 4 Failed and pruned, 5 Live loss. "
            f"**{self.problem.question or self.problem.name}** One parent run per cycle, one child run per trial."
        )
        try:
            tags = {
                "mlflow.note.content": note,
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.experiment.primaryMetric.name": f"cv_{metric.name}",
                "mlflow.experiment.primaryMetric.greaterIsBetter": str(metric.better == "higher"),
                **saved_views(metric, self.problem.metric.also, cycle, run_id),
            }
            for key, value in tags.items():
                self.client.set_experiment_tag(self.experiment, key, value)
        except Exception as error:  # noqa: BLE001  views are an aid to reading, and their format is not ours
            _log.warning("the saved views could not be written: %s", redact(str(error)))
