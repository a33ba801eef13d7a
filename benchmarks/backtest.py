"""What retraining policies would have earned on flights and three tables, and whether a backtest can tell beforehand.

`automl backtest` replays about twenty cycles of each table under six policies. The first half of the cycles recommends a policy, the second half
scores it. Every cycle stays in a workspace below `--place`, under the digest of the code that made it, so that an
interrupted run goes on where it was.

    python -m benchmarks.backtest [--small] [--json] [--keep] [--tables NAME ...] [--policies NAME ...]
        [--place FOLDER] [--catalogue FOLDER]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.backtest_figures import figures_of
from benchmarks.provenance import provenance
from benchmarks.tables import DRIFTING, KEY, METRICS, Table, drifting, find_tables, open_tables
from benchmarks.tools import PROBLEM, version_of

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "backtest.json"
PLOT = ROOT / "docs" / "pictures" / "backtest-flights.svg"
PLACE = ROOT / "benchmarks" / ".backtest"
FLIGHTS = "flights"
POLICIES = ("full", "warm", "refit", "never", "on_degradation", "cost_aware")
SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A table's window, and how long its cycles may take."""

    name: str
    start: str
    end: str
    every: str
    seconds: int


CASES = (
    Case(name=FLIGHTS, start="2013-08-05", end="2013-12-30", every="7d", seconds=15),
    Case(name="elec2", start="1998-02-02", end="1998-11-09", every="14d", seconds=10),
    Case(name="bike_sharing", start="2012-06-04", end="2012-10-22", every="7d", seconds=10),
    Case(name="hotel_bookings", start="2017-02-06", end="2017-06-26", every="7d", seconds=10),
)
SMALL = Case(name=DRIFTING, start="2022-05-01", end="2023-01-01", every="1mo", seconds=10)


def main() -> None:
    """Run the tables that the arguments name, print the table or the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--small", action="store_true", help="one made table, two quick families, four policies"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results and the plot")
    parser.add_argument("--tables", nargs="+", default=[case.name for case in CASES])
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--place", type=Path, default=PLACE, help="where the workspaces are")
    parser.add_argument("--catalogue", help="folder of catalog.json and its parquet files")
    args = parser.parse_args()
    if args.small:
        with tempfile.TemporaryDirectory() as folder:
            runs = {DRIFTING: _run(SMALL, _small(Path(folder)), POLICIES[:4])}
    else:
        place = args.place / version_of("automl")
        cases = [case for case in CASES if case.name in args.tables]
        runs = {c.name: _run(c, _prepared(c, place, args.catalogue), args.policies) for c in cases}
    document = _document(runs)
    if args.keep:
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        if FLIGHTS in runs:
            shutil.copyfile(Path(runs[FLIGHTS]["folder"]) / "backtest.svg", PLOT)
    sys.stdout.write(json.dumps(document) + "\n" if args.json else _text(document))


# ------------------------------------------------------------ problems


def _prepared(case: Case, place: Path, catalogue: str | None) -> Path:
    """The problem file of a table in its own folder, written once."""
    folder = place / case.name
    file = folder / "problem.toml"
    if file.exists():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    if case.name == FLIGHTS:
        return _flights(case, folder)
    tables = find_tables(catalogue)
    if tables is None:
        raise SystemExit("found no catalogue of tables; give --catalogue, or --tables flights")
    return _write(case, open_tables(tables, [case.name])[0], folder)


def _flights(case: Case, folder: Path) -> Path:
    from benchmarks.flights import prepare

    return prepare(folder, f"{case.seconds}s", small=False)


def _small(folder: Path) -> Path:
    file = _write(SMALL, drifting(1500), folder)
    text = file.read_text(encoding="utf-8").replace(
        'budget = "10s"', 'trials = 3\nfamilies = ["baseline", "linear"]'
    )
    file.write_text(text, encoding="utf-8")
    return file


def _write(case: Case, table: Table, folder: Path) -> Path:
    frame = table.frame.sort_values(table.time, kind="stable").reset_index(names=KEY)
    frame.to_parquet(folder / "rows.parquet", index=False)
    names = {"name": table.name.replace("_", "-"), "task": table.task, "time": table.time}
    names |= {"key": KEY, "target": table.target, "metric": METRICS[table.task]}
    text = PROBLEM.format(**names, seconds=case.seconds, seed=SEED, block=case.every)
    file = folder / "problem.toml"
    file.write_text(text, encoding="utf-8")
    return file


def _run(case: Case, file: Path, policies: Any) -> dict[str, Any]:
    """The document of `automl backtest`, which goes on where it was interrupted."""
    window = ["--from", case.start, "--to", case.end, "--every", case.every]
    command = [sys.executable, "-m", "automl.cli", "backtest", str(file), *window, "--json"]
    command += ["--policies", ",".join(policies)]
    print(f"{case.name}: {case.start} to {case.end}", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{case.name}: automl backtest ended with {done.returncode}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


# ------------------------------------------------------------ the document


def _document(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    kept = ("metric", "from", "to", "every", "cycles", "batches", "recommendation", "policies")
    tables = {name: {k: run[k] for k in (*kept, "seconds")} for name, run in runs.items()}
    events = {name: run["events"] for name, run in runs.items()}
    figures, halves = figures_of(events)
    for name, half in halves.items():
        tables[name]["halves"] = half
    return {**provenance("backtest"), "figures": figures, "tables": tables}


def _text(document: dict[str, Any]) -> str:
    lines = [f"{len(document['tables'])} tables, {document['cores']} cores"]
    for name, table in document["tables"].items():
        lines.append(f"{name}, {table['cycles']} cycles, {table['metric']}")
        for row in sorted(table["policies"], key=lambda r: r["loss"] or 0.0):
            share = row["regret"] / max(row["loss"] - row["regret"], 1e-12)
            lines.append(
                f"  {row['policy']:16}{row['score']:.5g}  regret {share:+.2%}  "
                f"{row['core_seconds']:.0f} core-s  {row['promotions']} promoted"
            )
        half = table.get("halves", {})
        if half:
            lines.append(f"  first half: {half['recommended']}; best in the second: {half['best']}")
    lines += [f"  {name:52}{value}" for name, value in document["figures"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
