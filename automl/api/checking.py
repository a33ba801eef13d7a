"""The check of a problem file: every mistake at once, also those that another one would hide.

What is right in a file with mistakes is checked further: users' files are loaded, and with `data` source, store and
MLflow are opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from automl import progress
from automl.errors import AutomlError, ProblemError
from automl.problem import family_names, what_is_right

if TYPE_CHECKING:
    from pathlib import Path

    from automl.modeling.families import Family
    from automl.problem import Problem
    from automl.workspace import Workspace

__all__ = ["check_problem"]

OF_DATA = ("history", "batch", "publish", "name")  # sections whose mistakes concern the source
Extra = Callable[["Problem"], None]


class _Found:
    """Errors in the order in which they were found."""

    def __init__(self) -> None:
        self.errors: list[AutomlError] = []

    @contextmanager
    def collecting(self) -> Iterator[None]:
        try:
            yield
        except AutomlError as error:
            self.errors.append(error)


def check_problem(
    file: Path, workspace: Workspace, *, data: bool = False, extra: Extra | None = None
) -> dict[str, Any]:
    """What `automl check` prints of a valid problem file.

    Parameters
    ----------
    data
        Open source, store and MLflow too; those that fail are listed.
    extra
        One more check, of users' families.

    Raises
    ------
    AutomlError
        The only mistake, or a `ProblemError` that lists all of them.
    """
    from automl import report

    found = _Found()
    problem, mistakes = what_is_right(file)
    if mistakes is not None:
        found.errors.append(mistakes)
    if problem is None:
        raise _one(found.errors, file)
    families = _check_files(problem, workspace, found, extra)
    opened = None
    if data and not _concerns_data(mistakes):
        from automl.cycles import connections

        with progress.step("open source, store and MLflow"):
            opened = connections.open_all(problem, workspace)
    if found.errors:
        found.errors += [_failed(row) for row in opened or () if not row["passed"]]
        raise _one(found.errors, file)
    return report.checked(problem, workspace, families, connections=opened)


def _check_files(
    problem: Problem, workspace: Workspace, found: _Found, extra: Extra | None
) -> dict[str, Family]:
    """Load every file that the problem names; returns the families that can be loaded."""
    from automl.modeling.families import load_families
    from automl.modeling.user_files import failing_files, is_path

    if problem.history.python:
        from automl.history.sources.callables import try_function

        with found.collecting():
            try_function(problem, workspace)
    root, failing = problem.file.parent, failing_files(problem)
    found.errors += failing.values()
    loaded: list[str] = []
    for entry in problem.sweep.families:
        # one that is not there is among the mistakes of the file already
        there = (root / entry).is_file() if is_path(entry) else entry in family_names()
        if there and (root / entry).resolve() not in failing:
            with found.collecting():
                load_families([entry], root)
                loaded.append(entry)
    families: dict[str, Family] = {}
    with found.collecting():
        families = load_families(loaded, root)
    if extra is not None and any(map(is_path, loaded)):
        with found.collecting():
            extra(problem.model_copy(update={"sweep": _only(problem, loaded)}))
    if problem.transformer and problem.transformer not in failing:
        from automl.modeling.features import load_columns

        with found.collecting():  # its base classes are scikit-learn's
            load_columns(problem.transformer)
    if problem.publish.parquet:
        with found.collecting():
            _check_folder(problem, workspace)
    return families


def _only(problem: Problem, families: list[str]) -> Any:
    return problem.sweep.model_copy(update={"families": tuple(families)})


def _check_folder(problem: Problem, workspace: Workspace) -> None:
    from automl.predictions import check_folder
    from automl.store import store_as_it_is

    local = workspace.database_url.startswith("sqlite")
    check_folder(problem, workspace, store_as_it_is(workspace) if local else None)


def _concerns_data(mistakes: ProblemError | None) -> bool:
    """Whether the source cannot be opened as the file means it."""
    lines = str(mistakes or "").splitlines()
    return any(line.strip().startswith(OF_DATA) for line in lines)


def _failed(row: Mapping[str, Any]) -> AutomlError:
    return AutomlError(f"{row['name']}: {row['found']}", next_step=row["remedy"])


def _one(errors: list[AutomlError], file: Path) -> AutomlError:
    """The only error as it is; several as one that lists them, each with its next step."""
    if len(errors) == 1:
        return errors[0]
    lines: list[str] = []
    for error in errors:
        head, *rest = str(error).splitlines()
        lines += rest if error.code in ("problem", "toml") and rest else [f"  {head}", *rest]
        if error.next_step and error.code not in ("problem", "toml"):
            lines.append(f"    -> {error.next_step}")
    count = sum(not line.startswith("    ") for line in lines)
    return ProblemError(
        f"{file}: {count} mistakes\n" + "\n".join(lines),
        code="problem",
        next_step=f"Fix these, then run: automl check {file}",
    )
