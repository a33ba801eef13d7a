"""Removal of snapshots, pulls and parts that nothing refers to.

Every cycle looks through all manifests and records that are kept. They never change, so what they name is noted
in one file, and each is read once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl.files import is_abandoned, write_json
from automl.history.storage.snapshots import Folders

__all__ = ["clean"]

NOTES = "named.json"  # in the root of a history
WORTH = 60  # files; fewer are read in no time


def clean(folders: Folders, referred: Iterable[str], keep: int = 12) -> int:
    """Remove snapshots, pulls and parts that nothing refers to; returns the bytes that were freed.

    What stays: the `keep` newest pulls, every snapshot or batch whose digest is in `referred`, and
    their parts. Half-written files of a killed pull are removed when its process is dead, or after an
    hour.
    """
    named, wanted = _Named(folders.root), set(referred)
    records = sorted(folders.pulls.glob("*.json"))  # their names begin with as_of, then wall clock
    facts = {f: named.of(f) for f in records}
    newest = set(records[-keep:])
    wanted |= {facts[f]["snapshot"] for f in newest}
    manifests = [*folders.snapshots.glob("*.json"), *folders.batches.glob("*.json")]
    batches = [f for f in manifests if f.parent == folders.batches]
    fresh = set(sorted(batches, key=lambda f: f.stat().st_mtime)[-keep:])
    gone = [f for f in manifests if named.of(f)["digest"] not in wanted and f not in fresh]
    used = {name for f in manifests if f not in set(gone) for name in named.of(f)["parts"]}
    kept = [f for f in records if f in newest or facts[f]["snapshot"] in wanted]
    gone += [f for f in records if f not in set(kept)]
    files = {facts[f]["quarantine"] for f in kept}
    gone += [f for f in folders.quarantine.glob("*.parquet") if f.name not in files]
    gone += [f for f in folders.parts.glob("*.parquet") if f.stem not in used]
    gone += [f for f in folders.root.glob("*/*.tmp") if is_abandoned(f)]
    named.write(without=gone)
    return _remove(gone)


def _remove(gone: Sequence[Path]) -> int:
    freed = 0
    for path in gone:
        freed += path.stat().st_size
        path.unlink(missing_ok=True)
    return freed


@dataclass(frozen=True, slots=True)
class _Entry:
    stamp: tuple[int, int]  # when it was written, and its size
    facts: Mapping[str, Any]


class _Named:
    """What manifests and records name; read from the files themselves where no note is right."""

    def __init__(self, root: Path) -> None:
        self.file = root / NOTES
        self._entries: dict[str, _Entry] = {}
        self._changed = False
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            self._entries = {k: _Entry(tuple(v[0]), v[1]) for k, v in content.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._changed = True

    def of(self, path: Path) -> Mapping[str, Any]:
        """The names in a manifest or record."""
        name, stat = f"{path.parent.name}/{path.name}", path.stat()
        stamp = stat.st_mtime_ns, stat.st_size
        entry = self._entries.get(name)
        if entry is None or entry.stamp != stamp:
            content = json.loads(path.read_text(encoding="utf-8"))
            entry = self._entries[name] = _Entry(stamp, _facts(content))
            self._changed = True
        return entry.facts

    def write(self, *, without: Iterable[Path]) -> None:
        """Write the notes, without those of files that are about to go."""
        for path in without:
            self._changed |= self._entries.pop(f"{path.parent.name}/{path.name}", None) is not None
        if self._changed and len(self._entries) >= WORTH:
            write_json(self.file, {k: [e.stamp, e.facts] for k, e in self._entries.items()})


def _facts(content: Mapping[str, Any]) -> dict[str, Any]:
    if "parts" in content:
        return {"digest": content["digest"], "parts": [p["name"] for p in content["parts"]]}
    return {"snapshot": content["snapshot"], "quarantine": content.get("quarantine", "")}
