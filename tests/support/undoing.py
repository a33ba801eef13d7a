"""Two released versions to undo and to judge, and what people and programs see of them."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest

from automl import predictions as publish
from automl.modeling.families import Blend, Recipe
from automl.problem import load_problem
from automl.store import Entry, Store, Waiting, ledger
from automl.workspace import now, open_workspace
from tests.conftest import AS_OF, make_world, write_problem
from tests.support.cycles import rows, run_cycle

WEEK = timedelta(days=7)


def release_twice(folder: Path) -> Path:
    """Two weekly cycles in a folder, versions 1 and 2; their problem file."""
    file = write_problem(
        folder,
        replace={
            "trials   = 4": "trials   = 2",
            "[validation]": '[publish]\nparquet = "out"\n\n[validation]',
        },
        frame=make_world(),
    )
    for as_of in (AS_OF - WEEK, AS_OF):
        run_cycle(file, as_of)
    return file


@pytest.fixture
def file(released: Path, tmp_path: Path) -> Path:
    """The problem file of a copy of the folder of `released`; paths inside it lead to the copy."""
    folder = tmp_path / "copy"
    shutil.copytree(released.parent, folder)
    for database, table, columns in (
        ("mlflow", "experiments", ["artifact_location"]),
        ("mlflow", "runs", ["artifact_uri"]),
        ("mlflow", "logged_models", ["artifact_location"]),
        ("mlflow", "model_versions", ["source", "storage_location"]),
        ("automl", "automl_cycle", ["receipts"]),
    ):
        with sqlite3.connect(folder / ".automl" / f"{database}.db") as connection:
            for column in columns:
                connection.execute(
                    f"update {table} set {column} = replace({column}, ?, ?)",
                    (str(released.parent), str(folder)),
                )
    return folder / released.name


def standing(file: Path) -> dict[str, Any]:
    """What readers and the registry see, through nothing of ours."""
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    aliases = client.get_registered_model("parcels").aliases
    return {
        "live": rows(file, "select generation, model_version, count(*) from parcels group by 1, 2"),
        "releases": rows(file, "select as_of, model_version from automl_release order by id"),
        "ledger": rows(file, "select kind, from_version, to_version from automl_ledger order by id"),
        "waiting": rows(file, "select blend_id from automl_waiting"),
        "champion": int(aliases["champion"]),
        "running": len(client.search_runs(["1"], "attributes.status = 'RUNNING'")),
    }  # fmt: skip


def type_command(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command on the problem file, in a process of its own, asked for JSON."""
    return subprocess.run(
        [sys.executable, "-m", "automl.cli", arguments[0], str(file), *arguments[1:], "--json"],
        capture_output=True,
        text=True,
        check=False,
    )


def opened(file: Path) -> tuple[Any, Any, Store]:
    """Its problem, workspace and store."""
    workspace = open_workspace(file)
    return load_problem(file), workspace, Store(workspace)


def let_wait(file: Path, *, days: int = 14) -> Blend:
    """A challenger waits, as a cycle in review mode leaves it: version 1, under another blend."""
    _, _, store = opened(file)
    blend = Blend.single(Recipe("linear", {"C": 0.5}))
    champion = store.champion("parcels")
    version = next(r for r in store.releases("parcels") if r.model_version == 1)
    assert champion is not None
    moment = now()
    one = Waiting(
        champion.as_of, blend, champion.labels_until, "it gains", {"model": 0.2, "baseline": 0.5},
        moment, moment + timedelta(days=days), champion.decision_id,
        version.model_version, version.run_id, version.digests, version.fingerprint,
    )  # fmt: skip
    told = Entry(moment, one.as_of, "wait", "schedule", "it gains", blend_id=blend.id)
    with store.writer.begin() as connection:
        ledger.write_waiting(connection, "parcels", one)
        ledger.write(connection, "parcels", told)
    return blend


def without_standby(file: Path) -> None:
    """Throw away the generation of version 1 that waits beside the published one."""
    problem, _, store = opened(file)
    live = store.live(problem.table)
    assert live is not None
    standby = store.staged("parcels", live, 1)
    assert standby is not None
    with store.hold("parcels") as hold:
        publish.discard(store, hold, problem, standby)
