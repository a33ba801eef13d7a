"""Rolling-origin comparison with AutoML libraries at equal time, and what carrying over saves.

Each cycle of a table trains on every row before a cut and is judged on the block after it. Peers run in
environments of their own, made on first use by `python -m benchmarks.rolling --install`. Every run is one
line of a JSON-lines file, which a run that is broken off goes on with; a line is made again only if the
tool's version (ours: the digest of its code) has changed.

    python -m benchmarks.rolling [--small] [--json] [--part compare|carry|curve|ablate ...] [--seconds 60]
        [--tools automl lightgbm ...] [--tables NAME ...] [--cycles 0 2 4] [--catalogue FOLDER]
    python -m benchmarks.rolling --told [--seconds 60] [--version DIGEST] [--tables NAME ...] [--json] [--keep]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.figures import (
    ablated_figures,
    carried_figures,
    compared_figures,
    cost_figures,
    curve_figures,
)
from benchmarks.lines import OURS, SHARES, Book, Line
from benchmarks.provenance import provenance
from benchmarks.tables import Table, drifting, find_tables, open_tables
from benchmarks.tools import (
    PEERS,
    Cycle,
    available,
    by_command,
    in_this_process,
    install,
    ours,
    peer,
    version_of,
)

RESULTS = Path(__file__).parent / "results"
TUNED = (
    "elec2",
    "hotel_bookings",
    "football_results",
    "beijing_pm25",
    "occupancy",
    "tourism_monthly",
)
UNTUNED = (
    "birdstrikes",  # the first four were looked at before the code was settled
    "lending_club",
    "chicago_l_ridership",
    "king_county",
    "weather_aus",
    "beijing_multisite",
    "chicago_taxi_tips",
    "online_shoppers",
    "m4_hourly",
)
CARRIED = (*TUNED[:4], "birdstrikes", "chicago_l_ridership")  # of five cycles and more
CYCLES = (0, 1, 2)
ABLATIONS = {  # what is put into the environment of the cycle that lacks something
    "no recency": "recency",
    "no ensemble": "ensemble",
    "random-split validation": "time",
    "one study": "studies",
}


def main() -> None:
    """Run what is asked, print the table or the document."""
    asked = _arguments()
    if asked.install:
        for tool in PEERS:
            install(tool)
    folder = None if asked.told else find_tables(asked.catalogue)
    file = None if asked.small else asked.lines or RESULTS / "rolling.jsonl"
    book = Book(file)
    tables: list[Table] = []
    if asked.small or (folder is None and not asked.told):
        tables = [drifting(3000 if asked.small else 6000)]
        asked.seconds = 10.0 if asked.small else asked.seconds
        asked.cycles = (1,) if asked.small else asked.cycles
    elif folder is not None:
        tables = open_tables(folder, asked.tables)
    told = [line for table in tables for line in _run(book, table, asked)]
    if asked.told:
        lines = book.newest(asked.seconds, asked.version)
        told = [x for x in lines if not asked.tables or x.table in asked.tables]
    document = _document(told, asked)
    if asked.keep:
        name = "rolling.json" if asked.seconds == 60 else f"rolling-{asked.seconds:g}s.json"
        kept = {k: v for k, v in document.items() if k != "lines"}  # those are in the lines' file
        (RESULTS / name).write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    sys.stdout.write(json.dumps(document) + "\n" if asked.json else _text(document))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--small", action="store_true", help="one made table, 10 s a cycle, beside LightGBM"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--install", action="store_true", help="make the peers' environments first")
    parser.add_argument("--part", nargs="+", default=["compare"])
    parser.add_argument("--tools", nargs="+", default=[OURS, *PEERS])
    parser.add_argument(
        "--tables", nargs="+", help="default: fifteen; for carry alone, six; told: all"
    )
    parser.add_argument("--cycles", nargs="+", type=int, default=CYCLES)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--catalogue", help="folder of catalog.json and its parquet files")
    parser.add_argument("--lines", type=Path, help="default: benchmarks/results/rolling.jsonl")
    parser.add_argument("--told", action="store_true", help="run nothing: figures of kept lines")
    parser.add_argument("--version", help="of ours, for --told; default: the present code's")
    parser.add_argument("--keep", action="store_true", help="write them to benchmarks/results")
    asked = parser.parse_args()
    asked.version = asked.version or version_of(OURS)
    if not asked.tables and not asked.told:
        asked.tables = list(CARRIED if asked.part == ["carry"] else (*TUNED, *UNTUNED))
    return asked


# ---- runs


def _run(book: Book, table: Table, asked: argparse.Namespace) -> list[Line]:
    """Everything asked for of one table."""
    how = in_this_process if asked.small else by_command
    tools = [t for t in asked.tools if available(t)]
    parts, at = asked.part, (asked.seconds, asked.seed)
    told: list[Line] = []
    if asked.small:  # a minute has no time for the slow ones, nor to run the same cycle twice
        told += carry(book, how, table, asked.cycles[0], 1, *at)
        parts, tools = ("compare",), [t for t in tools if t in (OURS, "lightgbm")]
        asked.cycles = (told[-1].cycle,)
    cycles = [c for c in asked.cycles if table.cut(c).judgeable]  # not an office's Sunday
    if "compare" in parts:
        told += [_compare(book, how, t, table, c, *at) for c in cycles for t in tools]
    if "carry" in parts:
        told += carry(book, how, table, asked.cycles[0], 4, *at)
    if "curve" in parts:
        shares = [share * asked.seconds for share in SHARES]
        told += [_compare(book, how, OURS, table, c, s, asked.seed) for c in cycles for s in shares]
    if "ablate" in parts:
        told += [ablate(book, how, table, c, *at, name) for c in cycles for name in ABLATIONS]
    return told


def _compare(
    book: Book, how: Cycle, tool: str, table: Table, cycle: int, seconds: float, seed: int
) -> Line:
    wanted = Line("compare", tool, version_of(tool), table.name, cycle, seconds, seed, None, 0.0)

    def run() -> Line:
        with tempfile.TemporaryDirectory() as place:
            if tool == OURS:
                return ours(how, wanted, table, table.cut(cycle), Path(place))
            return peer(wanted, table.cut(cycle), Path(place))

    return book.get(wanted, run)


def carry(
    book: Book, how: Cycle, table: Table, first: int, count: int, seconds: float, seed: int
) -> list[Line]:
    """A chain of cycles in one workspace, each beside a cold one and a mere refit of the same cut."""

    def wanted(tool: str, cycle: int) -> Line:
        return Line("carry", tool, version_of(OURS), table.name, cycle, seconds, seed, None, 0.0)

    within = range(first, min(first + count + 1, len(table.bounds) - 1))
    cycles = [c for c in within if table.cut(c).judgeable]
    steps = [wanted("first", first)]
    steps += [wanted(tool, cycle) for cycle in cycles[1:] for tool in ("refit", "chain")]
    told = [line for line in map(book.find, steps) if line]
    if len(told) < len(steps):  # a chain that was broken off begins again: its workspace is gone
        told = [book.get(line, lambda line=line: line) for line in _chain(how, table, steps)]
    return told + [_compare(book, how, OURS, table, cycle, seconds, seed) for cycle in cycles[1:]]


def _chain(how: Cycle, table: Table, steps: Sequence[Line]) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as name:
        chain, aside = Path(name) / "chain", Path(name) / "refit"
        for wanted in steps:
            cut = table.cut(wanted.cycle)
            if wanted.tool != "refit":
                yield ours(how, wanted, table, cut, chain)
                continue
            shutil.copytree(chain, aside)
            yield ours(how, wanted, table, cut, aside, "refit")
            shutil.rmtree(aside)


def ablate(
    book: Book, how: Cycle, table: Table, cycle: int, seconds: float, seed: int, name: str
) -> Line:
    """A cold cycle without one of its parts."""
    wanted = Line("ablate", name, version_of(OURS), table.name, cycle, seconds, seed, None, 0.0)

    def run() -> Line:
        with tempfile.TemporaryDirectory() as place:
            cut = table.cut(cycle)
            return ours(how, wanted, table, cut, Path(place), lacking=ABLATIONS[name])

    return book.get(wanted, run)


# ---- what is said


def _document(told: Sequence[Line], asked: argparse.Namespace) -> dict[str, Any]:
    lines = [asdict(line) for line in told]
    compared = [x for x in lines if x["seconds"] == asked.seconds]
    return {
        **provenance("rolling"),
        "seconds": asked.seconds,
        "figures": {
            **compared_figures(compared, OURS),
            **carried_figures(compared, OURS),
            **ablated_figures(compared, OURS, list(ABLATIONS)),
            **curve_figures(lines, OURS, asked.seconds),
            **cost_figures(compared),
        },
        "halves": {
            half: compared_figures([x for x in compared if x["table"] in names], OURS)
            for half, names in (("tuned on", TUNED), ("not tuned on", UNTUNED))
        },
        "lines": lines,
    }


def _text(document: dict[str, Any]) -> str:
    told = [f"{document['seconds']:g} s a cycle, {document['cores']} cores"]
    told += [f"  {name:28}{value}" for name, value in document["figures"].items()]
    return "\n".join(told) + "\n"


if __name__ == "__main__":
    main()
