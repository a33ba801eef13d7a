"""A small made-up world: dated rows whose outcome depends on what is known, and a problem file on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from automl.modeling import workers as children
from automl.problem import Problem, load_problem
from automl.workspace import DEFAULTS, Workspace, open_workspace
from tests.support.commands import Launcher, launching
from tests.support.postgres import PostgresServer
from tests.support.postgres import postgres as postgres  # a fixture

if TYPE_CHECKING:
    from tests.support.worlds import Worlds

for (
    key,
    value,
) in DEFAULTS.items():  # as the command line does, before anything reads the environment
    os.environ.setdefault(key, value)

children.PRELOADED.append("automl.promotion.guards.worker")  # once for all tests, not in every one

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
AS_OF = datetime(2026, 3, 2, tzinfo=UTC)

PROBLEM = """
name     = "{name}"
question = "Which parcels will be late?"
task     = "{task}"

[history]
source      = "sqlite:///world.db"
query       = "select * from parcels"
time        = "sent_at"
key         = ["parcel"]
target      = "{target}"
label_delay = "1d"
ignore      = ["arrived_after"]

[metric]
name = "{metric}"

[sweep]
families = ["baseline", "linear"]
trials   = 4
seed     = 3

[validation]
block   = "7d"
origins = 2
"""

METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
TARGET = {"binary": "late", "multiclass": "fate", "regression": "hours"}


def make_world(
    rows: int = 2400, *, first: datetime = FIRST, seed: int = 0, step: str = "40min"
) -> pd.DataFrame:
    """Parcels sent every 40 minutes from `first`: 2,400 rows are 66 days."""
    rng = np.random.default_rng(seed)
    times = pd.date_range(first.replace(tzinfo=None), periods=rows, freq=step)
    weight = rng.gamma(2.0, 2.0, rows).round(3)
    carrier = rng.choice(["ant", "bee", "cat"], rows, p=[0.5, 0.3, 0.2])
    drive = (
        0.5 * weight
        + 2.0 * (carrier == "cat")
        + 0.3 * (times.dayofweek >= 5)
        + rng.normal(0, 1, rows)
    )
    return pd.DataFrame(
        {
            "parcel": np.arange(rows),
            "sent_at": times,
            "weight": np.where(rng.random(rows) < 0.05, np.nan, weight),
            "carrier": carrier,
            "arrived_after": drive * 10,
            "late": (drive > 3).astype(int),
            "fate": np.select([drive > 4, drive > 2], ["lost", "late"], "fine"),
            "hours": (drive * 10).round(3),
        }
    )


def write_world(frame: pd.DataFrame, folder: Path) -> None:
    """The table `parcels` of `world.db` in a folder, replaced as a whole."""
    engine = sa.create_engine(f"sqlite:///{folder / 'world.db'}")
    frame.assign(sent_at=frame["sent_at"].dt.strftime("%Y-%m-%d %H:%M:%S")).to_sql(
        "parcels", engine, index=False, if_exists="replace"
    )
    engine.dispose()


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
    """Write a problem file (and the world beside it) into `tmp_path`; `replace` edits the file's text."""

    def make(
        task: str = "binary", *, name: str = "parcels", replace: dict[str, str] | None = None
    ) -> Problem:
        return load_problem(write_problem(tmp_path, task, name=name, replace=replace, frame=world))

    return make


def write_problem(
    folder: Path,
    task: str = "binary",
    *,
    name: str = "parcels",
    replace: dict[str, str] | None = None,
    frame: pd.DataFrame | None = None,
) -> Path:
    """Write `problem.toml`, and the world unless it is there; returns the file."""
    text = PROBLEM.format(name=name, task=task, target=TARGET[task], metric=METRIC[task])
    for old, new in (replace or {}).items():
        if old not in text:
            raise AssertionError(f"{old!r} is not in the problem file")
        text = text.replace(old, new)
    file = folder / "problem.toml"
    file.write_text(text, encoding="utf-8")
    if frame is not None or not (folder / "world.db").exists():
        others = [name for name in TARGET.values() if name != TARGET[task]]
        write_world(
            (make_world() if frame is None else frame).drop(columns=others, errors="ignore"), folder
        )
    return file


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The workspace beside the problem file of `make_problem`."""
    return open_workspace(tmp_path / "problem.toml")


@pytest.fixture(scope="session", autouse=True)
def _new_tracking_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow makes its tables step by step for two seconds: here once, and workspaces of this process begin with a copy.

    Commands in processes of their own make them as anywhere.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415  after the

    from automl.tracking import Registry  # noqa: PLC0415  environment is set

    reach = Registry._reach
    made = tmp_path_factory.mktemp("tables") / "mlflow.db"

    def reach_a_copy(self: Registry) -> None:
        file = Path(self.workspace.tracking_uri.removeprefix("sqlite:///"))
        if self.workspace.local_mlflow and file.parent.is_dir() and not file.exists():
            if not made.exists():
                SqlAlchemyStore(f"sqlite:///{made}", made.parent.as_uri())
            aside = Path(shutil.copy(made, file.with_name(f"mlflow-{uuid4().hex}")))
            with suppress(FileExistsError):
                os.link(aside, file)
            aside.unlink()
        reach(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "_reach", reach_a_copy)
        yield


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Starts commands that need not import the libraries."""
    with launching(tmp_path_factory.mktemp("launched")) as started:
        yield started


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The problem file of a folder in which two weekly cycles have run; copied by who changes it."""
    from tests.support.undoing import release_twice  # noqa: PLC0415  it imports from here

    return release_twice(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="session")
def worlds(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, launcher: Launcher
) -> Worlds:
    """Workspaces to kill commands in, and the launcher of the commands."""
    from tests.support.worlds import Worlds  # noqa: PLC0415  it imports from here

    return Worlds(launcher, postgres, tmp_path_factory.mktemp("worlds"))


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test."""
    for name in [n for n in os.environ if n.startswith("AUTOML_") or n == "MLFLOW_TRACKING_URI"]:
        monkeypatch.delenv(name)
