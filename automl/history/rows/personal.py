"""Keep personal cells private: hash personal keys, and hide the text of errors that may quote a cell.

Which columns are read is decided by `roles.unread`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from automl.errors import AutomlError, ProblemError
from automl.problem import Problem

__all__ = [
    "KEY_SECRET",
    "error_text",
    "hashed",
    "hide_error_text",
    "personal_keys",
    "require_secret",
]

KEY_SECRET = "AUTOML_KEY_SECRET"  # noqa: S105  the name of a variable, not its value
SHORTEST = 16  # characters; a shorter secret can be guessed by trying, given one hash


def personal_keys(problem: Problem) -> list[str]:
    """Key columns that are stored as a hash everywhere except in the publish target."""
    h = problem.history
    return [name for name in h.key if name in h.personal]


def require_secret(problem: Problem) -> None:
    """Raise ProblemError if keys must be hashed and AUTOML_KEY_SECRET is not set."""
    if personal_keys(problem):
        _secret()


def hashed(cells: pa.Array) -> pa.Array:
    """HMAC-SHA256 of each cell, first 128 bits in hex, keyed with AUTOML_KEY_SECRET.

    Raises
    ------
    ProblemError
        AUTOML_KEY_SECRET is not set or too short.
    """
    key = _secret()
    plain = cells.cast(pa.string()).to_pylist()
    return pa.array(
        [
            None if v is None else hmac.new(key, v.encode(), hashlib.sha256).hexdigest()[:32]
            for v in plain
        ],
        pa.string(),
    )


def error_text(error: BaseException, problem: Problem) -> str:
    """The text of an error; with personal columns only its type and place, because the text may quote a cell."""
    if not problem.history.personal:
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place} (its text may quote a personal cell and is not shown)"


@contextmanager
def hide_error_text(problem: Problem) -> Iterator[None]:
    """Replace the text of unexpected errors in the block if the problem has personal columns.

    Raises
    ------
    AutomlError
        Instead of an error that is no AutomlError.
    """
    try:
        yield
    except AutomlError:
        raise
    except Exception as error:
        if not problem.history.personal:
            raise
        raise AutomlError(
            error_text(error, problem),
            code="unexpected",
            next_step="Look at the named line. The rows themselves were not written anywhere.",
        ) from None


def _secret() -> bytes:
    secret = os.environ.get(KEY_SECRET, "")
    if len(secret) < SHORTEST:
        raise ProblemError(
            f"history.personal: {KEY_SECRET} is {'not set' if not secret else 'too short'}; wanted a "
            f"secret of at least {SHORTEST} characters in the environment, so that keys can be hashed",
            code="no_key_secret",
            next_step=f"export {KEY_SECRET}=..., the same on every machine, and keep it: after a change "
            "every history is pulled again from the beginning.",
        )
    return secret.encode()
