"""Fixtures of all tests: the world of parcels, its problem and workspace, servers and launchers made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pandas as pd
import pytest

from automl.problem import Problem, load_problem
from automl.processes import children
from automl.workspace import DEFAULTS, Workspace, open_workspace
from tests.support.commands import Launcher, launching
from tests.support.parcels import make_world, write_problem
from tests.support.postgres import PostgresServer
from tests.support.postgres import postgres as postgres  # a fixture

if TYPE_CHECKING:
    from tests.support.workspaces import Worlds

# as the command line does, before anything reads the environment
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)
# a report takes longer than a small cycle: tests of reports turn it on
os.environ["AUTOML_REPORT"] = "off"

# once for all tests, not in every one
children.PRELOADED.append("automl.promotion.guards.worker")


@pytest.fixture(scope="session")
def server() -> None:
    """The server of children has imported what it will: no test's budget pays for that."""
    child = children.context().Process(target=int)
    child.start()
    child.join()


@pytest.fixture
def world() -> pd.DataFrame:
    """The default world, 66 days of parcels from 2026-01-01."""
    return make_world()


@pytest.fixture
def make_problem(tmp_path: Path, world: pd.DataFrame) -> Callable[..., Problem]:
    """Write a problem file and its source into `tmp_path`; `replace` edits the file's text."""

    def make(
        task: str = "binary", *, name: str = "parcels", replace: dict[str, str] | None = None
    ) -> Problem:
        return load_problem(write_problem(tmp_path, task, name=name, replace=replace, frame=world))

    return make


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The workspace of the problem file of `make_problem`."""
    return open_workspace(tmp_path / "problem.toml")


@pytest.fixture(scope="session", autouse=True)
def _new_tracking_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow makes its tables step by step for two seconds: here once, and workspaces of this process begin with a copy.

    Commands in processes of their own make them as anywhere.
    """
    from automl.tracking import connection  # noqa: PLC0415  after the environment is set

    make, made = connection.make_local_store, tmp_path_factory.mktemp("tables") / "mlflow.db"

    def copy(workspace: Workspace) -> None:
        if not made.exists():
            make(replace(workspace, home=made.parent))
        file = workspace.home / "mlflow.db"
        if not file.exists():
            aside = Path(shutil.copy(made, file.with_name(f"mlflow-{uuid4().hex}")))
            with suppress(FileExistsError):
                os.link(aside, file)
            aside.unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "make_local_store", copy)
        yield


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Starts commands that need not import the libraries."""
    with launching(tmp_path_factory.mktemp("launched")) as started:
        yield started


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The problem file of a folder in which two weekly cycles have run; copied by who changes it."""
    from tests.support.workspaces import release_twice  # noqa: PLC0415  after the environment is set

    return release_twice(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="session")
def worlds(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, launcher: Launcher
) -> Worlds:
    """Workspaces to kill commands in, and the launcher of the commands."""
    from tests.support.workspaces import Worlds  # noqa: PLC0415  after the environment is set

    return Worlds(launcher, postgres, tmp_path_factory.mktemp("worlds"))


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test."""
    for name in [n for n in os.environ if n.startswith("AUTOML_") or n == "MLFLOW_TRACKING_URI"]:
        if name != "AUTOML_REPORT":
            monkeypatch.delenv(name)
