"""Errors of the workspace's disk: the pull is refused, and nothing half-written stays.

Sources report what they could not read; this is about our own folder alone.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from automl.errors import HistoryError

__all__ = ["writing"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


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
        if error.errno in _FULL:
            code, step = "disk_full", "Free space there, then run the same command again."
        elif error.errno in _DENIED:
            code, step = "no_right", "Give this user the right to write there."
        else:
            code, step = "disk", "Fix the disk, or raise the limits of this user."
        cause = error.strerror or str(error).splitlines()[0]
        raise HistoryError(
            f"{error.filename or folder}: cannot be written: {cause}; the workspace is unchanged",
            code=code,
            next_step=step,
        ) from error
