"""Workspaces to kill commands in: made once per module by commands, copied for every test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from automl.modeling.families import Blend, Recipe
from automl.promotion.decide import Decision, decide
from automl.promotion.evidence import Duel
from automl.retrain import choose as pending
from tests.conftest import AS_OF, make_world, write_problem
from tests.support.commands import Command, Done, Launcher
from tests.support.observer import World
from tests.support.postgres import PostgresServer

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
            assert killed.code == -9, killed.said
        elif done == "cycle, cycle":
            self._do(world, "cycle", "--as-of", NOW)
        elif done == "cycle, then review":
            in_review(world)
        elif done == "cycle in review":
            in_review(world)
            self._do(world, "cycle", "--as-of", NOW, "--plan", "full", before=PROMOTING)
            assert world.ask("select blend_id from automl_waiting"), "nobody waits"
        else:
            raise ValueError(done)
        return world

    def _do(self, world: World, *arguments: str, **more: str) -> None:
        done = self.run(world, *arguments, **more)
        assert done.code == 0, done.said

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


PROMOTING = "tests.worlds:find_any_challenger_better"


def find_any_challenger_better() -> None:
    """In this process, every challenger wins."""
    pending.decide = _promoting


def _promoting(rivals: Sequence[Duel], holder: str, *_: Any, **__: Any) -> Decision:
    told = decide([d for d in rivals if d.challenger != holder], holder, 0.8, {}).verdicts
    best = replace(told[0], passed=True, reason="")
    return Decision("promote", best.challenger, "promoted: it gains", (best, *told[1:]))
