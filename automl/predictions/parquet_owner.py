"""The owner of a parquet folder: one problem of one store, as a table has one; any other is refused.

The owner is named in a file of the folder itself, so that links and other spellings of its path lead to
the same owner. A store that was created in the place of one that was lost continues its folders.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from automl.errors import ProblemError
from automl.files import USERS_UMASK, umask, write_json
from automl.problem import Problem
from automl.store import Store
from automl.workspace import Workspace

__all__ = ["COMMITS", "OWNER", "check_folder", "claim_folder"]

OWNER = "_owner.json"
COMMITS = "_commits"
WALKED = 1000  # folders below, at most, that are searched for another copy
OTHER = "Choose another publish.parquet."
LOGIN = re.compile(r"://[^/]*@")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Owner:
    problem: str
    store: str  # its id
    place: str  # digest of the store's address without user and password

    @classmethod
    def of(cls, problem: Problem, workspace: Workspace, store: Store | None) -> _Owner:
        address = LOGIN.sub(
            "://", workspace.database_url
        )  # a password may change, and is not stored
        place = hashlib.sha256(address.encode()).hexdigest()[:16]
        return cls(problem.name, store.id if store else "", place)


def check_folder(problem: Problem, workspace: Workspace, store: Store | None) -> None:
    """Refuse a folder for the parquet copy that belongs to something else; writes nothing.

    Parameters
    ----------
    store
        None: it was not created yet, or is not to be opened.

    Raises
    ------
    ProblemError
        The folder belongs to another problem or store, lies in or around the folder of another copy, the
        workspace or the files of the history.
    """
    if not problem.publish.parquet:
        return
    folder = workspace.resolve(problem.publish.parquet)
    _refuse_places(problem, workspace, folder)
    _refuse_neighbours(problem, folder)
    owner = _read(problem, folder)
    if owner is not None:
        _refuse_other(problem, folder, owner, _Owner.of(problem, workspace, store))


def claim_folder(store: Store, problem: Problem) -> Path:
    """The folder of the problem's copy, which names the problem as its owner from now on.

    Raises
    ------
    ProblemError
        As `check_folder`.
    OSError
        The folder cannot be written.
    """
    check_folder(problem, store.workspace, store)
    with umask(USERS_UMASK):
        return _claimed(store, problem)


def _claimed(store: Store, problem: Problem) -> Path:
    folder = store.workspace.resolve(problem.publish.parquet)
    folder.mkdir(parents=True, exist_ok=True)
    found, mine = _read(problem, folder), _Owner.of(problem, store.workspace, store)
    if found == mine:
        return folder
    if found is not None:
        if found.store != mine.store:
            _log.warning(
                "publish.parquet %s was written by a store that this one replaces; it is continued "
                "[parquet_continued]",
                folder,
            )
        write_json(folder / OWNER, asdict(mine))
        return folder
    staged = folder / f".{OWNER}.{os.getpid()}.tmp"
    try:
        staged.write_text(json.dumps(asdict(mine), indent=1) + "\n", encoding="utf-8")
        os.link(staged, folder / OWNER)
    except FileExistsError:  # another process was first
        check_folder(problem, store.workspace, store)
    finally:
        staged.unlink(missing_ok=True)
    return folder


def _refuse_other(problem: Problem, folder: Path, owner: _Owner, mine: _Owner) -> None:
    where = f"publish.parquet {str(folder)!r}"
    if owner.problem != problem.name:
        raise ProblemError(
            f"{where} belongs to problem {owner.problem!r}", code="parquet_owner", next_step=OTHER
        )
    if mine.store != owner.store and mine.place != owner.place:
        raise ProblemError(
            f"{where} belongs to problem {owner.problem!r} of another store: the address of the store was "
            "changed, or another workspace publishes there",
            code="parquet_owner",
            next_step=f"{OTHER} If nothing else publishes there any more, delete {folder / OWNER}: "
            "then this store continues the folder.",
        )


def _refuse_places(problem: Problem, workspace: Workspace, folder: Path) -> None:
    """Refuse the workspace, and the files that the history is read from."""
    where = f"publish.parquet {problem.publish.parquet!r}"
    if _overlap(folder, workspace.home.resolve()):
        raise ProblemError(
            f"{where} lies in or around the workspace {workspace.home}, whose files automl alone writes "
            "and deletes",
            code="parquet_place",
            next_step=OTHER,
        )
    pattern = problem.history.files
    if pattern and _is_read(workspace.root, pattern, folder):
        raise ProblemError(
            f"{where} is read by history.files {pattern!r}: the next pull would take predictions for history",
            code="parquet_place",
            next_step=OTHER,
        )


def _refuse_neighbours(problem: Problem, folder: Path) -> None:
    """Refuse a folder in or around the folder of another copy."""
    for other in [*folder.parents, *_copies_below(folder)]:
        if _is_copy(other):
            raise ProblemError(
                f"publish.parquet {problem.publish.parquet!r} lies in or around {other}, which is the folder "
                "of another copy; readers of one would read both",
                code="parquet_owner",
                next_step=OTHER,
            )


def _copies_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for number, (place, names, _) in enumerate(os.walk(folder)):
        if number >= WALKED:
            break
        inner = Path(place)
        if inner != folder and _is_copy(inner):
            found.append(inner)
        names[:] = [
            n for n in names if n != COMMITS and not n.lstrip(".").startswith("generation=")
        ]
    return found


def _is_copy(folder: Path) -> bool:
    """Whether a copy was published there; one of an earlier version has commits, but names no owner."""
    return (folder / OWNER).is_file() or any((folder / COMMITS).glob("[0-9]*.json"))


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _is_read(root: Path, pattern: str, folder: Path) -> bool:
    """Whether the pattern matches files of the folder, or a folder above them, or lies below it."""
    parts = Path(os.path.normpath(root / pattern)).parts
    fixed = next((i for i, p in enumerate(parts) if set(p) & set("*?[")), len(parts) - 1)
    if Path(*parts[:fixed]).resolve().is_relative_to(folder):
        return True
    parts = (*Path(*parts[:fixed]).resolve().parts, *parts[fixed:])
    written = (folder / "generation=1" / "part-0.parquet").parts
    return any(_matches(written[:n], parts) for n in range(1, len(written) + 1))


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _read(problem: Problem, folder: Path) -> _Owner | None:
    """The owner that the folder names; None if it names none.

    Raises
    ------
    ProblemError
        The file cannot be read.
    """
    file = folder / OWNER
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return _Owner(*(str(content[name]) for name in ("problem", "store", "place")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ProblemError(
            f"publish.parquet {problem.publish.parquet!r}: {file} does not name an owner: {error}",
            code="parquet_owner",
            next_step=f"If nothing else publishes there, delete {file}.",
        ) from error
