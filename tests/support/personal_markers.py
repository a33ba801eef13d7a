"""A problem whose rows hold a marker in every personal cell, and a search for the marker."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from automl import cli
from tests.support.parcels import make_world

MARKER = "marker-7f3a"
SECRET = "quite a secret, and long enough"
WEEK, DAY = timedelta(days=7), timedelta(days=1)
PLAIN = {  # where analysts need the key
    "binary": {("parcels_generations", "badge")},
    "multiclass": {("parcels_generations", "badge"), ("parcels_classes_generations", "badge")},
}

PROBLEM = """
name = "parcels"
task = "{task}"

[history]
{source}
time        = "sent_at"
key         = ["badge"]
target      = "{target}"
label_delay = "1d"
ignore      = ["arrived_after"]
personal    = ["badge", "email"]
quarantine  = 0.45

[metric]
name   = "{metric}"
slices = ["carrier"]

[sweep]
families = ["baseline", "linear"]
trials   = 2

[validation]
block   = "7d"
origins = 1

[publish]
parquet = "out"
"""
COLUMNS = "badge, email, sent_at, weight, carrier, arrived_after, fate"
SOURCE = {
    "sqlite": 'source = "sqlite:///world.db"\nquery = "select * from parcels"',
    "parquet": 'files = "data/*.parquet"',
}
BROKEN = "select * from parcels where json_extract('{}', badge) is null"  # SQLite quotes the cell


def people(rows: int = 1200) -> pd.DataFrame:
    """Parcels every 80 minutes, 66 days, each with a badge and an address of its own."""
    world = make_world(rows, step="80min").rename(columns={"parcel": "badge"})
    number = world["badge"].astype("str")
    return world.assign(badge=f"{MARKER}-" + number, email=f"{MARKER}-" + number + "@example.org")


@dataclass
class Life:
    """A folder in which a problem with personal columns has lived, and everything that was logged and printed."""

    folder: Path
    kind: str
    output: str = ""
    codes: dict[str, int] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "problem.toml"

    @property
    def home(self) -> Path:
        return self.folder / ".automl"

    def write(self, frame: pd.DataFrame, task: str = "binary", *, part: str = "part-0") -> None:
        others = {"binary": ["fate", "hours"], "multiclass": ["late", "hours"]}[task]
        frame = frame.drop(columns=others, errors="ignore")
        if self.kind == "parquet":
            (self.folder / "data").mkdir(exist_ok=True)
            frame.to_parquet(self.folder / "data" / f"{part}.parquet", index=False)
            return
        engine = sa.create_engine(f"sqlite:///{self.folder / 'world.db'}")
        times = frame["sent_at"].map(lambda t: t if isinstance(t, str) else f"{t:%Y-%m-%d %H:%M}")
        frame.assign(sent_at=times).to_sql("parcels", engine, index=False, if_exists="replace")
        engine.dispose()

    def problem(
        self, task: str = "binary", source: str = "", replace: dict[str, str] | None = None
    ) -> Path:
        text = PROBLEM.format(
            task=task,
            source=source or SOURCE[self.kind],
            target="late" if task == "binary" else "fate",
            metric="roc_auc" if task == "binary" else "log_loss",
        )
        for old, new in (replace or {}).items():
            assert old in text
            text = text.replace(old, new)
        self.file.write_text(text, encoding="utf-8")
        return self.file

    def run(self, name: str, *arguments: str) -> str:
        """A command in this process, heard at its streams, its file descriptors and all its loggers."""
        with (
            listening(self.folder.parent / f"{self.kind}.log") as heard,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "argv", ["automl", *arguments])
            try:
                cli.main()
            except SystemExit as end:
                self.codes[name] = int(end.code or 0)
        self.output += heard.text
        return heard.text

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.home / "automl.db")) as store:
            return store.execute(query).fetchall()


@dataclass
class Heard:
    """What was logged and printed in the meantime."""

    text: str = ""


@contextmanager
def listening(file: Path) -> Iterator[Heard]:
    heard = Heard()
    kept = [os.dup(1), os.dup(2)]
    with file.open("w+", encoding="utf-8", buffering=1) as ear:
        diary = logging.StreamHandler(ear)
        root, level = logging.getLogger(), logging.getLogger().level
        root.addHandler(diary)
        root.setLevel(logging.DEBUG)
        try:
            os.dup2(ear.fileno(), 1)
            os.dup2(ear.fileno(), 2)
            with redirect_stdout(ear), redirect_stderr(ear):
                yield heard
        finally:
            for target, source in enumerate(kept, start=1):
                os.dup2(source, target)
                os.close(source)
            root.removeHandler(diary)
            root.setLevel(level)
        heard.text = file.read_text(encoding="utf-8")


def found(folder: Path, needle: str) -> set[tuple[str, str]]:
    """Where a text stands: (file, column of a parquet file or `table.column` of a database)."""
    places = set()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        content = path.read_bytes()
        if content.startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(path)) as database:
                tables = database.execute("select name from sqlite_master where type = 'table'")
                for (table,) in tables.fetchall():
                    frame = pd.read_sql(f'select * from "{table}"', database)
                    places |= {
                        (name, f"{table}.{c}") for c in frame if _holds(frame[c].tolist(), needle)
                    }
        elif path.suffix == ".parquet":
            table = pq.read_table(path)
            places |= {
                (name, c) for c in table.column_names if _holds(table[c].to_pylist(), needle)
            }
            if needle in str(pq.read_metadata(path)) + str(table.schema.metadata):
                places.add((name, "metadata"))
        elif name.endswith(("-wal", "-shm")):
            continue  # pages of a database that is read above
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                if any(needle.encode() in packed.read(n) for n in packed.namelist()):
                    places.add((name, "packed"))
        elif needle.encode() in content:
            places.add((name, ""))
    return places


def _holds(cells: list[object], needle: str) -> bool:
    return any(
        needle in str(cell) or needle.encode() in bytes(cell)
        if isinstance(cell, bytes)
        else needle in str(cell)
        for cell in cells
    )
