"""What follows a commit: readers have the new champion or predictions already, so a failure undoes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from automl.cycles.result import CycleResult
from automl.disk import disk_error
from automl.errors import AutomlError, DiskError
from automl.redaction import redact

__all__ = ["AfterCommit"]


class AfterCommit:
    """Steps after a commit: each is tried, and what failed is known at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # named where an error of the disk names no file
        self.warnings: list[str] = []
        self._disk: DiskError | None = None
        self._lost: list[str] = []

    @contextmanager
    def trying(self, consequence: str, *, needed: bool = False) -> Iterator[None]:
        """Try a step; `consequence` says what its failure means.

        An error of the disk never passes; another one does if the step is `needed`, and is a warning otherwise.
        """
        try:
            yield
        except Exception as error:
            found = None if isinstance(error, AutomlError) else disk_error(error, self.folder)
            if isinstance(error, DiskError):
                found = error
            if found is None and needed:
                raise
            if found is None:
                self.warnings.append(f"{consequence}: {_first_line(error)}")
                return
            self._disk = self._disk or found
            self._lost.append(consequence)

    def ended(self, result: CycleResult) -> CycleResult:
        """The result, with the warnings, and with the error of the disk if there was one."""
        return replace(result, warnings=[*result.warnings, *self.warnings], unfinished=self._error)

    @property
    def _error(self) -> DiskError | None:
        if self._disk is None:
            return None
        return DiskError(
            f"{self._disk}; this came after the commit: {'; '.join(self._lost)}",
            code=self._disk.code,
            next_step=self._disk.next_step,
        )


def _first_line(error: Exception) -> str:
    return redact(next(iter(str(error).splitlines()), type(error).__name__))
