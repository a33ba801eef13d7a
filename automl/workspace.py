"""Where things lie and which settings hold: environment over `mlflow.env` over defaults.

The environment is read here and nowhere else; values are passed inward. Relative paths and the
workspace resolve against the problem file, never against the current folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dotenv import dotenv_values
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from automl.errors import ProblemError

__all__ = ["Settings", "Workspace", "export_settings", "now", "open_workspace", "redact"]

MLFLOW_ENV = "mlflow.env"

# Set for this process and its children unless the user has said otherwise. The thread settings must
# stand before numpy or LightGBM is loaded: spinning OpenMP threads made fits 10-25 times slower on
# shared cores, and a fork per core with one thread each uses the machine fully.
DEFAULTS: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # leases kept in server memory leak a deployment's slot for good when holder and server both die
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


class Settings(BaseSettings):
    """Settings of one installation; every name is the environment variable in lower case."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    automl_home: Path | None = Field(default=None, description="workspace instead of .automl/")
    automl_database_url: str = Field(default="", description="store: PostgreSQL instead of SQLite")
    automl_mlflow_env: Path | None = Field(default=None, description="mlflow.env to use")
    automl_workers: int = Field(default=0, ge=0, description="fits at once; 0: one per core")
    mlflow_tracking_uri: str = Field(default="", description="an MLflow server, or a database URL")


@dataclass(frozen=True, slots=True)
class Workspace:
    """All places of one problem file."""

    root: Path  # folder of the problem file
    home: Path  # .automl/ or AUTOML_HOME
    database_url: str
    tracking_uri: str
    workers: int

    @property
    def local_mlflow(self) -> bool:
        """Whether MLflow is the SQLite file of this workspace (no server)."""
        return self.tracking_uri == f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Where artifacts go when no server keeps them."""
        return self.home / "mlartifacts"

    def history(self, name: str) -> Path:
        """Snapshots and batches of a problem."""
        return self.home / "history" / name

    def scratch(self, name: str) -> Path:
        """Matrices and predictions of a running sweep; removed when its cycle has ended."""
        return self.home / "scratch" / name

    def fit_cache(self, name: str) -> Path:
        """Fitted recipes kept from one cycle to the next; may be thrown away."""
        return self.home / "fit_cache" / name

    def lock(self, name: str) -> Path:
        """The file whose lock a running cycle holds."""
        return self.home / "locks" / f"{name}.lock"

    def resolve(self, path: str) -> Path:
        """A path of the problem file as an absolute one."""
        return (self.root / path).resolve()


def now() -> datetime:
    """Wall clock in UTC; the only clock that stories read."""
    return datetime.now(UTC)


def export_settings(start: Path) -> Path | None:
    """Put `mlflow.env` and our defaults into the environment, under what is already there.

    Must run before mlflow, prefect, numpy or lightgbm is imported: they read the environment once.
    Returns the `mlflow.env` that was used: AUTOML_MLFLOW_ENV, or the nearest one at or above `start`.

    Raises
    ------
    ProblemError
        AUTOML_MLFLOW_ENV names a file that is not there.
    """
    start = start.resolve()
    chosen = os.environ.get("AUTOML_MLFLOW_ENV")
    if chosen and not (start / chosen).is_file():
        raise ProblemError(f"AUTOML_MLFLOW_ENV: no file at {start / chosen}", code="no_environment")
    folders = [start, *start.parents]
    found = (
        start / chosen
        if chosen
        else next((f / MLFLOW_ENV for f in folders if (f / MLFLOW_ENV).is_file()), None)
    )
    for key, value in {**DEFAULTS, **(_read_env(found) if found else {})}.items():
        os.environ.setdefault(key, value)
    return found


def open_workspace(problem_file: Path, settings: Settings | None = None) -> Workspace:
    """The workspace of a problem file; folders are created when first written to."""
    settings = settings or _settings()
    root = problem_file.resolve().parent
    home = (root / (settings.automl_home or ".automl")).resolve()
    return Workspace(
        root=root,
        home=home,
        database_url=settings.automl_database_url or f"sqlite:///{home / 'automl.db'}",
        tracking_uri=settings.mlflow_tracking_uri or f"sqlite:///{home / 'mlflow.db'}",
        workers=settings.automl_workers or os.cpu_count() or 1,
    )


def redact(text: str) -> str:
    """Passwords in URLs replaced by `***`; rather too much of an odd URL than too little."""
    hidden = re.sub(r"(\w+://[^\s:/@]*:)\S+@", r"\1***@", text)
    return re.sub(r"([?&]password=)[^\s&]+", r"\1***", hidden)


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{str(e['loc'][0]).upper()}: found {e['input']!r}; {e['msg']}" for e in error.errors()
        ]
        raise ProblemError("environment: " + "; ".join(lines), code="environment") from None


def _read_env(path: Path) -> dict[str, str]:
    return {key: value for key, value in dotenv_values(path).items() if value}
