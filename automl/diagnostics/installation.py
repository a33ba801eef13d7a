"""Check that this installation works and that a *scheduled* run would start: a line and a remedy each.

The stack can break silently: with some versions of its libraries Prefect's server starts but creates no
scheduled run. So versions are checked, and the server's code is imported.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from rich.table import Table

from automl.cycles.connections import mlflow_has_tables, open_all
from automl.diagnostics.check import Check
from automl.errors import AutomlError
from automl.problem import Problem
from automl.redaction import redact
from automl.report.lines import checks
from automl.store import store_as_it_is
from automl.workspace import DEFAULTS, Workspace

if TYPE_CHECKING:  # MLflow itself may be what is broken
    from automl.tracking import Registry

__all__ = ["examine", "to_json", "to_text"]

DISTRIBUTION = "automl-retrain"
FREE_GB = 1.0


def examine(
    problem: Problem | None = None,
    workspace: Workspace | None = None,
    open_registry: Callable[[], Registry] | None = None,
) -> list[Check]:
    """Check everything that has been seen to break.

    With a problem, its workspace, source and destinations are checked too; with `open_registry`, whether MLflow agrees with the
    store about the champion.
    """
    looks: list[Callable[[], Check]] = [
        _python,
        _versions,
        _threads,
        _lightgbm,
        _prefect_server,
        _prefect_api,
    ]
    if problem is not None and workspace is not None:
        looks += [
            lambda: _writable(workspace),
            lambda: _disk(workspace),
            _ui_port,
        ]
    if problem is not None and workspace is not None and open_registry is not None:
        looks.append(lambda: _champion(problem, workspace, open_registry))
    checks = [_guarded(look) for look in looks]
    if problem is not None and workspace is not None:
        checks += [
            Check(c["name"], c["passed"], c["found"], c["remedy"])
            for c in open_all(problem, workspace)
        ]
    return checks


def to_json(checks: Sequence[Check]) -> dict[str, Any]:
    """What `--json` prints."""
    return {"passed": all(c.passed for c in checks), "checks": [asdict(c) for c in checks]}


def to_text(document: Mapping[str, Any]) -> Table:
    """A line per check, with a remedy if it did not pass."""
    return checks(document["checks"])


def _guarded(look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # noqa: BLE001  a check that raises did not pass
        return Check(
            getattr(look, "__name__", "check").strip("_"),
            False,
            redact(f"{type(error).__name__}: {error}"),
            "See the message.",
        )


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), found, "Install Python 3.11 or newer.")


def _versions() -> Check:
    wrong = []
    for line in requires(DISTRIBUTION) or []:
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"{need.name} is not installed")
            continue
        if not need.specifier.contains(have, prereleases=True):
            wrong.append(f"{need.name} {have}, wanted {need.specifier}")
    found = (
        "; ".join(wrong) or f"all within their bounds (automl {distribution(DISTRIBUTION).version})"
    )
    return Check(
        "versions", not wrong, found, "pip install --no-deps --require-hashes -r requirements.lock"
    )


def _threads() -> Check:
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    found = f"OMP_WAIT_POLICY={policy or 'unset'}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    wanted = DEFAULTS["OMP_WAIT_POLICY"]
    return Check(
        "threads",
        policy.upper() == wanted,
        found,
        f"export OMP_WAIT_POLICY={wanted}: spinning threads make fits 10-25 times slower",
    )


def _lightgbm() -> Check:
    done = _run_python("import lightgbm; print(lightgbm.__version__)")
    return Check(
        "lightgbm",
        done.returncode == 0,
        done.stdout.strip() or _last(done.stderr),
        "On macOS: brew install libomp",
    )


def _prefect_server() -> Check:
    """Prefect's server: its import fails with a newer FastAPI, its inserts fail with SQLAlchemy 2.1."""
    done = _run_python("import prefect.server.api.server, prefect; print(prefect.__version__)")
    ok = done.returncode == 0 and version("sqlalchemy").startswith("2.0.")
    found = (
        f"server {done.stdout.strip()} can start, SQLAlchemy {version('sqlalchemy')}"
        if ok
        else _last(done.stderr)
    )
    return Check(
        "prefect server",
        ok,
        found,
        "Keep fastapi<0.151 and sqlalchemy<2.1 (requirements.lock does).",
    )


def _prefect_api() -> Check:
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        return Check(
            "prefect api",
            True,
            "PREFECT_API_URL unset: cycles run without a server; `schedule` needs one",
        )
    with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5):
        return Check("prefect api", True, redact(url))


def _writable(workspace: Workspace) -> Check:
    there = _existing(workspace.home)
    return Check(
        "workspace",
        os.access(there, os.W_OK | os.X_OK),
        f"{workspace.home}"
        + (" is created by the first command" if there != workspace.home else ""),
        f"Fix the permissions of {there}, or set AUTOML_HOME.",
    )


def _disk(workspace: Workspace) -> Check:
    free = shutil.disk_usage(_existing(workspace.home)).free / 1e9
    return Check(
        "disk",
        free > FREE_GB,
        f"{free:.1f} GB free",
        "Free disk space: a cycle needs three times the size of its history.",
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(f for f in (folder, *folder.parents) if f.exists())


def _ui_port() -> Check:
    with socket.socket() as probe:
        free = probe.connect_ex(("127.0.0.1", 5000)) != 0
    return Check(
        "ui port", True, "5000 is " + ("free" if free else "in use: automl ui --port 5001")
    )


def _champion(
    problem: Problem, workspace: Workspace, open_registry: Callable[[], Registry]
) -> Check:
    """Whether MLflow still has the released version and alias: both can be changed there by hand."""
    store = store_as_it_is(workspace)
    released = store.champion(problem.name) if store else None
    if store is None or released is None:
        return Check("champion", True, "no version was released yet")
    waiting, uri = store.waiting(problem.name), redact(workspace.tracking_uri)
    if not mlflow_has_tables(workspace):
        found = f"version {released.model_version} was released, but {uri} is empty"
        return Check(
            "champion", False, found, "Restore MLflow's database, or fix MLFLOW_TRACKING_URI."
        )
    registry = open_registry()
    for number in (released.model_version, *([waiting.model_version] if waiting else [])):
        try:
            registry.require_version(number)
        except AutomlError as error:
            return Check("champion", False, str(error), error.next_step)
    alias = registry.champion_alias()
    found = f"version {released.model_version} was released, the alias champion names {alias}"
    lags = not released.projected
    return Check(
        "champion",
        alias == released.model_version or lags,
        found + ("; the next command updates it" if lags else ""),
        f"automl score {problem.file.name} resets the alias; to release another version: "
        f"automl rollback {problem.file.name} --to VERSION --reason R",
    )


def _run_python(
    code: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:200]
