"""Files written aside and moved into place, so that no reader sees half a file; rights of new files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["USERS_UMASK", "is_abandoned", "replacing", "umask", "write_json"]

ABANDONED_SECONDS = 3600  # longer than any file takes to write
USERS_UMASK = os.umask(0o077)  # it can only be read by setting it
os.umask(USERS_UMASK)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Create files with this umask in the block.

    Without rights for others in the workspace; with `USERS_UMASK` what is meant for others to read.
    """
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path to write; at the end of the block the file there replaces `path`.

    If the block raises, `path` is unchanged and nothing stays of what was written.
    """
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON document in place of `path`."""
    with replacing(path) as aside:
        aside.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def is_abandoned(aside: Path) -> bool:
    """Whether `NAME.PID.tmp` will never be finished: its process is dead, or it is an hour old."""
    try:
        if time.time() - aside.stat().st_mtime > ABANDONED_SECONDS:
            return True
        os.kill(int(aside.name.split(".")[-2]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, IndexError):  # gone by itself, another account's, or no number
        return False
    return False
