"""Files that have arrived since the last look, for schedules that retrain when one does.

A file counts once it is complete: two looks in a row find it with the same size and time. What was seen is kept in
the workspace, so a restart neither forgets a file nor reports one twice.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from automl.files import umask, write_json
from automl.problem import Problem
from automl.workspace import Workspace

__all__ = ["arrived", "watched"]

HIDDEN = ("_", ".")  # beginnings of names that are not data, as `history.files` reads them
MOST = 10_000  # files that are looked at

Listing = dict[str, list[int]]


def watched(problem: Problem) -> str:
    """The pattern of the files whose arrival counts: `schedule.arrives`, or the files of the history; empty: none."""
    return problem.schedule.arrives or problem.history.files


def arrived(problem: Problem, workspace: Workspace) -> list[str]:
    """Names of the complete files that are new or have changed since they were last reported.

    The first look reports nothing. A file that is deleted is forgotten.
    """
    pattern = watched(problem)
    if not pattern:
        return []
    place = workspace.home / "arrivals" / f"{problem.name}.json"
    listing, before = _listing(pattern, workspace.root), _read(place)
    if before.get("pattern") != pattern:
        before = {"pattern": pattern, "known": listing, "last": listing}
    known, last = before["known"], before["last"]
    complete = [
        name
        for name, stamp in listing.items()
        if known.get(name) != stamp and last.get(name) == stamp
    ]
    kept = {name: stamp for name, stamp in known.items() if name in listing}
    content = {
        "pattern": pattern,
        "known": kept | {name: listing[name] for name in complete},
        "last": listing,
    }
    if content != _read(place):
        workspace.create()
        with umask(workspace.umask):
            place.parent.mkdir(exist_ok=True)
            write_json(place, content)
    return sorted(complete)


def _read(place: Path) -> Mapping[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads(place.read_text(encoding="utf-8"))
        if isinstance(content, dict) and {"known", "last"} <= content.keys():
            return content
    return {}


def _listing(pattern: str, root: Path) -> Listing:
    """Size and time of the files that a pattern matches, and of those in folders that it matches."""
    found: Listing = {}
    for path in _files(root / pattern):
        if len(found) >= MOST:
            break
        with suppress(OSError):  # it has just been moved away
            status = path.stat()
            found[os.path.relpath(path, root)] = [status.st_size, status.st_mtime_ns]
    return found


def _files(pattern: Path) -> Iterator[Path]:
    for match in sorted(glob.glob(str(pattern), recursive=True)):  # noqa: PTH207  an absolute pattern
        path = Path(match)
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (p for p in inside if p.is_file() and not p.name.startswith(HIDDEN))
