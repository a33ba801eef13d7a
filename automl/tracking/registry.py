"""MLflow's only door: the run tree, models, aliases and views of one problem.

What a reviewer sees is written here from plain values. Aliases are projections of the store's newest
release; nothing here decides or publishes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from automl.errors import PredictError, UnreachableError
from automl.history import Snapshot
from automl.modeling.families import Family
from automl.modeling.metrics import get_metric
from automl.problem import Problem
from automl.store import Release
from automl.sweep import Trial
from automl.tracking.models import Code, digest_folder, load_folder, log_model
from automl.tracking.trials import Look, TrialLog, looks_of, rounded, write_trial
from automl.tracking.views import saved_views
from automl.workspace import Workspace, redact

__all__ = ["Registered", "Registry", "cycle_tag"]

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
PING_SECONDS = 5
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # the latter for an alias
_GONE = "automl rollback FILE --to VERSION --reason R, or automl retrain FILE --again --reason R"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registered:
    """A model version and what identifies it."""

    version: int
    run_id: str
    model_id: str
    digests: Mapping[str, str]


def cycle_tag(as_of: datetime, attempt: int) -> str:
    """How a cycle is called in MLflow: its as_of, and a number when it was asked for again."""
    name = (
        f"{as_of:%Y-%m-%d}" if (as_of.hour, as_of.minute) == (0, 0) else f"{as_of:%Y-%m-%dT%H:%M}"
    )
    return name if attempt == 1 else f"{name} · again {attempt - 1}"


class Registry:
    """MLflow as one problem uses it."""

    def __init__(self, problem: Problem, workspace: Workspace) -> None:
        self.problem, self.workspace = problem, workspace
        self._reach()
        given = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(workspace.tracking_uri)
        mlflow.set_registry_uri(workspace.tracking_uri)
        if (
            given is None
        ):  # MLflow writes it there, where the next workspace would take it for a setting
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self.client = MlflowClient()
        self.experiment = self._experiment()
        self._logged: dict[tuple[str, str, int], str] = {}  # (parent, recipe, number) -> run
        self._roles: dict[str, str] = {}  # run -> the role that it was given
        self.waited = 0.0  # seconds that the cycle waited until its trials were logged

    def _reach(self) -> None:
        uri = self.workspace.tracking_uri
        try:
            if uri.startswith("http"):
                with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PING_SECONDS):
                    return
            if uri.startswith("sqlite:///"):
                path = Path(uri.removeprefix("sqlite:///"))
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab"):
                    return
        except (OSError, urllib.error.URLError) as error:
            raise UnreachableError(
                f"MLflow at {redact(uri)} does not answer: {error}",
                code="mlflow_unreachable",
                next_step="Start it, or mend MLFLOW_TRACKING_URI (environment or mlflow.env); then the same command.",
            ) from error

    def _experiment(self) -> str:
        lock = self.workspace.lock("mlflow")
        lock.parent.mkdir(parents=True, exist_ok=True)
        # two processes creating a new SQLite file at once leave it broken for good
        with filelock.FileLock(lock, timeout=60):
            found = self.client.get_experiment_by_name(self.problem.name)
            if found is not None:
                return str(found.experiment_id)
            place = self.workspace.artifacts.as_uri() if self.workspace.local_mlflow else None
            return str(self.client.create_experiment(self.problem.name, artifact_location=place))

    # ---- the run tree

    def open_cycle(self, cycle: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """A new parent run for a cycle."""
        family_tags = {"kind": "cycle", "cycle": cycle, "mlflow.runColor": "#9aa0a6", **tags}
        run = self.client.create_run(self.experiment, run_name=f"cycle {cycle}", tags=family_tags)
        self.client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in params.items()])
        return str(run.info.run_id)

    def reopen(self, run_id: str) -> bool:
        """Go on with the run that an interrupted attempt left; False if somebody deleted it."""
        try:
            run = self.client.get_run(run_id)
        except MlflowException:
            return False
        if run.info.lifecycle_stage != "active":
            return False
        self._drop_children(run_id)  # the attempt that goes on logs its trials itself
        self.client.update_run(run_id, status="RUNNING")
        return True

    def log_snapshot(self, run_id: str, snapshot: Snapshot, columns: Mapping[str, str]) -> None:
        """The training data's digest and schema; never a row."""
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
        """A child run per trial, those logged beside the sweep too; returns run ids by recipe id."""
        began, looks = time.monotonic(), looks_of(families)
        runs = {t.recipe.id: self._log_trial(parent, cycle, t, looks) for t in trials}
        for recipe, run in runs.items():
            self._give_role(run, roles.get(recipe, ""))
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
        """Log trials, and then their roles, in a thread, while sweep and refit wait for their fits.

        What cannot be logged is left to `log_trials`. `require` raises if the run was taken over: trials that
        wait to be logged are dropped then.
        """
        looks = looks_of(families)

        def write(trial: Trial, role: str) -> None:
            require()
            self._give_role(self._log_trial(parent, cycle, trial, looks), role)

        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow") as pool:
            log = TrialLog(pool, write)
            yield log
            began = time.monotonic()
        self.waited += log.waited + time.monotonic() - began

    def _log_trial(self, parent: str, cycle: str, trial: Trial, looks: Mapping[str, Look]) -> str:
        at = parent, trial.recipe.id, trial.number
        if at not in self._logged:
            name, look = self.problem.metric.name, looks[trial.recipe.family]
            self._logged[at] = write_trial(
                self.client, self.experiment, name, parent, cycle, trial, look
            )
        return self._logged[at]

    def _give_role(self, run: str, role: str) -> None:
        """Tag a trial's run; a role that it has no more is taken from it."""
        if role == self._roles.get(run, ""):
            return
        if role:
            self.client.set_tag(run, "role", role)
        else:
            self.client.delete_tag(run, "role")
        self._roles[run] = role

    def close_cycle(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        note: str,
        artifacts: Mapping[str, str | dict[str, Any]],
        failed: bool = False,
    ) -> None:
        """The decision in the parent run: note, tags, metrics, and small documents."""
        numbers = [Metric(k, rounded(v), 0, 0) for k, v in metrics.items() if not math.isnan(v)]
        all_tags = [
            RunTag(k, str(v)[:5000]) for k, v in {**tags, "mlflow.note.content": note}.items()
        ]
        self.client.log_batch(run_id, metrics=numbers, tags=all_tags)
        for path, content in artifacts.items():
            if isinstance(content, str):
                self.client.log_text(run_id, content, path)
            else:
                self.client.log_dict(run_id, content, path)
        self.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def finish(self, run_id: str, outcome: str, reason: str) -> None:
        """Close the run of a committed cycle that died before it could tell its story."""
        if self.client.get_run(run_id).info.status == "RUNNING":
            self.client.set_tag(run_id, "decision", outcome)
            self.client.set_tag(run_id, "mlflow.note.content", f"**{outcome}**: {reason}")
            self.client.set_terminated(run_id, "FINISHED")

    def reap(self) -> int:
        """Mark runs that died with their process; callers hold the problem's lock."""
        dead = self._runs("attributes.status = 'RUNNING'")
        for run in dead:
            self.client.set_terminated(run.info.run_id, "KILLED")
        return len(dead)

    def _runs(self, search: str) -> list[Any]:
        return list(self.client.search_runs([self.experiment], search, max_results=1000))

    def _drop_children(self, parent: str) -> None:
        for run in self._runs(f"tags.`mlflow.parentRunId` = '{parent}'"):
            self.client.delete_run(run.info.run_id)

    # ---- models

    def register(
        self,
        run_id: str,
        model: Any,
        sample: pd.DataFrame,
        families: Sequence[Code],
        tags: Mapping[str, str],
    ) -> Registered:
        """Log and register a model; it serves nobody until it is released."""
        name = self.problem.name
        for version in self.client.search_model_versions(f"name = '{name}'"):
            if (
                version.tags.get("cycle") == tags["cycle"]
                and version.tags.get("state") == "registered"
            ):
                # an interrupted attempt of this cycle left it; nothing refers to it
                self.client.delete_model_version(name, str(version.version))
        info = log_model(model, sample, families, run_id)
        try:
            self.client.create_registered_model(name, description=_describe(self.problem))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = self.client.create_model_version(
            name,
            info.model_uri,
            run_id,
            tags={**tags, "state": "registered", "model_id": info.model_id},
            model_id=info.model_id,
        )
        with tempfile.TemporaryDirectory() as folder:
            digests = digest_folder(self._download(int(version.version), folder))
        return Registered(int(version.version), run_id, info.model_id, digests)

    def load(self, version: int, digests: Mapping[str, str]) -> Any:
        """Load a version whose files are those that were decided.

        Raises
        ------
        PredictError
            The version is gone, or its files differ (`DigestError`).
        """
        with tempfile.TemporaryDirectory() as folder:
            return load_folder(self._download(version, folder), digests)

    def _download(self, version: int, folder: str) -> Path:
        try:
            uri = f"models:/{self.problem.name}/{version}"
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
        except (MlflowException, OSError) as error:
            raise PredictError(
                f"model version {version} of {self.problem.name} cannot be fetched: {str(error).splitlines()[0]}",
                code="version_gone",
                next_step=_GONE,
            ) from error

    def champion_alias(self) -> int | None:
        """The version that the alias `champion` names now; somebody may have moved or removed it."""
        try:
            found = self.client.get_model_version_by_alias(self.problem.name, CHAMPION)
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise
        return int(found.version)

    def require_version(self, version: int) -> None:
        """Raise PredictError if somebody deleted a version."""
        try:
            self.client.get_model_version(self.problem.name, str(version))
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            raise PredictError(
                f"model version {version} of {self.problem.name} was deleted in MLflow",
                code="version_gone",
                next_step=_GONE,
            ) from error

    def project(
        self, releases: Sequence[Release], notes: Mapping[int, tuple[str, Mapping[str, str]]]
    ) -> None:
        """Let the aliases follow the newest release; `notes` are description and tags per version."""
        name = self.problem.name
        self._alias(CHAMPION, releases[0].model_version)
        if len(releases) > 1:
            self._alias(PREVIOUS, releases[1].model_version)
        for version, (description, tags) in notes.items():
            self.client.update_model_version(name, str(version), description)
            for key, value in {**tags, "state": "released"}.items():
                self.client.set_model_version_tag(name, str(version), key, str(value))

    def challenger(self, version: int | None) -> None:
        """Let the alias challenger name who waits for approval, or nobody."""
        name = self.problem.name
        try:
            aliases = self.client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            return  # somebody deleted them all; who needs a version says so
        found = int(aliases[CHALLENGER]) if CHALLENGER in aliases else None
        if version is None and found is not None:
            self.client.delete_registered_model_alias(name, CHALLENGER)
        elif version is not None and found != version:
            self._alias(CHALLENGER, version)

    def tag(self, version: int, name: str) -> str | None:
        """A tag that somebody may have set on a version; None if nobody did, or the version is gone."""
        try:
            found = self.client.get_model_version(self.problem.name, str(version))
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            return None
        told = found.tags.get(name)
        return None if told is None else str(told)

    def _alias(self, alias: str, version: int) -> None:
        try:
            self.client.set_registered_model_alias(self.problem.name, alias, str(version))
        except MlflowException as error:
            _log.warning(
                "alias %s cannot follow to version %d: %s",
                alias,
                version,
                str(error).splitlines()[0],
            )

    def log_live(self, release: Release, scores: Mapping[str, float], rows: int) -> None:
        """How the version's predictions have turned out, as metrics of its run and model."""
        try:
            version = self.client.get_model_version(self.problem.name, str(release.model_version))
        except MlflowException as error:  # somebody deleted it; the scores stand in the store
            _log.warning("version %d: %s", release.model_version, str(error).splitlines()[0])
            return
        for name, score in scores.items():
            self.client.log_metric(
                release.run_id,
                f"live_{name}",
                rounded(score),
                model_id=version.tags.get("model_id"),
            )
            self.client.set_model_version_tag(
                self.problem.name,
                str(release.model_version),
                f"live_{name}",
                f"{score:.5g} on {rows} rows",
            )

    # ---- what reviewers open

    def describe(self, cycle: str) -> None:
        """Description, tags and saved views of the experiment; never fails a cycle."""
        metric = get_metric(self.problem.metric.name)
        note = (
            "Open *Views* (top right): 1 Decisions, 2 Leaderboard. "  # first: the page shows one line
            f"**{self.problem.question or self.problem.name}** One parent run per cycle, one child run per trial."
        )
        tags = {
            "mlflow.note.content": note,
            "mlflow.experimentKind": "custom_model_development",
            "mlflow.experiment.primaryMetric.name": f"cv_{metric.name}",
            "mlflow.experiment.primaryMetric.greaterIsBetter": str(metric.better == "higher"),
            **saved_views(metric, self.problem.metric.also, cycle),
        }
        try:
            for key, value in tags.items():
                self.client.set_experiment_tag(self.experiment, key, value)
        except MlflowException as error:
            _log.warning("the saved views could not be written: %s", error)


def _describe(problem: Problem) -> str:
    return (
        f"{problem.question or problem.name}\n\n"
        f"- aliases: `champion` answers now, `previous` is the one before, `challenger` waits\n"
        f'- load: `mlflow.sklearn.load_model("models:/{problem.name}@champion")`\n'
        f"- predictions: table `{problem.table}`"
    )
