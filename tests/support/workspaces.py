"""Workspaces with cycles in them: run in this process, released twice, or made by commands and copied for every test."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest

from automl import predictions
from automl.cycles.options import RunOptions
from automl.cycles.result import CycleResult
from automl.modeling.recipes import Blend, Recipe
from automl.problem import load_problem
from automl.promotion.decide import Decision, decide
from automl.promotion.evidence import Duel
from automl.retrain import choose
from automl.score import cycle
from automl.store import Entry, Store, Waiting, ledger
from automl.workspace import now, open_workspace
from tests.support.commands import Command, Done, Launcher
from tests.support.observer import World
from tests.support.parcels import AS_OF, make_world, write_problem
from tests.support.postgres import PostgresServer


def run_cycle(file: Path, as_of: datetime, **options: Any) -> CycleResult:
    """`automl cycle`, as asked."""
    return cycle(load_problem(file), open_workspace(file), RunOptions(as_of=as_of, **options))


def rows(file: Path, query: str) -> list[Any]:
    """Rows of the store of a problem file's workspace."""
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        return database.execute(query).fetchall()


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
    waiting = Waiting(
        as_of=champion.as_of, blend=blend, labels_until=champion.labels_until, reason="it gains", losses={"model": 0.2, "baseline": 0.5},
        waits_since=moment, expires_at=moment + timedelta(days=days), decision_id=champion.decision_id,
        model_version=version.model_version, run_id=version.run_id, digests=version.digests, fingerprint=version.fingerprint,
    )  # fmt: skip
    entry = Entry(
        at=moment,
        as_of=waiting.as_of,
        kind="wait",
        actor="schedule",
        reason="it gains",
        blend_id=blend.id,
    )
    with store.writer.begin() as connection:
        ledger.write_waiting(connection, "parcels", waiting)
        ledger.write(connection, "parcels", entry)
    return blend


def without_standby(file: Path) -> None:
    """Throw away the generation of version 1 that waits next to the published one."""
    problem, _, store = opened(file)
    live = store.live(problem.table)
    assert live is not None
    standby = store.staged("parcels", live, 1)
    assert standby is not None
    with store.hold("parcels") as hold:
        predictions.discard(store, hold, problem, standby)


BEFORE, NOW = f"{AS_OF - timedelta(days=7):%Y-%m-%d}", f"{AS_OF:%Y-%m-%d}"
FEW, MORE = "trials   = 2", "trials   = 5"  # one recipe becomes champion, others may challenge it
SMALL = {
    "trials   = 4": FEW,
    "[validation]": '[publish]\nparquet = "out"\n\n[validation]',
}
REVIEW = '\n[promotion]\nmode = "review"\n'
ROWS = 1200  # nine a day, until the middle of May
DATABASES = ("sqlite", "postgres")


class Worlds:
    """Worlds by what was done in them, each made when it is first wanted."""

    def __init__(self, launcher: Launcher, server: PostgresServer, folder: Path) -> None:
        self.launcher, self.server, self.folder = launcher, server, folder
        self._made: dict[tuple[str, str], World] = {}
        self._count = 0

    def of(self, database: str, done: str) -> World:
        """A world of its own in which that was done: see `_make`."""
        if (database, done) not in self._made:
            self._made[database, done] = self._make(database, done)
        return self._copy(self._made[database, done])

    def start(self, world: World, *arguments: str, **more: str) -> Command:
        """Start a command in a world."""
        verb, *options = arguments
        return self.launcher.start(
            verb, str(world.file), *options, "--json", **{**world.environment, **more}
        )

    def run(self, world: World, *arguments: str, **more: str) -> Done:
        """Run a command in a world to its end."""
        return self.start(world, *arguments, **more).wait()

    def _make(self, database: str, done: str) -> World:
        if done == "cycle":
            folder = self._folder()
            folder.mkdir()
            file = write_problem(folder, replace=SMALL, frame=make_world(ROWS, step="160min"))
            world = World(file, self.server.new_database() if database == "postgres" else "")
            self._do(world, "cycle", "--as-of", BEFORE)
            text = world.file.read_text(encoding="utf-8")
            world.file.write_text(text.replace(FEW, MORE), encoding="utf-8")
            return world
        world = self.of(database, "cycle")
        if done == "cycle, retrain":
            self._do(world, "retrain", "--as-of", NOW)
        elif done == "cycle, retrain that MLflow missed":
            killed = self.run(world, "retrain", "--as-of", NOW, AUTOML_FAULT="release.committed")
            assert killed.code == -9, killed.err
        elif done == "cycle, cycle":
            self._do(world, "cycle", "--as-of", NOW)
        elif done == "cycle, then review":
            in_review(world)
        elif done == "cycle in review":
            in_review(world)
            self._do(world, "cycle", "--as-of", NOW, "--plan", "full", before=PROMOTING)
            assert world.query("select blend_id from automl_waiting"), (
                "no challenger waits for review"
            )
        else:
            raise ValueError(done)
        return world

    def _do(self, world: World, *arguments: str, **more: str) -> None:
        done = self.run(world, *arguments, **more)
        assert done.code == 0, done.err

    def _copy(self, world: World) -> World:
        url = self.server.new_database(world.url) if world.url else ""
        return world.copy(self._folder(), url)

    def _folder(self) -> Path:
        self._count += 1
        return self.folder / f"world{self._count}"


def in_review(world: World) -> None:
    """From now on a challenger waits for a person, and a shadow is there to become one."""
    text = world.file.read_text(encoding="utf-8")
    world.file.write_text(text + REVIEW, encoding="utf-8")
    shadow = Blend.single(Recipe("linear", {"C": 0.5, "alpha": 1.0}, 3))
    world.change(
        "insert into automl_shadow (problem, blend_id, blend, labels_until) values "
        f"('parcels', '{shadow.id}', '{json.dumps(shadow.to_json())}', '2026-02-01 00:00:00')"
    )


def drop_standbys(world: World) -> None:
    """No generation is ready for a rollback."""
    world.change("update automl_generation set state = 'removed' where state = 'staged'")


PROMOTING = "tests.support.workspaces:find_any_challenger_better"


def find_any_challenger_better() -> None:
    """In this process, every challenger wins."""
    choose.decide = _promoting


def _promoting(rivals: Sequence[Duel], holder: str, *_: Any, **__: Any) -> Decision:
    verdicts = decide([d for d in rivals if d.challenger != holder], holder, 0.8, {}).verdicts
    best = replace(verdicts[0], passed=True, reason="")
    return Decision("promote", best.challenger, "promoted: it gains", (best, *verdicts[1:]))
