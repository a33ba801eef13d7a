"""How many tables `automl init` reads right when it is given the target alone.

Time, task and positive class must all be what the catalogue says, on each of its tables that has dates. Where the
catalogue names columns that identify a row's subject, the key must be made of them and the time, and differ in every
row; the series of a panel may be named by one of several such columns. The same again with columns called c1, c2, ...,
and with rows in random order as well, where neither a name nor the order of a table helps.

    python -m benchmarks.init [--small] [--json] [--tables FOLDER] [--keep]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from automl import init
from automl.errors import AutomlError
from benchmarks.provenance import provenance
from benchmarks.tables import TASKS, drifting, find_tables

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "init.json"
WAYS = ("", "renamed", "shuffled")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Known:
    """A table and what is known of it; `positive` None: the larger number, which is the default."""

    name: str
    frame: pd.DataFrame
    target: str
    time: str
    task: str
    positive: Any = None
    ids: Sequence[str] = ()


@dataclass(slots=True, kw_only=True)
class Found:
    """What was guessed right, and the comments of what was not."""

    guesses: bool = False
    key: bool | None = None  # None: the catalogue names no id
    wrong: dict[str, str] = field(default_factory=dict)


def main() -> None:
    """Guess every table in every way; print the table or the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--small", action="store_true", help="three made tables")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tables", help="folder of the catalogue")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/init.json")
    args = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # nothing is predicted in this process
    folder = find_tables(args.tables)
    if not args.small and folder is None:
        raise SystemExit(
            "there is no catalogue of tables: name its folder with --tables, or use --small"
        )
    known = made_tables() if args.small or folder is None else catalogued(folder)
    document = measured(known)
    if args.keep and not args.small:
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(document) + "\n" if args.json else _text(document))


# ---------------------------------------------------------------- tables


def catalogued(folder: Path) -> Iterator[Known]:
    """The tables of a catalogue whose times are dates."""
    catalogue = json.loads((folder / "catalog.json").read_text(encoding="utf-8"))
    for entry in catalogue["datasets"]:
        frame = pd.read_parquet(folder / entry["file"])
        if frame[entry["time_column"]].dtype.kind != "M":
            continue
        positive = entry.get("positive_label")
        numeric = pd.api.types.is_numeric_dtype(frame[entry["target"]].dtype)
        default = numeric and positive is not None and positive == frame[entry["target"]].max()
        yield Known(
            name=entry["name"],
            frame=frame,
            target=entry["target"],
            time=entry["time_column"],
            task=TASKS.get(entry["task"], entry["task"]),
            positive=None if default else positive,
            ids=entry.get("id_columns", ()),
        )


def made_tables() -> Iterator[Known]:
    """A drifting table, a panel with a text target, and orders with a time of delivery."""
    random = np.random.default_rng(0)
    table = drifting(1500)
    yield Known(name="drifting", frame=table.frame, target="hit", time="at", task="binary")
    days = pd.date_range("2025-01-01", periods=200).repeat(6)
    panel = pd.DataFrame({"day": days, "shop": np.tile(list("abcdef"), 200)})
    panel["load"] = random.normal(size=len(panel)).round(2)
    panel["sold_out"] = np.where(random.random(len(panel)) < 0.6, "yes", "no")
    yield Known(
        name="panel",
        frame=panel,
        target="sold_out",
        time="day",
        task="binary",
        positive="yes",
        ids=["shop"],
    )
    placed = pd.Timestamp("2025-01-01") + pd.to_timedelta(np.arange(2000) // 3 * 40, unit="min")
    orders = pd.DataFrame({"order_id": np.arange(7000, 9000), "placed": placed})
    orders["delivered"] = placed + pd.to_timedelta(random.integers(1, 40, 2000), unit="h")
    orders["items"] = random.integers(1, 9, 2000)
    orders["grade"] = random.integers(1, 4, 2000)
    yield Known(
        name="orders",
        frame=orders,
        target="grade",
        time="placed",
        task="multiclass",
        ids=["order_id"],
    )


# ---------------------------------------------------------------- guesses


def measured(known: Iterator[Known]) -> dict[str, Any]:
    """The document: figures of each way, and each wrong guess with its comment in the problem file."""
    started = time.monotonic()
    found: dict[str, dict[str, Found]] = {way: {} for way in WAYS}
    for table in known:
        for way in WAYS:
            found[way][table.name] = guessed(table, way)
    figures: dict[str, Any] = {}
    for way, tables in found.items():
        end = f"_{way}" if way else ""
        keys = [t.key for t in tables.values() if t.key is not None]
        figures[f"guesses_right{end}"] = sum(t.guesses for t in tables.values())
        figures[f"keys_right{end}"] = sum(keys)
        figures |= {"tables": len(tables), "tables_with_ids": len(keys)}
    wrong = {
        way or "plain": {name: t.wrong for name, t in tables.items() if t.wrong}
        for way, tables in found.items()
    }
    comments = [c for tables in wrong.values() for w in tables.values() for c in w.values()]
    return {
        **provenance("init"),
        "figures": {**figures, "wrong_guesses_explained": sum(map(bool, comments)), "wrong_guesses": len(comments)},
        "wrong": wrong,
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def guessed(table: Known, way: str) -> Found:
    """Run `automl init` with the target alone, and compare its file with what is known."""
    names = {n: f"c{i}" if way else n for i, n in enumerate(table.frame.columns, 1)}
    frame = table.frame.rename(columns=names)
    if way == "shuffled":
        frame = frame.sample(frac=1, random_state=0).reset_index(drop=True)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data.parquet")
        frame.to_parquet(data)
        try:
            text = init(data, target=names[table.target], folder=folder).problem_toml
        except AutomlError as error:
            return Found(key=False if table.ids else None, wrong={"init": str(error)})
    return _compared(table, names, text)


def _compared(table: Known, names: dict[str, str], text: str) -> Found:
    content = tomllib.loads(text)
    history, found = content["history"], Found()
    expected = {"time": names[table.time], "task": table.task, "positive": table.positive}
    given = {**history, "task": content["task"]}
    for key, value in expected.items():
        if given.get(key) != value:
            found.wrong[key] = comment_of(text, key)
    found.guesses = not found.wrong
    if table.ids:
        subject = [n for n in history.get("key", ()) if n != names[table.time]]
        found.key = bool(subject) and set(subject) <= {names[i] for i in table.ids}
        if not found.key:
            found.wrong["key"] = comment_of(text, "key")
    return found


def comment_of(text: str, key: str) -> str:
    """The comment of a key in a problem file: on its line, or above it."""
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if line.startswith((f"{key} ", f"# {key}: none")):
            behind = line.removeprefix("# ").partition(" # ")[2].strip()
            above: list[str] = []
            for earlier in reversed(lines[:place]):
                if not earlier.startswith("#"):
                    break
                above.insert(0, earlier.lstrip("# "))
            return behind or " ".join(above)
    return ""


def _text(document: dict[str, Any]) -> str:
    lines = [f"{name:28} {value}" for name, value in document["figures"].items()]
    for way, tables in document["wrong"].items():
        for name, wrong in tables.items():
            lines += [f"{way}, {name}: {key}: {comment}" for key, comment in wrong.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
