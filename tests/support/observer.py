"""What an outsider sees of a workspace: SQL, MLflow's tables and parquet files; nothing of the product.

`look` is a picture to compare with another, `violations` says in sentences what must never be seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa

ENDED = {"published", "released", "kept", "waiting", "refused", "failed"}
EFFECTIVE = ("live", "rows", "releases", "decisions", "ledger", "waiting")  # what a commit changes
LIVE = "select generation, model_version, count(*) from parcels group by 1, 2"
COUNTED = "select count(*) from parcels where sent_at >= ? and sent_at < ?"


@dataclass(frozen=True, slots=True)
class World:
    """A problem file and the workspace next to it; `url` is that of a store on PostgreSQL."""

    file: Path
    url: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that a command needs."""
        return {"AUTOML_DATABASE_URL": self.url} if self.url else {}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the store; none where a table is not there yet."""
        engine = sa.create_engine(self._place, poolclass=sa.NullPool)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(sa.text(sql))]
        except (sa.exc.OperationalError, sa.exc.ProgrammingError) as error:
            if "no such table" in str(error) or "does not exist" in str(error):
                return []
            raise

    def change(self, statement: str) -> None:
        """Change the store by hand."""
        engine = sa.create_engine(self._place, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text(statement))

    @property
    def _place(self) -> str:
        return self.url or f"sqlite:///{self.file.parent / '.automl' / 'automl.db'}"

    def query_mlflow(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of MLflow's own database."""
        with sqlite3.connect(self.file.parent / ".automl" / "mlflow.db", timeout=20) as database:
            return database.execute(sql).fetchall()

    def query_source(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the source."""
        with sqlite3.connect(self.file.parent / "world.db") as database:
            return database.execute(sql, values).fetchall()

    def copy(self, folder: Path, url: str = "") -> World:
        """The same workspace in another folder; paths inside it lead to the copy."""
        there, here = str(self.file.parent), str(folder)
        shutil.copytree(there, folder, ignore=shutil.ignore_patterns("*.lock"))
        copied = World(folder / self.file.name, url)
        with sqlite3.connect(folder / ".automl" / "mlflow.db") as database:
            for table, column in (
                ("experiments", "artifact_location"), ("runs", "artifact_uri"),
                ("logged_models", "artifact_location"), ("model_versions", "source"),
                ("model_versions", "storage_location"),
            ):  # fmt: skip
                database.execute(
                    f"update {table} set {column} = replace({column}, ?, ?)", (there, here)
                )
        receipts = "replace(receipts, :there, :here)"
        if url:
            receipts = "cast(replace(cast(receipts as text), :there, :here) as json)"
        engine = sa.create_engine(copied._place, poolclass=sa.NullPool)
        with engine.begin() as connection:
            change = sa.text(f"update automl_cycle set receipts = {receipts}")
            connection.execute(change, {"there": there, "here": here})
        return copied


def look(world: World) -> dict[str, Any]:
    """Everything that readers, reviewers and the store's owner can see, in plain values."""
    rows = sorted(map(str, world.query("select * from parcels")))
    return {
        "live": world.query(LIVE),
        "rows": hashlib.sha256("\n".join(rows).encode()).hexdigest(),
        "releases": world.query(
            "select as_of, model_version from automl_release order by as_of desc, id desc"
        ),
        "decisions": world.query("select as_of, attempt, outcome from automl_decision order by id"),
        "ledger": world.query("select kind, from_version, to_version from automl_ledger order by id"),
        "waiting": world.query("select blend_id from automl_waiting"),
        "cycles": world.query("select verb, as_of, attempt, status from automl_cycle order by id"),
        "aliases": _aliases(world),
        "runs": sorted(
            Counter(
                world.query_mlflow(
                    "select name, status from runs where lifecycle_stage = 'active'"
                )
            ).items()
        ),
        "commit": _commits(world)[-1:],
    }  # fmt: skip


def effective(seen: dict[str, Any]) -> dict[str, Any]:
    """The part that one transaction changes, or leaves as it was."""
    return {name: seen[name] for name in EFFECTIVE}


def violations(world: World, *, settled: bool = False, scored: bool = True) -> list[str]:
    """What must never be seen, at any instant; `settled`: nor after a command has ended well.

    `scored` says that the newest release has been scored, so that readers see its predictions.
    """
    seen = look(world)
    found = [
        *_of_readers(world, seen),
        *_of_champion(world, seen),
        *_of_copy(world, seen, settled=settled),
    ]
    found += _of_decisions(world, seen)
    if settled:
        found += _of_ends(world, seen, scored=scored)
    return found


def _of_readers(world: World, seen: dict[str, Any]) -> list[str]:
    """One complete generation, of the batch's rows, published."""
    if len(seen["live"]) != 1:
        return [f"readers see {len(seen['live'])} generations: {seen['live']}"]
    [(generation, version, rows)] = seen["live"]
    stored = world.query(
        f"select as_of, until, rows, model_version, state from automl_generation where id = {generation}"
    )
    if len(stored) != 1:
        return [f"generation {generation} has {len(stored)} rows in the store"]
    [(as_of, until, wanted, made_by, state)] = stored
    [(batch,)] = world.query_source(COUNTED, _second(as_of), _second(until))
    wrong = {(rows, version, "published")} - {(wanted, made_by, state)}
    found = [f"readers see {w}, the store says {stored}" for w in wrong]
    if rows != batch:
        found.append(f"{rows} rows are live, the batch has {batch}")
    if len(world.query("select * from automl_pointer")) != 1:
        found.append("more than one pointer")
    return found


def _of_champion(world: World, seen: dict[str, Any]) -> list[str]:
    """One alias, on the newest release or the one before; every released version is there, unchanged."""
    versions = [version for _, version in seen["releases"]]
    champion = [version for alias, version in seen["aliases"] if alias == "champion"]
    found = []
    if len(champion) != 1 or champion[0] not in versions[:2]:
        found.append(f"champion is {champion}, released were {versions}")
    files = {
        version: Path(place.removeprefix("file://"))
        for version, place in world.query_mlflow(
            "select version, storage_location from model_versions where current_stage = 'None'"
        )
    }
    for version, stored in world.query("select model_version, digests from automl_release"):
        digests = json.loads(stored) if isinstance(stored, str) else stored
        if version not in files or _digests(files[version]) != digests:
            found.append(f"version {version} is not what was released")
    return found


def _of_copy(world: World, seen: dict[str, Any], *, settled: bool) -> list[str]:
    """The newest commit names whole files of one published generation."""
    if not seen["commit"]:
        return []
    [commit] = seen["commit"]
    folder = world.file.parent / "out"
    try:
        frame = pd.concat([pd.read_parquet(folder / name) for name in commit["files"]])
    except FileNotFoundError as error:
        return [f"commit {commit['publication']}: {error}"]
    found = []
    if set(frame["generation"]) != {commit["generation"]} or len(frame) != commit["rows"]:
        found.append(f"commit {commit['publication']} names {len(frame)} rows: {commit}")
    states = world.query(f"select state from automl_generation where id = {commit['generation']}")
    if states != [("published",)]:
        found.append(f"the copy shows generation {commit['generation']}, which is {states}")
    if settled and [commit["generation"]] != [generation for generation, *_ in seen["live"]]:
        found.append(f"the copy shows {commit['generation']}, the table {seen['live']}")
    return found


def _of_decisions(world: World, seen: dict[str, Any]) -> list[str]:
    """One decision per cycle; releases go forward; one generation per (as_of, attempt, version)."""
    decided = Counter((as_of, attempt) for as_of, attempt, _ in seen["decisions"])
    found = [f"{n} decisions of {key}" for key, n in decided.items() if n != 1]
    order = [str(as_of) for (as_of,) in world.query("select as_of from automl_release order by id")]
    if order != sorted(order):
        found.append(f"releases went back in time: {order}")
    published = Counter(
        world.query(
            "select as_of, attempt, model_version from automl_generation where state = 'published'"
        )
    )
    found += [f"{n} generations of {key}" for key, n in published.items() if n != 1]
    trials = Counter(
        world.query_mlflow(
            "select c.value, r.name from runs r join tags k on k.run_uuid = r.run_uuid "
            "and k.key = 'kind' and k.value = 'trial' join tags c on c.run_uuid = r.run_uuid "
            "and c.key = 'cycle' where r.lifecycle_stage = 'active'"
        )
    )
    return found + [f"trial {key} is logged {n} times" for key, n in trials.items() if n != 1]


def _of_ends(world: World, seen: dict[str, Any], *, scored: bool) -> list[str]:
    """Nothing is left half way, and what follows has followed."""
    found = [f"cycle {c} has not ended" for c in seen["cycles"] if c[3] not in ENDED]
    silent = world.query("select verb, as_of from automl_cycle where reason = ''")
    found += [f"cycle {c} ended without a reason" for c in silent]
    found += [f"run {name} is still running" for (name, status), _ in seen["runs"]
              if status == "RUNNING"]  # fmt: skip
    newest = seen["releases"][0][1]
    if ("champion", newest) not in seen["aliases"]:
        found.append(f"version {newest} is released, but {seen['aliases']}")
    if scored and [version for _, version, _ in seen["live"]] != [newest]:
        found.append(f"version {newest} is released, readers see {seen['live']}")
    return found


def _aliases(world: World) -> list[tuple[str, int]]:
    rows = world.query_mlflow("select alias, version from registered_model_aliases")
    return sorted((str(alias), int(version)) for alias, version in rows)


def _commits(world: World) -> Sequence[dict[str, Any]]:
    files = sorted((world.file.parent / "out" / "_commits").glob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files[-1:]]


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            file = Path(place, name)
            if name != "registered_model_meta" and "__pycache__" not in file.parts:
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                found[str(file.relative_to(folder))] = digest
    return found


def _second(moment: object) -> str:
    """As the source writes times; SQLite hands them over as text."""
    whole = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{whole:%Y-%m-%d %H:%M:%S}"
