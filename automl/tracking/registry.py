"""MLflow as one problem uses it: its runs, its registered model, versions and aliases.

Aliases are projections of the store's newest release; nothing here decides or publishes.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from automl.disk import disk_error
from automl.errors import PredictError
from automl.problem import Problem
from automl.store import Release
from automl.tracking.connection import TRANSFER_SECONDS
from automl.tracking.models import Code, digest_folder, load_folder, log_model
from automl.tracking.runs import ABSENT, RunTree
from automl.tracking.trials import rounded

__all__ = ["Registered", "Registry"]

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
_WITHOUT_VERSION = (
    "automl rollback FILE --to VERSION --reason R, or automl retrain FILE --again --reason R"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registered:
    """A model version and what identifies it."""

    version: int
    run_id: str
    model_id: str
    digests: Mapping[str, str]


class Registry(RunTree):
    """Runs, model versions and aliases of one problem."""

    def register(
        self,
        run_id: str,
        model: Any,
        sample: pd.DataFrame,
        families: Sequence[Code],
        tags: Mapping[str, str],
        *,
        after: int = 0,
    ) -> Registered:
        """Log and register a model; it is not in use until it is released.

        Its version is higher than `after`, the highest that was ever released, even if the registered
        model was deleted since: MLflow would begin with 1 again.

        Raises
        ------
        PredictError
            The cycle's run was deleted for good while the cycle ran.
        """
        name = self.problem.name
        if not self.require_run(run_id):
            raise PredictError(
                f"the run {run_id} of this cycle was deleted in MLflow",
                code="run_gone",
                next_step="Run the same command again: it opens a new run.",
            )
        for version in self.client.search_model_versions(f"name = '{name}'"):
            if (
                version.tags.get("cycle") == tags["cycle"]
                and version.tags.get("state") == "registered"
            ):
                # left by an interrupted attempt of this cycle; nothing refers to it
                self.client.delete_model_version(name, str(version.version))
        info = self.client.run(log_model, model, sample, families, run_id, within=TRANSFER_SECONDS)
        self._require_model(after)
        new = partial(
            self.client.create_model_version,
            name,
            info.model_uri,
            run_id,
            tags={**tags, "state": "registered", "model_id": info.model_id},
            model_id=info.model_id,
            description=_describe_version(tags),
        )
        version = new()
        while (
            int(version.version) <= after
        ):  # MLflow does not use the number of a deleted version again
            self.client.delete_model_version(name, str(version.version))
            version = new()
        with tempfile.TemporaryDirectory() as folder:
            digests = digest_folder(self._download(int(version.version), folder))
        return Registered(int(version.version), run_id, info.model_id, digests)

    def _require_model(self, after: int) -> None:
        """Create the registered model unless it exists."""
        try:
            self.client.create_registered_model(
                self.problem.name, description=_describe(self.problem)
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return
        if after:
            _log.warning(
                "the registered model %s was deleted in MLflow; it is created again, and its versions go on "
                "after %d [restored]",
                self.problem.name,
                after,
            )

    def load(self, version: int, digests: Mapping[str, str]) -> Any:
        """Load a version whose files have the digests recorded in the decision.

        Raises
        ------
        PredictError
            The version does not exist, or its files differ (`DigestError`).
        """
        return self.load_measured(version, digests)[0]

    def load_measured(self, version: int, digests: Mapping[str, str]) -> tuple[Any, int]:
        """As `load`, with the bytes of the version's files."""
        with tempfile.TemporaryDirectory() as folder:
            files = self._download(version, folder)
            size = sum(f.stat().st_size for f in files.rglob("*") if f.is_file())
            return load_folder(files, digests), size

    def recorded(self, run_id: str, path: str) -> str | None:
        """A small text that a cycle logged to its run; None where run or text are gone."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                download = mlflow.artifacts.download_artifacts
                where = {"run_id": run_id, "artifact_path": path, "dst_path": folder}
                file = self.client.run(download, **where, within=TRANSFER_SECONDS, may_be_gone=True)
                return Path(file).read_text(encoding="utf-8")
            except (MlflowException, OSError):
                return None

    def _download(self, version: int, folder: str) -> Path:
        try:
            uri = f"models:/{self.problem.name}/{version}"
            download = mlflow.artifacts.download_artifacts
            return Path(
                self.client.run(
                    download,
                    artifact_uri=uri,
                    dst_path=folder,
                    within=TRANSFER_SECONDS,
                    may_be_gone=True,
                )
            )
        except (MlflowException, OSError) as error:
            full = disk_error(error, Path(folder))
            if full is not None and full.code != "no_right":
                raise full from error
            raise PredictError(
                f"model version {version} of {self.problem.name} cannot be fetched: {str(error).splitlines()[0]}",
                code="version_gone",
                next_step=_WITHOUT_VERSION,
            ) from error

    def champion_alias(self) -> int | None:
        """The version that the alias `champion` names now; None if the alias was removed."""
        try:
            found = self.client.get_model_version_by_alias(self.problem.name, CHAMPION)
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise
        return int(found.version)

    def require_version(self, version: int) -> None:
        """Check that a version exists.

        Raises
        ------
        PredictError
            It was deleted.
        """
        try:
            self.client.get_model_version(self.problem.name, str(version))
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            raise PredictError(
                f"model version {version} of {self.problem.name} was deleted in MLflow",
                code="version_gone",
                next_step=_WITHOUT_VERSION,
            ) from error

    def update_aliases(
        self, releases: Sequence[Release], notes: Mapping[int, tuple[str, Mapping[str, str]]]
    ) -> None:
        """Point the aliases at the newest releases; `notes` are description and tags per version."""
        name = self.problem.name
        self._set_alias(CHAMPION, releases[0].model_version)
        if len(releases) > 1:
            self._set_alias(PREVIOUS, releases[1].model_version)
        for version, (description, tags) in notes.items():
            self.client.update_model_version(name, str(version), description)
            for key, value in {**tags, "state": "released"}.items():
                self.client.set_model_version_tag(name, str(version), key, str(value))

    def set_challenger(self, version: int | None) -> None:
        """Point the alias `challenger` at the version awaiting approval; None removes it."""
        name = self.problem.name
        try:
            aliases = self.client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            return  # the registered model was deleted; code that needs a version raises
        found = int(aliases[CHALLENGER]) if CHALLENGER in aliases else None
        if version is None and found is not None:
            self.client.delete_registered_model_alias(name, CHALLENGER)
        elif version is not None and found != version:
            self._set_alias(CHALLENGER, version)

    def version_tag(self, version: int, name: str) -> str | None:
        """A tag of a version; None without the tag or the version."""
        try:
            found = self.client.get_model_version(self.problem.name, str(version))
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            return None
        value = found.tags.get(name)
        return None if value is None else str(value)

    def _set_alias(self, alias: str, version: int) -> None:
        try:
            self.client.set_registered_model_alias(self.problem.name, alias, str(version))
        except MlflowException as error:
            _log.warning(
                "alias %s could not be set to version %d: %s",
                alias,
                version,
                str(error).splitlines()[0],
            )

    def log_live(self, release: Release, scores: Mapping[str, float], rows: int) -> None:
        """Log realised performance of a version's predictions as metrics of its run and model."""
        try:
            version = self.client.get_model_version(self.problem.name, str(release.model_version))
        except MlflowException as error:  # it was deleted; the scores are in the store
            _log.warning("version %d: %s", release.model_version, str(error).splitlines()[0])
            return
        writable = self.require_run(release.run_id)
        for name, score in scores.items():
            if writable:
                self._log_live_metric(release.run_id, name, score, version.tags.get("model_id"))
            self.client.set_model_version_tag(
                self.problem.name,
                str(release.model_version),
                f"live_{name}",
                f"{score:.5g} on {rows} rows",
            )

    def log_report(self, run_id: str, folder: Path) -> None:
        """Log a cycle's page and its plots to the cycle's run; a run that was deleted gets none."""
        if not self.require_run(run_id):
            return
        self.client.log_artifact(run_id, str(folder / "report.html"))
        for plot in sorted((folder / "plots").glob("*.png")):
            self.client.log_artifact(run_id, str(plot), "plots")

    def log_monitoring(self, release: Release, numbers: Mapping[str, float], at: datetime) -> None:
        """Log what monitoring found at a moment as metrics of the version's run, over time.

        The step is the number of the day, so that charts of several versions share an axis.
        """
        if not self.require_run(release.run_id):
            return
        stamp, day = int(at.timestamp() * 1000), int(at.timestamp() // 86400)
        metrics = [
            Metric(name, rounded(value), stamp, day)
            for name, value in numbers.items()
            if math.isfinite(value)
        ]
        self.client.log_batch(release.run_id, metrics=metrics)

    def _log_live_metric(self, run_id: str, name: str, score: float, model_id: str | None) -> None:
        try:
            self.client.log_metric(run_id, f"live_{name}", rounded(score), model_id=model_id)
        except (
            MlflowException
        ) as error:  # the logged model was deleted; the scores are in the store
            _log.warning("live_%s of run %s: %s", name, run_id, str(error).splitlines()[0])


def _describe(problem: Problem) -> str:
    return (
        f"{problem.question or problem.name}\n\n"
        f"- aliases: `champion` is in use, `previous` was before it, `challenger` awaits approval\n"
        f'- load: `mlflow.sklearn.load_model("models:/{problem.name}@champion")`\n'
        f"- predictions: table `{problem.table}`"
    )


def _describe_version(tags: Mapping[str, str]) -> str:
    """What a version is until it is released; then its decision describes it."""
    state = "Awaits approval" if tags.get("decision") == "wait" else "Not released"
    parts = [tags[name] for name in ("winner", "evidence") if name in tags]
    return f"{state}: {'; '.join(parts)}" if parts else state
