"""What a full or closed disk means: the pull is refused, and nothing half-written stays.

Sources say themselves what they could not read; what is told here is about our own folder.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from automl.errors import HistoryError

__all__ = ["writing"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A block that writes below `folder`.

    Raises
    ------
    HistoryError
        The disk is full (`disk_full`), the folder is closed to this user (`no_right`), or writing
        failed in another way (`disk`).
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            code, todo = "disk_full", "Free space there, then run the same command again."
        elif error.errno in _CLOSED:
            code, todo = "no_right", "Give this user the right to write there."
        else:
            code, todo = "disk", "Mend the disk, or raise the limits of this user."
        said = error.strerror or str(error).splitlines()[0]
        raise HistoryError(
            f"{error.filename or folder}: cannot be written: {said}; what was there before is unchanged",
            code=code,
            next_step=todo,
        ) from error
