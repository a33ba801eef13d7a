"""Pulling fresh history: the first pull, the next one, and a bare copy for comparison.

10 million rows x 12 columns in PostgreSQL, in SQLite and as parquet files; then 1 % new rows. Each pull
runs in a process of its own, whose peak memory is measured. The bare copy reads the same rows of PostgreSQL
over ADBC and writes the batches to one parquet file, and checks nothing.

    python -m benchmarks.pull [--small] [--json] [--rows N] [--only postgres] [--keep]
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.provenance import provenance

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "pull.json"
START = datetime(2020, 1, 1, tzinfo=UTC)
DAYS, FRESH_DAYS = 1000, 10  # 1 % new rows are ten more days
AT_ONCE = 250_000
SOURCES = ("postgres", "sqlite", "parquet")
PROBLEM = """
name = "pull"
task = "binary"
[history]
{source}
time = "at"
key = ["id"]
target = "late"
[metric]
name = "roc_auc"
[sweep]
trials = 1
[validation]
block = "10d"
"""
QUERY = 'query = "select * from rows where at < :as_of"'


def main() -> None:
    """Measure every source, print the table or the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--small", action="store_true", help="300,000 rows")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--only", choices=SOURCES)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/pull.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        sys.stdout.write(json.dumps(_child(*args.child)) + "\n")
        return
    rows = 300_000 if args.small else args.rows
    runs = {name: _measure(name, rows) for name in SOURCES if args.only in (None, name)}
    document = _document(runs, rows)
    if args.keep:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(document) + "\n" if args.json else _table(document))


def _measure(name: str, rows: int) -> dict[str, Any]:
    from tests.support.postgres import open_server

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if name != "postgres":
            return _pulls(name, folder, rows, "")
        with open_server() as server:
            return _pulls(name, folder, rows, server.new_database())


def _pulls(name: str, folder: Path, rows: int, url: str) -> dict[str, Any]:
    source = {
        "postgres": f'source = "{url}"\n{QUERY}',
        "sqlite": f'source = "sqlite:///rows.db"\n{QUERY}',
        "parquet": 'files = "rows/*.parquet"',
    }[name]
    file = folder / "problem.toml"
    file.write_text(PROBLEM.format(source=source), encoding="utf-8")
    _load(name, folder, url, 0, rows, rows)
    bare: dict[str, Any] = {}
    if name == "postgres":
        bare = min((_run("bare", file) for _ in range(2)), key=lambda r: r["seconds"])
    first = _run("first", file)
    _load(name, folder, url, rows, rows + rows * FRESH_DAYS // DAYS, rows)
    second = _run("second", file)
    runs = {"bare": bare, "first": first, "second": second}
    print(json.dumps({name: runs}), file=sys.stderr, flush=True)
    return runs


def _run(what: str, file: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.pull", "--child", what, str(file)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _child(what: str, place: str) -> dict[str, Any]:
    from automl import history
    from automl.problem import load_problem
    from automl.workspace import open_workspace

    problem = load_problem(place)
    workspace = open_workspace(problem.file)
    days = DAYS + (FRESH_DAYS if what == "second" else 0)
    as_of = START + timedelta(days=days)
    if what == "bare":
        return _bare(problem.history.source, as_of, problem.file.parent / "bare.parquet")
    folders = history.Folders(workspace.history(problem.name))
    kinds = None
    if what == "second":
        manifest = next(folders.snapshots.glob("*.json"))
        kinds = json.loads(manifest.read_text(encoding="utf-8"))["kinds"]
    before = _size(folders.root)
    started = time.monotonic()
    snapshot = history.pull(problem, workspace, as_of, kinds=kinds)
    seconds = time.monotonic() - started
    pull = history.pulls(folders)[-1]
    return {
        "seconds": seconds,
        "rows": snapshot.rows,
        "fetched": pull.fetched,
        "full": pull.full,
        "bytes": _size(folders.root) - before,
        "peak_gb": _peak(),
    }


def _bare(url: str, as_of: datetime, target: Path) -> dict[str, Any]:
    import adbc_driver_postgresql.dbapi as adbc

    started = time.monotonic()
    rows = 0
    with adbc.connect(url.replace("+psycopg", "")) as connection, connection.cursor() as cursor:
        cursor.execute(f"select * from rows where at < '{as_of:%Y-%m-%d}'")  # noqa: S608
        reader = cursor.fetch_record_batch()
        with pq.ParquetWriter(target, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
                rows += len(batch)
    seconds = time.monotonic() - started
    size = target.stat().st_size
    target.unlink()
    return {"seconds": seconds, "rows": rows, "bytes": size, "peak_gb": _peak()}


def _peak() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would tell the peak of the parent where that is higher
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # bytes on macOS


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


# ---------------------------------------------------------------- the rows


def _rows(low: int, high: int, whole: int) -> Iterator[pa.Table]:
    """Rows `low` to `high`; `whole` of them fill DAYS days."""
    step = DAYS * 86400 * 1_000_000 // whole  # microseconds from row to row
    for start in range(low, high, AT_ONCE):
        number = np.arange(start, min(start + AT_ONCE, high))
        random = np.random.default_rng(start)
        numbers = {f"x{i}": random.normal(size=len(number)) for i in range(4)}
        gaps = random.random(len(number)) < 0.1
        at = pd.Timestamp(START.replace(tzinfo=None)).to_datetime64().astype("datetime64[us]")
        yield pa.table(
            {
                "id": number,
                "at": pa.array(at + (number * step).astype("timedelta64[us]")),
                **numbers,
                "gappy": pa.array(random.exponential(size=len(number)), mask=gaps),
                "hour": pa.array(random.integers(0, 24, len(number)), pa.int32()),
                "count": random.poisson(30, len(number)),
                "carrier": np.char.add("carrier ", random.integers(0, 50, len(number)).astype(str)),
                "street": np.char.add("street ", random.integers(0, 2000, len(number)).astype(str)),
                "late": pa.array(random.integers(0, 2, len(number)), pa.int32()),
            }
        )


def _load(name: str, folder: Path, url: str, low: int, high: int, whole: int) -> None:
    if name == "parquet":
        (folder / "rows").mkdir(exist_ok=True)
        for number, table in enumerate(_rows(low, high, whole)):
            pq.write_table(table, folder / "rows" / f"{low:09d}-{number:04d}.parquet")
    elif name == "sqlite":
        _load_sqlite(folder / "rows.db", low, high, whole)
    else:
        import adbc_driver_postgresql.dbapi as adbc

        with adbc.connect(url.replace("+psycopg", "")) as connection, connection.cursor() as cursor:
            for table in _rows(low, high, whole):
                cursor.adbc_ingest("rows", table, mode="create_append")
            connection.commit()
            if low == 0:
                cursor.execute("create index on rows (at)")
            connection.commit()
        with adbc.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.cursor().execute("vacuum analyze rows")


def _load_sqlite(file: Path, low: int, high: int, whole: int) -> None:
    with sqlite3.connect(file) as connection:
        for table in _rows(low, high, whole):
            frame = table.to_pandas()
            frame["at"] = frame["at"].dt.strftime("%Y-%m-%d %H:%M:%S.%f")
            if low == 0:
                names = ", ".join(frame.columns)
                connection.execute(f"create table if not exists rows ({names})")
            marks = ", ".join("?" * len(frame.columns))
            cells = frame.astype("object").where(frame.notna(), None)
            connection.executemany(
                f"insert into rows values ({marks})",  # noqa: S608
                zip(*(cells[c].tolist() for c in cells), strict=True),
            )
        connection.execute("create index if not exists at on rows (at)")
    connection.close()


# ---------------------------------------------------------------- the document


def _document(runs: dict[str, Any], rows: int) -> dict[str, Any]:
    def ratio(name: str, what: str) -> float:
        return round(runs[name]["second"][what] / runs[name]["first"][what], 4)

    return {
        **provenance("pull"),
        "rows": rows,
        "figures": {
            "second_over_first_seconds": {name: ratio(name, "seconds") for name in runs},
            "second_over_first_bytes": {name: ratio(name, "bytes") for name in runs},
            "speed_over_bare": {
                name: round(r["bare"]["seconds"] / r["first"]["seconds"], 3)
                for name, r in runs.items()
                if r["bare"]
            },
            "peak_gb": {
                name: round(max(r["first"]["peak_gb"], r["second"]["peak_gb"]), 3)
                for name, r in runs.items()
            },
        },
        "runs": runs,
    }


def _table(document: dict[str, Any]) -> str:
    figures = document["figures"]
    lines = [
        f"{document['rows']:,} rows x 12 columns, then 1 % more; {document['cores']} cores",
        "",
    ]
    lines.append(
        f"{'source':10}{'first s':>9}{'second s':>9}{'ratio':>8}{'bytes':>8}{'peak GB':>9}{'/ bare':>8}"
    )
    for name, runs in document["runs"].items():
        bare = figures["speed_over_bare"].get(name)
        lines.append(
            f"{name:10}{runs['first']['seconds']:9.1f}{runs['second']['seconds']:9.2f}"
            f"{figures['second_over_first_seconds'][name]:8.3f}{figures['second_over_first_bytes'][name]:8.3f}"
            f"{figures['peak_gb'][name]:9.2f}{f'{bare:.2f}' if bare else '-':>8}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
