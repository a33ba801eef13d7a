"""The models of a scratch workspace as plain files: no MLflow, no runs, nothing for reviewers.

A backtest replays cycles by the hundred. What MLflow shows of a cycle changes neither its decision nor its
predictions, so scratch workspaces keep the models alone. They are pickles that this installation wrote itself.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from automl.errors import DigestError, PredictError
from automl.files import replacing
from automl.history import Snapshot
from automl.modeling.families import Family, in_family_folder, load_families
from automl.modeling.features import load_columns
from automl.problem import Problem
from automl.store import Release
from automl.sweep import Trial
from automl.tracking.models import Code, trusted_types
from automl.tracking.registry import Registered, Registry
from automl.tracking.runs import CycleRecord
from automl.tracking.trials import TrialLog
from automl.workspace import Workspace

__all__ = ["FileRegistry", "open_registry"]

MODEL = "model.pickle"


def open_registry(problem: Problem, workspace: Workspace) -> Registry:
    """The models and runs of a problem: in MLflow, or as files where the workspace has no MLflow."""
    return (
        Registry(problem, workspace) if workspace.tracking_uri else FileRegistry(problem, workspace)
    )


class FileRegistry(Registry):
    """Models below `models/` of the workspace, `<version>/model.pickle`; everything else is not written."""

    def __init__(self, problem: Problem, workspace: Workspace) -> None:
        self.problem, self.workspace = problem, workspace
        self.experiment = ""
        self.waited = 0.0
        self._folder = workspace.home / "models"

    # ---- models

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
        """Write a model under the number after the highest that was released."""
        if any(not in_family_folder(code.path) for code in families):
            trusted_types(model)  # MLflow would refuse it
        version, content = after + 1, pickle.dumps(model)
        file = self._folder / str(version) / MODEL
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as aside:
            aside.write_bytes(content)
        return Registered(version, run_id, "", {MODEL: hashlib.sha256(content).hexdigest()})

    def load_measured(self, version: int, digests: Mapping[str, str]) -> tuple[Any, int]:
        """A version's model, and the bytes of its file."""
        self.require_version(version)
        content = (self._folder / str(version) / MODEL).read_bytes()
        if {MODEL: hashlib.sha256(content).hexdigest()} != dict(digests):
            raise DigestError(
                f"the file of model version {version} differs from the one recorded in the decision",
                code="digest_mismatch",
                next_step="Restore the file from a backup, or: automl rollback FILE --reason R",
            )
        # a pickle names the modules of users' files
        load_families(self.problem.sweep.families, self.problem.file.parent)
        load_columns(self.problem.transformer)
        return pickle.loads(content), len(content)

    def require_version(self, version: int) -> None:
        """Check that a version exists."""
        if not (self._folder / str(version) / MODEL).is_file():
            raise PredictError(
                f"found no file of model version {version} in {self._folder}",
                code="version_gone",
                next_step="Restore the file from a backup, or: automl rollback FILE --reason R",
            )

    def champion_alias(self) -> int | None:
        """The version that `update_aliases` was given last."""
        alias = self._folder / "champion"
        return int(alias.read_text("utf-8")) if alias.exists() else None

    def update_aliases(
        self, releases: Sequence[Release], notes: Mapping[int, tuple[str, Mapping[str, str]]]
    ) -> None:
        """Note the newest release."""
        with replacing(self._folder / "champion") as aside:
            aside.write_text(str(releases[0].model_version), "utf-8")

    # ---- runs: an id, and nothing behind it

    def open_cycle(self, cycle: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """The name of the cycle, as the id of its run."""
        return cycle

    def reopen(self, run_id: str) -> bool:
        """A run that is not written can always be resumed."""
        return True

    @contextmanager
    def logging_trials(
        self,
        parent: str,
        cycle: str,
        families: Mapping[str, Family],
        require: Callable[[], None] = lambda: None,
    ) -> Iterator[TrialLog]:
        """Take trials and log none."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow") as pool:
            yield TrialLog(pool, lambda *_: None)

    def log_trials(
        self,
        parent: str,
        cycle: str,
        trials: Sequence[Trial],
        families: Mapping[str, Family],
        roles: Mapping[str, str],
    ) -> dict[str, str]:
        """Log nothing."""
        return {}

    def log_snapshot(self, run_id: str, snapshot: Snapshot, columns: Mapping[str, str]) -> None:
        """Log nothing."""

    def log_live(self, release: Release, scores: Mapping[str, float], rows: int) -> None:
        """Log nothing."""

    def log_report(self, run_id: str, folder: Path) -> None:
        """Log nothing."""

    def close_cycle(self, record: CycleRecord) -> None:
        """Write nothing."""

    def finish_cycle(self, run_id: str, outcome: str, reason: str) -> None:
        """Write nothing."""

    def describe(self, cycle: str, run_id: str = "") -> None:
        """Write nothing."""

    def set_challenger(self, version: int | None) -> None:
        """Write nothing."""

    def version_tag(self, version: int, name: str) -> str | None:
        """No version has a tag."""
        return None

    def end_dead_runs(self) -> int:
        """There are none."""
        return 0
