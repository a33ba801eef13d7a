"""Does this installation work, and would a *scheduled* run really start? One line and one remedy each.

The stack breaks in ways that nobody sees: with some versions of its libraries Prefect's server starts
but creates no scheduled run. So versions are checked, and the server's own code is imported.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from typing import Any

import sqlalchemy as sa
from packaging.requirements import Requirement
from rich.console import Group
from rich.text import Text

from automl.errors import AutomlError
from automl.problem import Problem
from automl.store import Store
from automl.workspace import DEFAULTS, Workspace, redact

__all__ = ["Check", "examine", "to_json", "to_text"]

DISTRIBUTION = "automl-retrain"
FREE_GB = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; `remedy` says what to do if it did not pass."""

    name: str
    passed: bool
    found: str
    remedy: str = ""


def examine(problem: Problem | None, workspace: Workspace | None) -> list[Check]:
    """Look at everything that has been seen to break; with a problem file, at its workspace too."""
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
            lambda: _mlflow(workspace),
            lambda: _champion(problem, workspace),
        ]
    return [_guarded(look) for look in looks]


def to_json(checks: Sequence[Check]) -> dict[str, Any]:
    """What `--json` prints."""
    return {"passed": all(c.passed for c in checks), "checks": [asdict(c) for c in checks]}


def to_text(document: Mapping[str, Any]) -> Group:
    """A line per check, a remedy under those that did not pass."""
    lines = []
    for c in document["checks"]:
        lines.append(
            Text(
                f"{'ok ' if c['passed'] else 'NO '} {c['name']:16}{c['found']}",
                style="" if c["passed"] else "red",
            )
        )
        if not c["passed"]:
            lines.append(Text(f"     -> {c['remedy']}"))
    return Group(*lines)


def _guarded(look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # noqa: BLE001  a look that fails is a finding
        return Check(
            getattr(look, "__name__", "check").strip("_"),
            False,
            f"{type(error).__name__}: {error}",
            "see the message",
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
            wrong.append(f"{need.name} is missing")
            continue
        if not need.specifier.contains(have, prereleases=True):
            wrong.append(f"{need.name} {have}, wanted {need.specifier}")
    found = (
        "; ".join(wrong) or f"all inside their bounds (automl {distribution(DISTRIBUTION).version})"
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
        f"export OMP_WAIT_POLICY={wanted}: spinning threads are 10-25 times slower",
    )


def _lightgbm() -> Check:
    done = _python_says("import lightgbm; print(lightgbm.__version__)")
    return Check(
        "lightgbm",
        done.returncode == 0,
        done.stdout.strip() or _last(done.stderr),
        "On macOS: brew install libomp",
    )


def _prefect_server() -> Check:
    """The import that dies with a FastAPI that is too new, and the insert that dies with SQLAlchemy 2.1."""
    done = _python_says("import prefect.server.api.server, prefect; print(prefect.__version__)")
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
    workspace.home.mkdir(parents=True, exist_ok=True)
    probe = workspace.home / f".probe-{os.getpid()}"
    probe.write_text("")
    probe.unlink()
    return Check("workspace", True, f"{workspace.home} is writable")


def _disk(workspace: Workspace) -> Check:
    free = shutil.disk_usage(workspace.home).free / 1e9
    return Check(
        "disk",
        free > FREE_GB,
        f"{free:.1f} GB free",
        "Make room: a cycle needs three times its history.",
    )


def _mlflow(workspace: Workspace) -> Check:
    uri = workspace.tracking_uri
    if uri.startswith("http"):
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):
            return Check("mlflow", True, redact(uri))
    engine = sa.create_engine(uri)
    with engine.connect():
        port = _port_free(5000)
    return Check(
        "mlflow",
        True,
        f"{redact(uri)}; port 5000 is {'free' if port else 'taken: automl ui --port 5001'}",
    )


def _champion(problem: Problem, workspace: Workspace) -> Check:
    """Whether MLflow still says what was released: versions and aliases can be changed there by hand."""
    from automl.tracking import Registry  # noqa: PLC0415  MLflow, only where there is something to ask

    store = Store(workspace)
    released, waiting = store.champion(problem.name), store.waiting(problem.name)
    if released is None:
        return Check("champion", True, "nothing was released yet")
    registry = Registry(problem, workspace)
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
        found + (" and follows with the next command" if lags else ""),
        f"automl score {problem.file.name} puts it back; to release another version: "
        f"automl rollback {problem.file.name} --to VERSION --reason R",
    )


def _port_free(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0


def _python_says(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:200]
