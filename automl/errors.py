"""All errors, as one tree; nothing here prints or exits. No message holds a secret.

    AutomlError                 1  the command failed
    ├── ProblemError            2  wrong usage or problem file
    │   └── SpaceError          2  a family file that cannot be used
    ├── HistoryError            3  the data were refused
    │   └── ContractError       3  ... because they break the contract
    ├── NoModelError            4  no model to use: no champion, and no trial succeeded
    ├── UnreachableError        5  MLflow, a source or a database does not respond
    ├── DiskError               6  the disk is full, or cannot be written
    ├── PredictError            6  scoring or publishing failed
    │   └── DigestError         6  ... because the model's files are not the ones that were decided
    └── BusyError               7  another run holds the cycle

The number is the exit code of the command line. A message says where, what was found, and what was wanted;
`next_step` says what to type or change. The command line adds what stayed unchanged.
"""

from __future__ import annotations

from automl.redaction import redact

__all__ = [
    "AutomlError",
    "BusyError",
    "ContractError",
    "DigestError",
    "DiskError",
    "HistoryError",
    "NoModelError",
    "PredictError",
    "ProblemError",
    "SpaceError",
    "UnreachableError",
]


class AutomlError(Exception):
    """Base of all errors that a user may see.

    `code` is a stable short name (`single_class`, `missing_column`) that scripts and tests rely on.
    """

    exit_code = 1

    def __init__(self, message: str, *, code: str = "", next_step: str = "") -> None:
        super().__init__(redact(message))
        self.code = code or "failed"
        self.next_step = redact(next_step)

    def __reduce__(self) -> tuple[object, ...]:
        # keyword-only arguments would be lost when an error is pickled for another process
        return (_rebuild, (type(self), str(self), self.code, self.next_step))


def _rebuild(kind: type[AutomlError], message: str, code: str, next_step: str) -> AutomlError:
    return kind(message, code=code, next_step=next_step)


class ProblemError(AutomlError):
    """The problem file, or the way a command was used, is wrong."""

    exit_code = 2


class SpaceError(ProblemError):
    """A family file cannot be loaded, or breaks a rule of search spaces."""


class HistoryError(AutomlError):
    """The data were refused before any model was touched."""

    exit_code = 3


class ContractError(HistoryError):
    """The data break the contract of the problem."""


class NoModelError(AutomlError):
    """No trial succeeded, and there is no champion to refit."""

    exit_code = 4


class UnreachableError(AutomlError):
    """A server or database did not respond in time."""

    exit_code = 5


class DiskError(AutomlError):
    """A disk that a command writes to is full, not writable, or broken.

    The error does not say what is in effect: it may come before a commit or after it.
    """

    exit_code = 6


class PredictError(AutomlError):
    """Scoring or publishing failed; what was published before is still published."""

    exit_code = 6


class DigestError(PredictError):
    """The champion's files are not the files that were decided."""


class BusyError(AutomlError):
    """Another run holds this problem's cycle."""

    exit_code = 7
