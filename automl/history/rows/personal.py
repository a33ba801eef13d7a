"""What may be said of personal columns: of keys a keyed hash, of errors their kind and place.

Nothing here decides which columns are read; `columns.unread` does.
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

__all__ = ["KEY_SECRET", "discreet", "hashed", "personal_keys", "require_secret", "words"]

KEY_SECRET = "AUTOML_KEY_SECRET"  # noqa: S105  the name of a variable, not its value
SHORTEST = 16  # characters; fewer can be tried out by whoever holds one hash


def personal_keys(problem: Problem) -> list[str]:
    """Key columns that stand as a hash everywhere but in the publish target."""
    h = problem.history
    return [name for name in h.key if name in h.personal]


def require_secret(problem: Problem) -> None:
    """Raise ProblemError if keys must be hashed and the environment holds no secret."""
    if personal_keys(problem):
        _secret()


def hashed(cells: pa.Array) -> pa.Array:
    """HMAC-SHA256 of each cell, first 128 bits in hex, under the secret of the environment.

    Raises
    ------
    ProblemError
        The environment holds no secret.
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


def words(error: BaseException, problem: Problem) -> str:
    """What an error says; with personal columns only its kind and place, for it may quote a cell."""
    if not problem.history.personal:
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place} (its words may quote a personal cell and are not shown)"


@contextmanager
def discreet(problem: Problem) -> Iterator[None]:
    """Where personal cells are at hand, an unforeseen error leaves without its words.

    Raises
    ------
    AutomlError
        Instead of an error that is not ours, if the problem has personal columns.
    """
    try:
        yield
    except AutomlError:
        raise
    except Exception as error:
        if not problem.history.personal:
            raise
        raise AutomlError(
            words(error, problem),
            code="unexpected",
            next_step="Look at the named line; the rows themselves were not written anywhere.",
        ) from None


def _secret() -> bytes:
    secret = os.environ.get(KEY_SECRET, "")
    if len(secret) < SHORTEST:
        raise ProblemError(
            f"history.personal: {KEY_SECRET} is {'not set' if not secret else 'too short'}; wanted a "
            f"secret of at least {SHORTEST} characters in the environment, so that keys can be hashed",
            code="no_key_secret",
            next_step=f"export {KEY_SECRET}=..., the same on every machine, and keep it: with another "
            "one every history is pulled anew.",
        )
    return secret.encode()
