"""Errors of the disk under the workspace, recognised in whatever a library raised: full, not writable, broken.

A library reports them in its own way: with an `errno`, with SQLite's error code, or in its text alone.
Sources report what they could not read themselves; this is about what a command writes.
"""

from __future__ import annotations

import errno
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from automl.errors import AutomlError, DiskError

__all__ = ["disk_error", "full_disk", "naming_disk_errors"]

LEAST_FREE = 200_000  # bytes; SQLite needs less to open a database and to commit one row

# code of the error -> (errno, primary result codes of SQLite, what to do)
_FULL = "disk_full"
_KINDS = {
    _FULL: (
        (errno.ENOSPC, errno.EDQUOT),
        (sqlite3.SQLITE_FULL,),
        "Free space there, then run the same command again.",
    ),
    "no_right": (
        (errno.EACCES, errno.EPERM, errno.EROFS),
        (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM),
        "Give this user the right to write there, then run the same command again.",
    ),
    "disk": (
        (errno.EIO, errno.EMFILE, errno.ENFILE, errno.EFBIG, errno.ESTALE, errno.ENODEV),
        (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN),
        "Fix the disk, or raise the limits of this user; then run the same command again.",
    ),
}
_PART_WRITTEN = r"\d+ requested and \d+ written"  # how numpy says it
# Where a library keeps only the text
_TEXTS = (
    (r"database or disk is full|no space left on device|disk quota exceeded", _FULL),
    (_PART_WRITTEN, _FULL),
    (r"no usable temporary directory", _FULL),
    (r"attempt to write a readonly database|read-only file system", "no_right"),
    (r"disk I/O error|unable to open database file|too many open files", "disk"),
)
_REMOTE = "RestException"  # of a server, whose disk is not ours


def disk_error(error: BaseException, folder: Path | None = None) -> DiskError | None:
    """What a disk did, as an error of ours; None if the error has another cause.

    Parameters
    ----------
    folder
        Named in the message where the error names no file.
    """
    for cause in _causes(error):
        if isinstance(cause, DiskError):
            return cause
        code = _code_of(cause)
        if code == "disk" and folder is not None and _is_full(folder):
            code = _FULL  # SQLite reports a log that cannot grow as an I/O error
        if code:
            where = getattr(cause, "filename", None) or folder or "the workspace"
            verb = " cannot be written" if code == _FULL else ""
            message = f"{where}{verb}: {_cause_in_words(cause)}"
            return DiskError(message, code=code, next_step=_KINDS[code][2])
    return None


def full_disk(text: str) -> DiskError | None:
    """As `disk_error`, of an error that reached this process as text; a full disk alone."""
    if not re.search(
        "|".join(pattern for pattern, code in _TEXTS if code == _FULL), text, re.IGNORECASE
    ):
        return None
    return DiskError(
        f"the workspace cannot be written: {text}", code=_FULL, next_step=_KINDS[_FULL][2]
    )


@contextmanager
def naming_disk_errors(folder: Path) -> Iterator[None]:
    """Raise what a disk did in the block as an error of ours; other exceptions pass.

    Raises
    ------
    DiskError
        The disk is full (`disk_full`), this user may not write (`no_right`), or it failed in another
        way (`disk`).
    """
    try:
        yield
    except AutomlError:
        raise
    except Exception as error:
        found = disk_error(error, folder)
        if found is None:
            raise
        raise found from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from; the driver's error inside one of SQLAlchemy."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        context = None if cause.__suppress_context__ else cause.__context__
        waiting += [getattr(cause, "orig", None), cause.__cause__, context]


def _code_of(error: BaseException) -> str:
    if isinstance(error, AutomlError) or type(error).__name__ == _REMOTE:
        return ""
    number = error.errno if isinstance(error, OSError) else None
    result = getattr(error, "sqlite_errorcode", None)
    for code, (numbers, results, _) in _KINDS.items():
        if number in numbers or (result is not None and result & 0xFF in results):
            return code
    if number is not None:
        return ""
    text = str(error)
    return next((code for pattern, code in _TEXTS if re.search(pattern, text, re.IGNORECASE)), "")


def _is_full(folder: Path) -> bool:
    with suppress(OSError):
        return shutil.disk_usage(folder).free < LEAST_FREE
    return False


def _cause_in_words(error: BaseException) -> str:
    words = getattr(error, "strerror", None) or str(error)
    if re.search(_PART_WRITTEN, words):
        return "no space left on device"
    known = re.search("|".join(pattern for pattern, _ in _TEXTS), words, re.IGNORECASE)
    return known[0] if known else next(iter(words.splitlines()), type(error).__name__)
