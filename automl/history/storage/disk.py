"""Errors of the workspace's disk: the pull is refused, and nothing half-written stays.

Sources report what they could not read; this is about our own folder alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from automl.disk import disk_error
from automl.errors import HistoryError

__all__ = ["writing"]

OTHER = "Fix the disk, or raise the limits of this user; then run the same command again."


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Report errors of a block that writes below `folder`.

    Raises
    ------
    HistoryError
        The disk is full (`disk_full`), this user may not write (`no_right`), or writing failed in
        another way (`disk`).
    """
    try:
        yield
    except OSError as error:
        found = disk_error(error, folder)
        code, step = (found.code, found.next_step) if found else ("disk", OTHER)
        cause = error.strerror or str(error).splitlines()[0]
        raise HistoryError(
            f"{error.filename or folder}: cannot be written: {cause}; the workspace is unchanged",
            code=code,
            next_step=step,
        ) from error
