"""Predictions as immutable generations behind a pointer, in SQL and as a parquet copy.

Readers of `<table>` see exactly one generation: the one the pointer row names. A generation is written
first, audited, and only then pointed at, in one transaction. The parquet copy follows and may lag.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa

from automl.errors import PredictError, ProblemError
from automl.history import ROW_ID
from automl.problem import Problem
from automl.store import Hold, Release, Store, naive
from automl.store import tables as t
from automl.workspace import now

__all__ = [
    "audit",
    "check_owner",
    "clean",
    "export",
    "point",
    "read_generation",
    "read_predictions",
    "stage",
]

ROWS_AT_ONCE = 5_000
STAMPS = ("generation", "model_version", "run_id", "as_of", "scored_at")


def check_owner(store: Store, problem: Problem) -> None:
    """Refuse to publish into a table that is not this problem's.

    Raises
    ------
    ProblemError
        The name belongs to another problem, or to a table or view that we did not make.
    """
    name, mine = problem.table, _names(problem.table, classes=problem.task == "multiclass")
    with store.engine.connect() as connection:
        inspector = sa.inspect(connection)
        there = {*inspector.get_table_names(), *inspector.get_view_names()} & mine
        owners = {row.table_name: row.problem for row in connection.execute(sa.select(t.pointer))}
        staged = connection.scalar(
            sa.select(t.generation.c.id).where(t.generation.c.problem == problem.name).limit(1)
        )
    for table, owner in owners.items():
        if owner != problem.name and there & _names(table, classes=True):
            raise ProblemError(
                f"publish.table {name!r} belongs to problem {owner!r}",
                code="table_owner",
                next_step="Choose another publish.table.",
            )
    # before the first pointer there may be rows of ours that a dead run has staged, but no view
    ours = mine if name in owners else mine - {name, f"{name}_classes"} if staged else set()
    foreign = there - ours
    if foreign:
        raise ProblemError(
            f"publish.table {name!r}: {min(foreign)!r} exists and was not made by this product",
            code="table_owner",
            next_step="Choose another publish.table; nothing is ever dropped.",
        )


def stage(
    store: Store,
    hold: Hold,
    problem: Problem,
    release: Release,
    predictions: Sequence[pd.DataFrame | None],
    *,
    window: tuple[datetime, datetime],
    batch: str,
    attempt: int,
) -> int:
    """Write a generation that nobody sees yet; returns its id.

    `predictions` are the frames of `automl.predict.predict`; `window` is (as_of, until).
    """
    frame, classes = predictions
    if frame is None:
        raise AssertionError("a generation has predictions")
    scored_at = naive(now())
    row = {
        "problem": problem.name,
        "as_of": naive(window[0]),
        "until": naive(window[1]),
        "attempt": attempt,
        "model_version": release.model_version,
        "run_id": release.run_id,
        "batch": batch,
        "rows": len(frame),
        "state": "staged",
        "scored_at": scored_at,
        "judged_rows": 0,
    }
    main = _table(f"{problem.table}_generations", frame, problem)
    per_class = (
        _table(f"{problem.table}_classes_generations", classes, problem)
        if classes is not None
        else None
    )
    _check_columns(store, main)
    with store.commit(hold) as connection:
        main.create(connection, checkfirst=True)
        generation = t.inserted(connection, t.generation.insert().values(**row))
        stamps = {
            "generation": generation,
            "model_version": release.model_version,
            "run_id": release.run_id,
            "as_of": naive(window[0]),
            "scored_at": scored_at,
        }
        _insert(connection, main, frame.assign(**stamps))
        if per_class is not None and classes is not None:
            per_class.create(connection, checkfirst=True)
            _insert(connection, per_class, classes.assign(**stamps))
    return generation


def audit(store: Store, problem: Problem, generation: int) -> None:
    """Count and check what was staged, by reading it back.

    Raises
    ------
    PredictError
        Rows are missing, a key is there twice, or a prediction is empty.
    """
    key = ", ".join(_quote(store, k) for k in (problem.history.key or (ROW_ID,)))
    table = _quote(store, f"{problem.table}_generations")
    with store.engine.connect() as connection:
        wanted = connection.scalar(
            sa.select(t.generation.c.rows).where(t.generation.c.id == generation)
        )
        rows, empty, distinct = connection.execute(
            sa.text(
                f"select count(*), sum(case when prediction is null then 1 else 0 end), "  # noqa: S608
                f"(select count(*) from (select distinct {key} from {table} where generation = :g) as k) "
                f"from {table} where generation = :g"
            ),
            {"g": generation},
        ).one()
    if not rows or rows != wanted or distinct != wanted or empty:
        raise PredictError(
            f"audit of generation {generation}: found {rows} rows, {distinct} keys, {empty} empty predictions; "
            f"wanted {wanted} rows, as many keys, none empty",
            code="audit",
        )


def point(
    connection: sa.Connection, store: Store, hold: Hold, problem: Problem, generation: int
) -> None:
    """Move the pointer; part of the caller's transaction. A backfill never moves it back in time."""
    name = problem.table
    live = connection.execute(
        sa.select(t.generation.c.as_of)
        .join(t.pointer, t.pointer.c.generation == t.generation.c.id)
        .where(t.pointer.c.table_name == name)
    ).scalar()
    mine = connection.scalar(sa.select(t.generation.c.as_of).where(t.generation.c.id == generation))
    if live is None:
        connection.execute(
            t.pointer.insert().values(
                table_name=name, problem=problem.name, generation=generation, fence=hold.fence
            )
        )
    elif mine >= live:
        connection.execute(
            t.pointer.update()
            .where(t.pointer.c.table_name == name)
            .values(generation=generation, fence=hold.fence)
        )
    views = sa.inspect(connection).get_view_names()
    for suffix in ("", "_classes"):
        view, source = f"{name}{suffix}", f"{name}{suffix}_generations"
        if view not in views and sa.inspect(connection).has_table(source):
            connection.execute(
                sa.text(
                    f"create view {_quote(store, view)} as select * from {_quote(store, source)} where generation = "  # noqa: S608
                    f"(select p.generation from automl_pointer p where p.table_name = '{name}')"
                )
            )
    connection.execute(
        t.generation.update()
        .where(t.generation.c.id == generation)
        .values(state="published", published_at=naive(now()))
    )


def read_generation(store: Store, problem: Problem, generation: int) -> pd.DataFrame:
    """All rows of a generation, whether live or not."""
    query = sa.text(
        f"select * from {_quote(store, f'{problem.table}_generations')} where generation = :g"  # noqa: S608
    )
    with store.engine.connect() as connection:
        return pd.read_sql(query, connection, params={"g": generation})


def clean(store: Store, hold: Hold, problem: Problem) -> int:
    """Remove generations beyond `publish.keep`, and staged ones that no commit followed; returns how many.

    Never the live one, never one whose labels were not yet judged.
    """
    live = store.live(problem.table)
    kept = {g["id"] for g in store.generations(problem.name, limit=problem.publish.keep)}
    with store.commit(hold) as connection:
        rows = connection.execute(
            sa.select(t.generation).where(
                t.generation.c.problem == problem.name, t.generation.c.state != "removed"
            )
        ).all()
        gone = [
            r.id
            for r in rows
            if r.id not in kept
            and (live is None or r.id != live["id"])
            and (r.state == "staged" or r.judged_rows > 0)
        ]
        for suffix in ("", "_classes"):
            table = f"{problem.table}{suffix}_generations"
            if gone and sa.inspect(connection).has_table(table):
                delete = sa.text(f"delete from {_quote(store, table)} where generation in :gone")  # noqa: S608
                connection.execute(delete.bindparams(sa.bindparam("gone", gone, expanding=True)))
        connection.execute(
            t.generation.update().where(t.generation.c.id.in_(gone)).values(state="removed")
        )
    return len(gone)


# ---------------------------------------------------------------- parquet copy


def export(store: Store, problem: Problem) -> Path | None:
    """Bring the parquet copy up to the live generation; returns its folder, None without one.

    An immutable folder per generation, then a commit file that is created only if it does not exist.
    """
    live = store.live(problem.table)
    if not problem.publish.parquet or live is None:
        return None
    root = store.workspace.resolve(problem.publish.parquet)
    commit = root / "_commits" / f"{live['id']:012d}.json"
    folder = root / f"generation={live['id']}"
    if not commit.exists():
        try:
            _write_copy(store, problem, live, folder, commit)
        except OSError as error:
            raise PredictError(
                f"publish.parquet {root}: {error.strerror or error}",
                code="parquet",
                next_step="Mend the folder's rights or space; the next command writes the copy.",
            ) from error
    with store.writer.begin() as connection:
        connection.execute(
            t.generation.update()
            .where(t.generation.c.id == live["id"])
            .values(exported_at=naive(now()))
        )
    _clean_copies(store, problem, root)
    return folder


def read_predictions(folder: str | Path) -> pd.DataFrame:
    """The newest complete generation of a parquet copy; never a mix of two.

    Raises
    ------
    PredictError
        Nothing was published there yet.
    """
    commits = sorted((Path(folder) / "_commits").glob("*.json"))
    if not commits:
        raise PredictError(
            f"{folder}: no generation has been published here", code="no_predictions"
        )
    files = json.loads(commits[-1].read_text(encoding="utf-8"))["files"]
    return pd.read_parquet(Path(folder) / files[0])


def _write_copy(
    store: Store, problem: Problem, live: dict[str, Any], folder: Path, commit: Path
) -> None:
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    commit.parent.mkdir(parents=True, exist_ok=True)
    frame = read_generation(store, problem, live["id"])
    frame.to_parquet(aside / "part-0.parquet", index=False)
    shutil.rmtree(
        folder, ignore_errors=True
    )  # left by a copy that was interrupted before its commit
    os.replace(aside, folder)
    content = {
        "generation": live["id"],
        "rows": len(frame),
        "files": [f"{folder.name}/part-0.parquet"],
    }
    staged = commit.with_suffix(f".{os.getpid()}.tmp")
    staged.write_text(json.dumps(content), encoding="utf-8")
    try:
        os.link(staged, commit)  # fails if it exists: a commit is never overwritten
    except FileExistsError:
        return
    finally:
        staged.unlink()


def _clean_copies(store: Store, problem: Problem, root: Path) -> None:
    kept = {g["id"] for g in store.generations(problem.name, limit=problem.publish.keep)}
    for commit in sorted((root / "_commits").glob("*.json"))[:-1]:
        if int(commit.stem) not in kept:
            commit.unlink()
            shutil.rmtree(root / f"generation={int(commit.stem)}", ignore_errors=True)


# ---------------------------------------------------------------- tables


def _names(table: str, *, classes: bool) -> set[str]:
    """Everything that publishing a table makes in the database."""
    return {
        f"{table}{suffix}{kind}"
        for suffix in ("", "_classes")[: 1 + classes]
        for kind in ("", "_generations")
    }


def _table(name: str, frame: pd.DataFrame, problem: Problem) -> sa.Table:
    keys = list(problem.history.key or (ROW_ID,)) + (["class"] if "class" in frame.columns else [])
    columns = [
        sa.Column("generation", t.Id, primary_key=True, autoincrement=False),
        *(sa.Column(k, _type(frame[k]), primary_key=True) for k in keys),
        *(sa.Column(c, _type(frame[c]), nullable=True) for c in frame.columns if c not in keys),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("as_of", sa.DateTime, nullable=False),
        sa.Column("scored_at", sa.DateTime, nullable=False),
    ]
    return sa.Table(name, sa.MetaData(), *columns)


def _type(column: pd.Series) -> sa.types.TypeEngine[Any]:
    if pd.api.types.is_datetime64_any_dtype(column):
        return sa.DateTime()
    if pd.api.types.is_integer_dtype(column):
        return sa.BigInteger()
    return sa.Double() if pd.api.types.is_float_dtype(column) else sa.Text()


def _check_columns(store: Store, table: sa.Table) -> None:
    inspector = sa.inspect(store.engine)
    if inspector.has_table(table.name):
        found = {c["name"] for c in inspector.get_columns(table.name)}
        wanted = {c.name for c in table.columns}
        if found != wanted:
            raise ProblemError(
                f"table {table.name!r} has columns {', '.join(sorted(found))}; this problem publishes "
                f"{', '.join(sorted(wanted))}",
                code="table_columns",
                next_step="Choose another publish.table for the changed problem.",
            )


def _insert(connection: sa.Connection, table: sa.Table, frame: pd.DataFrame) -> None:
    for start in range(0, len(frame), ROWS_AT_ONCE):
        part = frame.iloc[start : start + ROWS_AT_ONCE].astype("object")
        connection.execute(table.insert(), part.where(part.notna(), None).to_dict("records"))


def _quote(store: Store, name: str) -> str:
    return store.engine.dialect.identifier_preparer.quote(name)
