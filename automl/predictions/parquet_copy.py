"""The parquet copy: an immutable folder per generation, and a commit file per publication.

A commit file is created only if it does not exist, and its number rises with every move of the pointer:
the last one by name is what readers see, also after a rollback to an older generation. Readers do not
see a folder that no commit names. A folder may hold commits of a store that was lost, or of a later time
than a store that was restored from a backup: what this store publishes comes after them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from automl import progress
from automl.errors import PredictError, ProblemError
from automl.files import USERS_UMASK, umask
from automl.predictions.parquet_owner import COMMITS, claim_folder
from automl.predictions.pointer import newest_publication
from automl.predictions.tables import reflected
from automl.problem import Problem
from automl.store import Generation, Store, naive
from automl.store import tables as t
from automl.testing import fault
from automl.workspace import now

__all__ = ["Draft", "export", "read_predictions"]

PART_ROWS = 1_000_000  # rows of a file when a copy is made from the table
TRIES = 5  # of a reader whose files are removed while it opens them


@dataclass(frozen=True, slots=True)
class Draft:
    """The parquet files of a generation, written while it is staged to save reading it back.

    A draft is optional: if writing it fails, `export` makes the copy from the table and reports errors.
    """

    folder: Path  # where the finished copy will be; no commit names it
    files: int = 0
    broken: bool = False

    @classmethod
    def of(cls, store: Store, problem: Problem, generation: int) -> Draft | None:
        """A new draft for a generation; None if the problem publishes no copy."""
        if not problem.publish.parquet:
            return None
        try:
            root = claim_folder(store, problem)
            draft = cls(_free_folder(root, generation))
        except OSError:
            return cls(store.workspace.resolve(problem.publish.parquet), broken=True)
        for leftover in (draft.temporary, draft.folder):  # of an interrupted run
            shutil.rmtree(leftover, ignore_errors=True)
        return draft

    @property
    def temporary(self) -> Path:
        """Folder of the files until all are written."""
        return self.folder.with_name(f".{self.folder.name}.{os.getpid()}")

    def add(self, rows: pd.DataFrame) -> Draft:
        """Write a file of rows."""
        if self.broken:
            return self
        try:
            with umask(USERS_UMASK):
                self.temporary.mkdir(parents=True, exist_ok=True)
                rows.to_parquet(self.temporary / _part(self.files), index=False)
        except OSError:
            return self._abandoned()
        return replace(self, files=self.files + 1)

    def finish(self) -> None:
        """Move the files to the folder that the commit will name."""
        if self.broken:
            return
        try:
            _move(self.temporary, self.folder)
        except OSError:
            self._abandoned()

    def _abandoned(self) -> Draft:
        shutil.rmtree(self.temporary, ignore_errors=True)
        return replace(self, broken=True)


def export(store: Store, problem: Problem) -> Path | None:
    """Bring the parquet copy up to the live generation; returns its folder, or None without a copy."""
    newest = newest_publication(store, problem.table)
    live = store.live(problem.table)
    if not problem.publish.parquet or live is None or newest is None:
        return None
    root = store.workspace.resolve(problem.publish.parquet)
    try:
        with umask(USERS_UMASK):
            claim_folder(store, problem)
            folder = _current(root, live) or _publish_copy(store, problem, live, newest[0])
    except OSError as error:
        raise PredictError(
            f"publish.parquet {root}: {error.strerror or error}",
            code="parquet",
            next_step="Fix the folder's permissions or free disk space; the next command writes the copy.",
        ) from error
    except ProblemError as error:  # another problem was first, after this one had been checked
        raise PredictError(str(error), code=error.code, next_step=error.next_step) from error
    with store.writer.begin() as connection:
        connection.execute(
            t.generation.update()
            .where(t.generation.c.id == live.id)
            .values(exported_at=naive(now()))
        )
    _clean_copies(problem, root)
    return folder


def read_predictions(folder: str | Path) -> pd.DataFrame:
    """The newest complete generation of a parquet copy; never a mix of two.

    Raises
    ------
    PredictError
        Nothing was published there yet.
    """
    root = Path(folder)
    for _ in range(TRIES):
        commits = _commits(root)
        if not commits:
            break
        # retention removed the files in between, so there is a newer commit
        with contextlib.suppress(FileNotFoundError):
            files = json.loads(commits[-1].read_text(encoding="utf-8"))["files"]
            return pd.concat([pd.read_parquet(root / file) for file in files], ignore_index=True)
    raise PredictError(
        f"{folder}: no generation has been published here",
        code="no_predictions",
        next_step="Publish first: automl cycle FILE",
    )


def _current(root: Path, live: Generation) -> Path | None:
    """The folder that readers are sent to, if it is a complete copy of the live generation."""
    commits = _commits(root)
    named = _named(commits[-1]) if commits else set()
    return next((root / name for name in named if _complete(root / name, live)), None)


def _publish_copy(store: Store, problem: Problem, live: Generation, number: int) -> Path:
    """Write the copy unless a draft is complete, and the commit that sends readers there.

    The commit has the number of the publication, or comes after those of an earlier store.
    """
    root = store.workspace.resolve(problem.publish.parquet)
    (root / COMMITS).mkdir(parents=True, exist_ok=True)
    drafts = [root / f"generation={live.id}", *sorted(root.glob(f"generation={live.id}-*"))]
    folder = next((draft for draft in drafts if _complete(draft, live)), None)
    if folder is None:
        folder = _free_folder(root, live.id)
        _write_copy(store, problem, live, folder)
    fault("export.copied")
    last = max((int(commit.stem) for commit in _commits(root)), default=0)
    numbers = count(max(number, last + 1))
    while not _commit(root / COMMITS / f"{next(numbers):012d}.json", live, folder):
        pass
    fault("export.committed")
    return folder


def _commit(commit: Path, live: Generation, folder: Path) -> bool:
    """Write a commit file; False if there is one of that name, which is never overwritten."""
    content = {
        "publication": int(commit.stem),
        "generation": live.id,
        "rows": live.rows,
        "files": [f"{folder.name}/{file.name}" for file in _files(folder)],
    }
    staged = commit.with_suffix(f".{os.getpid()}.tmp")
    staged.write_text(json.dumps(content), encoding="utf-8")
    _fsync(staged)
    try:
        os.link(staged, commit)
    except FileExistsError:
        return False
    finally:
        staged.unlink()
    _fsync(commit.parent)
    return True


def _write_copy(store: Store, problem: Problem, live: Generation, folder: Path) -> None:
    """Make the copy from the table; files of an interrupted copy are replaced."""
    draft = Draft(folder)
    shutil.rmtree(draft.temporary, ignore_errors=True)
    draft.temporary.mkdir(parents=True)
    done = 0
    for number, rows in enumerate(_read_table(store, problem, live.id)):
        rows.to_parquet(draft.temporary / _part(number), index=False)
        done += len(rows)
        progress.show(f"{done:,} of {live.rows:,} rows", done=done, of=live.rows)
    _move(draft.temporary, folder)


def _read_table(store: Store, problem: Problem, generation: int) -> Iterator[pd.DataFrame]:
    with store.engine.connect().execution_options(stream_results=True) as connection:
        table = reflected(connection, f"{problem.table}_generations")
        numbers = {c.name: "float64" for c in table.columns if isinstance(c.type, sa.Double)}
        query = sa.select(table).where(table.c.generation == generation)
        for rows in pd.read_sql(query, connection, chunksize=PART_ROWS):
            yield rows.astype(numbers)


def _move(temporary: Path, folder: Path) -> None:
    for file in _files(temporary):
        _fsync(file)
    shutil.rmtree(folder, ignore_errors=True)  # no commit names it
    os.replace(temporary, folder)
    _fsync(folder.parent)


def _complete(folder: Path, live: Generation) -> bool:
    """Whether the files of a folder are those of the live generation; a truncated file has no footer.

    A generation of another store, or of a time that a backup does not know, may have the same id and as many
    rows, but was not made at the same moment.
    """
    try:
        files = _files(folder)
        if not files or sum(pq.read_metadata(file).num_rows for file in files) != live.rows:
            return False
        stamp = pq.read_table(files[0], columns=["scored_at"])["scored_at"][0].as_py()
    except (OSError, LookupError, pa.ArrowException):
        return False
    return bool(stamp == naive(live.scored_at))


def _free_folder(root: Path, generation: int) -> Path:
    """A folder for a generation that no commit names: one of the same id may be of another store."""
    named = {name for commit in _commits(root) for name in _named(commit)}
    name = f"generation={generation}"
    return root / (f"{name}-{uuid4().hex[:8]}" if name in named else name)


def _commits(root: Path) -> list[Path]:
    """Commit files, oldest first."""
    return sorted((root / COMMITS).glob("[0-9]*.json"))


def _named(commit: Path) -> set[str]:
    """The folders that a commit names."""
    files = json.loads(commit.read_text(encoding="utf-8"))["files"]
    return {Path(file).parts[0] for file in files}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"), key=lambda f: int(f.stem.removeprefix("part-")))


def _part(number: int) -> str:
    return f"part-{number}.parquet"


def _fsync(path: Path) -> None:
    """Flush to disk: after a power cut no commit may name files that are not on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _clean_copies(problem: Problem, root: Path) -> None:
    """Remove commits beyond `publish.keep`, then folders that no commit names, old drafts included."""
    commits = _commits(root)
    for commit in commits[: -problem.publish.keep]:
        commit.unlink()
    named = {name for commit in commits[-problem.publish.keep :] for name in _named(commit)}
    for folder in [*root.glob("generation=*"), *root.glob(".generation=*")]:
        if folder.name not in named:
            shutil.rmtree(folder, ignore_errors=True)
