"""A disk that fills up at any step: its own exit code, one document, and a last line that is true."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Done
from tests.support.observer import World, violations
from tests.support.parcels import make_world, write_problem
from tests.support.workspaces import BEFORE, NOW, ROWS, SMALL, Worlds, drop_standbys

pytestmark = pytest.mark.slow
FIRST = "a first cycle"  # in a folder without a workspace
COMMANDS = {  # name -> what is typed, and what was done before
    "first": (("cycle", "--as-of", BEFORE), FIRST),
    "cycle": (("cycle", "--as-of", NOW), "cycle"),
    "retrain": (("retrain", "--as-of", NOW), "cycle"),
    "score": (("score", "--as-of", NOW), "cycle, retrain"),
    "rollback": (("rollback", "--reason", "why"), "cycle, cycle"),
}
_TRAINING = [
    *(
        "retrain.opened",
        "retrain.pulled",
        "retrain.run_opened",
        "retrain.swept",
        "retrain.refitted",
    ),
    *("retrain.registered", "retrain.guarded"),
]
_SCORING = ["score.loaded", "stage.piece", "score.staged", "score.audited"]
_RELEASE = ["release.in_commit", "release.committed", "reconcile.aliased", "retrain.mlflow_updated"]
_COPY = ["export.copied", "export.committed"]
_CLEAN = ["clean.in_commit", "clean.committed"]
POINTS = {
    "first": [*_TRAINING, *_SCORING, *_RELEASE, *_CLEAN, *_COPY],
    "cycle": [*_TRAINING, *_SCORING, *_RELEASE, *_CLEAN, *_COPY],
    "retrain": [*_TRAINING, *_RELEASE, *_CLEAN],
    "score": ["score.opened", *_SCORING, "publish.in_commit", "publish.committed", *_COPY, *_CLEAN],
    "rollback": ["rollback.opened", *_SCORING, "rollback.staged", "rollback.in_commit", "rollback.committed", *_COPY],
}  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 60 MB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(mounted)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("this user may not mount a disk")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


def world_on(disk: Path, worlds: Worlds, done: str) -> World:
    """A world on the disk."""
    folder = disk / "world"
    if done == FIRST:
        folder.mkdir()
        return World(write_problem(folder, replace=SMALL, frame=make_world(ROWS, step="160min")))
    made = worlds.of("sqlite", done).copy(folder)
    if done == "cycle, cycle":
        drop_standbys(made)
    return made


def fill(disk: Path, leave: int = 0) -> None:
    """Leave so many bytes on the disk."""
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 65536)
    with (disk / "filler").open("r+b") as file:
        file.truncate(max(0, (disk / "filler").stat().st_size - leave))


def seen_by_readers(world: World) -> tuple[Any, Any]:
    """The champion's version, and the published generation with its rows."""
    store = world.file.parent / ".automl" / "automl.db"
    if not store.exists():
        return None, None
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:

        def first(query: str) -> Any:
            try:
                return database.execute(query).fetchone()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return None
                raise

        champion = first("select model_version from automl_release order by id desc")
        shown = first("select generation, count(*) from parcels group by 1")
    return champion and champion[0], shown


def words_of(before: tuple[Any, Any], after: tuple[Any, Any]) -> tuple[str, str]:
    """What the last line has to say about champion and table."""
    model, table = ("still" if b == a else "now" for b, a in zip(before, after, strict=True))
    (champion, shown) = after
    return (
        f"champion is {model} version {champion};" if champion else "there is still no champion",
        f"table parcels {table} shows generation {shown[0]}, {shown[1]} rows"
        if shown
        else "no published table|is still unpublished",
    )


def is_true(text: str, before: tuple[Any, Any], after: tuple[Any, Any]) -> bool:
    """Whether a sentence says what readers see."""
    return all(
        any(option in text for option in words.split("|")) for words in words_of(before, after)
    )


CASES = [(name, point, 0) for name, points in POINTS.items() for point in points] + [
    (name, points[0], leave) for name, points in POINTS.items() for leave in (100_000, 1_000_000)
]


@pytest.mark.parametrize(("name", "point", "leave"), CASES)
def test_a_disk_that_fills_up_ends_a_command_with_the_truth(
    worlds: Worlds, disk: Path, name: str, point: str, leave: int
) -> None:
    typed, done = COMMANDS[name]
    world = world_on(disk, worlds, done)
    before = seen_by_readers(world)

    command = worlds.start(world, *typed, AUTOML_FAULT=f"{point}:stop")
    command.stopped()
    fill(disk, leave)
    command.resume()
    ended = command.wait()

    after = seen_by_readers(world)
    (disk / "filler").unlink()
    assert_true_result(ended, before, after)
    again = worlds.run(world, *typed)
    assert again.code == 0, again.err
    assert violations(world, settled=True, scored=name != "retrain") == []


def assert_true_result(ended: Done, before: tuple[Any, Any], after: tuple[Any, Any]) -> None:
    """The exit code of a disk, no traceback, one document, and what it says is so."""
    assert "Traceback" not in ended.err
    document = json.loads(ended.out)
    if ended.code == 0:
        generation = after[1] and after[1][0]
        assert document["generation"] in (None, generation)
        return
    error = document["error"]
    assert ended.code == error["exit_code"]
    assert ended.code in (3, 6), ended.err
    assert error["code"] in ("disk_full", "parquet"), ended.err
    assert is_true(error["in_effect"], before, after), (error["in_effect"], before, after)
    assert bool(error["unchanged"]) == (before == after)
    last = "unchanged: " if before == after else "in effect: "
    assert last + error["in_effect"] in ended.err
