"""Folders of a problem file, and settings: environment over `mlflow.env` over defaults.

Settings are read here and passed on as values. Other modules read only the environment variables that
belong to them: the secret of personal keys, `${NAME}` references of a source, MLflow's own settings, the
fault point of a test. Relative paths and the workspace resolve against the problem file, never against the
current folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from automl.addresses import fill_references, refuse_unclear_password, split_login
from automl.errors import ProblemError
from automl.files import USERS_UMASK

__all__ = [
    "Settings",
    "Workspace",
    "day_of",
    "driver_package",
    "export_settings",
    "now",
    "open_workspace",
    "with_driver",
]

MLFLOW_ENV = "mlflow.env"
ENV_FILE = "AUTOML_ENV_FILE"
FROM_FILES = (
    "AUTOML_READ_FROM_FILES"  # names of the variables that a file has set in this environment
)

# Set for this process and its children unless the user has set them. The thread settings must be set
# before numpy or LightGBM is loaded: spinning OpenMP threads made fits 10-25 times slower on shared
# cores, and a process per core with one thread each uses the machine fully.
DEFAULTS: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # a request that hangs is given up within ten seconds; a server that is only slow needs a longer timeout
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # with leases in server memory, a deployment's slot leaks for good if holder and server both die
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


# module or dialect that a database URL needs -> what to install
PACKAGES: Mapping[str, str] = {
    "psycopg": "automl-retrain[postgres]",
    "duckdb": "automl-retrain[duckdb]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "cx_Oracle": "oracledb",
    "bigquery": "sqlalchemy-bigquery",
    "clickhouse": "clickhouse-sqlalchemy",
    "databricks": "databricks-sqlalchemy",
    "redshift": "sqlalchemy-redshift",
    "snowflake": "snowflake-sqlalchemy",
}


class Settings(BaseSettings):
    """Settings of one installation; every name is the environment variable in lower case."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    automl_home: Path | None = Field(default=None, description="workspace instead of .automl/")
    automl_database_url: str = Field(default="", description="store: PostgreSQL instead of SQLite")
    automl_mlflow_env: Path | None = Field(default=None, description="mlflow.env to use")
    automl_workers: int = Field(default=0, ge=0, description="fits at once; 0: one per core")
    automl_report: Literal["on", "off"] = Field(default="on", description="a report per cycle")
    mlflow_tracking_uri: str = Field(default="", description="an MLflow server, or a database URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The folders and addresses of one problem file."""

    root: Path  # folder of the problem file
    home: Path  # .automl/ or AUTOML_HOME
    database_url: str
    tracking_uri: str  # empty: no MLflow, models are files (scratch workspaces)
    workers: int
    reports: bool = False  # whether every cycle leaves a report

    def create(self) -> None:
        """Create the folder, for its owner alone; a folder that exists keeps its rights."""
        if not self.home.is_dir():
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def umask(self) -> int:
        """Takes from new files all rights of others that the workspace's folder does not give them.

        A team that shares a workspace creates the folder itself, with the rights that it wants.
        """
        rights = self.home.stat().st_mode if self.home.is_dir() else 0o700
        return USERS_UMASK | (0o077 & ~rights)

    @property
    def local_mlflow(self) -> bool:
        """Whether MLflow is the SQLite file of this workspace (no server)."""
        return self.tracking_uri == f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Folder of artifacts without an MLflow server."""
        return self.home / "mlartifacts"

    def history(self, name: str) -> Path:
        """Snapshots and batches of a problem."""
        return self.home / "history" / name

    def scratch(self, name: str) -> Path:
        """Matrices and predictions of a running sweep; removed when its cycle ends."""
        return self.home / "scratch" / name

    def fit_cache(self, name: str) -> Path:
        """Fitted recipes, cached from one cycle to the next; may be deleted."""
        return self.home / "fit_cache" / name

    def reports_of(self, name: str) -> Path:
        """Reports of a problem's cycles, a folder each."""
        return self.home / "reports" / name

    def report_of(self, name: str, as_of: datetime, attempt: int) -> Path:
        """The folder of one cycle's report."""
        return self.reports_of(name) / f"{as_of:%Y-%m-%dT%H%M%S}-{attempt}"

    def lock(self, name: str) -> Path:
        """The file that a running cycle locks."""
        return self.home / "locks" / f"{name}.lock"

    def resolve(self, path: str) -> Path:
        """A path of the problem file as an absolute one."""
        return (self.root / path).resolve()


def now() -> datetime:
    """Wall clock in UTC; the only clock that commands read."""
    return datetime.now(UTC)


def day_of(moment: datetime) -> str:
    """The day; with the time of day when it is not midnight, and seconds when there are.

    >>> day_of(datetime(2026, 3, 2)), day_of(datetime(2026, 3, 2, 6, 30))
    ('2026-03-02', '2026-03-02T06:30')
    """
    if moment.second:
        return f"{moment:%Y-%m-%dT%H:%M:%S}"
    midnight = (moment.hour, moment.minute) == (0, 0)
    return f"{moment:%Y-%m-%d}" if midnight else f"{moment:%Y-%m-%dT%H:%M}"


def export_settings(start: Path) -> Path | None:
    """Add the variables of files and the defaults to the environment; called again, it reads the files again.

    Variables of AUTOML_ENV_FILE replace those of the environment: credentials that change while a schedule is
    served come from there. Those of `mlflow.env` and the defaults fill in what is not set. What an earlier call
    took from a file, in this process or in one that started it, is replaced, or removed with its line.

    Must run before mlflow, prefect, numpy or lightgbm is imported: they read the environment on import.
    Returns the `mlflow.env` that was used: AUTOML_MLFLOW_ENV, or the nearest one at or above `start`.

    Raises
    ------
    ProblemError
        AUTOML_ENV_FILE or AUTOML_MLFLOW_ENV names a file that does not exist.
    """
    start = start.resolve()
    earlier = set(os.environ.get(FROM_FILES, "").split())
    own = _named_file(ENV_FILE, start)
    found = _read_env(own) if own else {}
    folders = [start, *start.parents]
    nearest = next((f / MLFLOW_ENV for f in folders if (f / MLFLOW_ENV).is_file()), None)
    file = _named_file("AUTOML_MLFLOW_ENV", start) or nearest
    for key, value in (_read_env(file) if file else {}).items():
        if key not in found and (key in earlier or key not in os.environ):
            found[key] = value
    for name in earlier - found.keys():
        os.environ.pop(name, None)
    os.environ.update(found)
    if found or earlier:
        os.environ[FROM_FILES] = " ".join(sorted(found))
    for key, value in DEFAULTS.items():
        os.environ.setdefault(key, value)
    return file


def _named_file(variable: str, start: Path) -> Path | None:
    """The file that a variable names, relative to `start`."""
    name = os.environ.get(variable)
    if not name:
        return None
    if not (start / name).is_file():
        wanted = "a file of variables" if variable == ENV_FILE else "an mlflow.env"
        raise ProblemError(
            f"{variable}: found no file at {start / name}",
            code="no_environment",
            next_step=f"Set {variable} to the path of {wanted}, or unset it.",
        )
    return start / name


def open_workspace(problem_file: Path, settings: Settings | None = None) -> Workspace:
    """The workspace of a problem file; folders are created on first use."""
    settings = settings or _settings()
    root = problem_file.resolve().parent
    home = (root / (settings.automl_home or ".automl")).resolve()
    database = fill_references(settings.automl_database_url, "AUTOML_DATABASE_URL")
    return Workspace(
        root=root,
        home=home,
        database_url=database or f"sqlite:///{home / 'automl.db'}",
        tracking_uri=_tracking_uri(with_driver(settings.mlflow_tracking_uri))
        or f"sqlite:///{home / 'mlflow.db'}",
        workers=settings.automl_workers or os.cpu_count() or 1,
        reports=settings.automl_report == "on",
    )


def with_driver(url: str) -> str:
    """A database URL for SQLAlchemy, which reads `postgresql://` as psycopg2 and `postgres://` not at all.

    >>> with_driver("postgres://me@host/db"), with_driver("sqlite:///w.db")
    ('postgresql+psycopg://me@host/db', 'sqlite:///w.db')
    """
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


def driver_package(error: Exception, backend: str) -> str:
    """The command that installs what a database URL needs, from the error of its absence."""
    missing = getattr(error, "name", None) or backend
    return f"pip install '{PACKAGES.get(missing, missing)}'"


def _tracking_uri(configured: str) -> str:
    """The address of MLflow; user and password of a server move to the variables that MLflow reads.

    So they are neither printed nor stored with an address.
    """
    if not configured.startswith("http"):
        refuse_unclear_password(configured, "MLFLOW_TRACKING_URI")
        return configured
    address, login = split_login(configured, "MLFLOW_TRACKING_URI")
    if login is not None:
        os.environ["MLFLOW_TRACKING_USERNAME"] = login.user
        os.environ["MLFLOW_TRACKING_PASSWORD"] = login.password
        if os.environ.get("MLFLOW_TRACKING_URI") == configured:
            os.environ["MLFLOW_TRACKING_URI"] = address
        from_files = os.environ.get(FROM_FILES, "").split()
        if "MLFLOW_TRACKING_URI" in from_files:  # the login goes with the address
            login_names = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
            os.environ[FROM_FILES] = " ".join(sorted({*from_files, *login_names}))
    return address


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{str(e['loc'][0]).upper()}: found {e['input']!r}; {e['msg']}" for e in error.errors()
        ]
        raise ProblemError(
            "environment: " + "; ".join(lines),
            code="environment",
            next_step="Fix these variables in the environment or in mlflow.env.",
        ) from None


def _read_env(path: Path) -> dict[str, str]:
    return {key: value for key, value in dotenv_values(path).items() if value}
