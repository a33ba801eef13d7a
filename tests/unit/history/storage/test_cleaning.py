"""Cleaning reads each manifest once, and is right whatever its notes say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from automl.history.storage import cleaning
from automl.history.storage.cleaning import clean
from automl.history.storage.snapshots import Folders


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path)
    for folder in (made.snapshots, made.batches, made.pulls, made.parts, made.quarantine):
        folder.mkdir()
    return made


def freeze(folders: Folders, number: int, *parts: str) -> None:
    """A snapshot of these parts, and the pull that made it."""
    for part in parts:
        (folders.parts / f"{part}.parquet").touch()
    manifest = {"digest": f"d{number}", "parts": [{"name": part} for part in parts]}
    (folders.snapshots / f"d{number}.json").write_text(json.dumps(manifest))
    pull = {"snapshot": f"d{number}", "quarantine": ""}
    (folders.pulls / f"2026010{number}.json").write_text(json.dumps(pull))


def left(folders: Folders) -> tuple[set[str], set[str]]:
    return (
        {f.stem for f in folders.snapshots.iterdir()},
        {f.stem for f in folders.parts.iterdir()},
    )


@pytest.mark.parametrize("notes", ["none", "right", "broken", "of other files"])
def test_what_stays_does_not_depend_on_the_notes(
    folders: Folders, notes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "WORTH", 1 if notes != "none" else 10_000)
    freeze(folders, 1, "a")
    freeze(folders, 2, "a", "b")
    if notes == "right":
        clean(folders, {"d1", "d2"})
    if notes == "broken":
        (folders.root / cleaning.NOTES).write_text("[1")
    if notes == "of other files":
        clean(folders, {"d1", "d2"})
        freeze(folders, 2, "a", "b", "c")  # the same rows in other parts
    freeze(folders, 3, "d")
    clean(folders, {"d2"}, keep=1)
    parts = {"a", "b", "d"} | ({"c"} if notes == "of other files" else set())
    assert left(folders) == ({"d2", "d3"}, parts)


def test_a_manifest_is_read_once(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "WORTH", 1)
    freeze(folders, 1, "a")
    clean(folders, {"d1"})
    opened: list[Path] = []
    read = Path.read_text

    def counting(path: Path, *arguments: Any, **options: Any) -> str:
        opened.append(path)
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", counting)
    clean(folders, {"d1"})
    assert opened == [folders.root / cleaning.NOTES]
