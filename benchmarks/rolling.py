"""Rolling-origin comparison with AutoML libraries at equal time, and what carrying over saves.

Each cycle of a table trains on every row before a cut and is scored on the block after it. Peers run in
environments of their own, made on first use by `python -m benchmarks.rolling --install`. Every run is one
line of a JSON-lines file, from which an interrupted run resumes; a line is made again only if the
tool's version (ours: the digest of its code) has changed.

    python -m benchmarks.rolling [--small] [--json] [--part compare|carry|curve|ablate ...] [--seconds 60]
        [--tools automl lightgbm ...] [--tables NAME ...] [--cycles 0 2 4] [--catalogue FOLDER]
    python -m benchmarks.rolling --figures [--seconds 60] [--version DIGEST] [--tables NAME ...] [--json] [--keep]
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
TABLES = (
    "air_quality_uci",
    "aus_retail",
    "beijing_multisite",
    "beijing_pm25",
    "bike_sharing",
    "birdstrikes",
    "chicago_l_ridership",
    "chicago_taxi_tips",
    "elec2",
    "football_results",
    "hotel_bookings",
    "king_county",
    "lending_club",
    "m4_hourly",
    "occupancy",
    "online_shoppers",
    "steel_energy",
    "tetouan_power",
    "tourism_monthly",
    "weather_aus",
)
# Every second table by name is experimented on. The others are set apart, and run when nothing is left to settle
TRIED, APART = TABLES[::2], TABLES[1::2]
CARRIED = (  # of five cycles and more
    "elec2",
    "hotel_bookings",
    "football_results",
    "beijing_pm25",
    "birdstrikes",
    "chicago_l_ridership",
)
CYCLES = (0, 1, 2)
ABLATIONS = {  # what is put into the environment of the cycle that lacks something
    "no recency": "recency",
    "no ensemble": "ensemble",
    "random-split validation": "time",
    "one study": "studies",
}


def main() -> None:
    """Run the parts that the arguments name, print the table or the document."""
    args = _arguments()
    if args.install:
        for tool in PEERS:
            install(tool)
    folder = None if args.figures else find_tables(args.catalogue)
    file = None if args.small else args.lines or RESULTS / "rolling.jsonl"
    book = Book(file)
    tables: list[Table] = []
    if args.small or (folder is None and not args.figures):
        tables = [drifting(3000 if args.small else 6000)]
        args.seconds = 10.0 if args.small else args.seconds
        args.cycles = (1,) if args.small else args.cycles
    elif folder is not None:
        tables = open_tables(folder, args.tables)
    lines = [line for table in tables for line in _run(book, table, args)]
    if args.figures:
        newest = book.newest(args.seconds, args.version)
        lines = [x for x in newest if not args.tables or x.table in args.tables]
    document = _document(lines, args)
    if args.keep:
        name = "rolling.json" if args.seconds == 60 else f"rolling-{args.seconds:g}s.json"
        # the lines are in their own file
        kept = {k: v for k, v in document.items() if k != "lines"}
        (RESULTS / name).write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    sys.stdout.write(json.dumps(document) + "\n" if args.json else _text(document))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--small", action="store_true", help="one made table, 10 s a cycle, with LightGBM"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--install", action="store_true", help="make the peers' environments first")
    parser.add_argument("--part", nargs="+", default=["compare"])
    parser.add_argument("--tools", nargs="+", default=[OURS, *PEERS])
    parser.add_argument(
        "--tables", nargs="+", help="default: all twenty; for carry alone, six; with --figures, all"
    )
    parser.add_argument("--cycles", nargs="+", type=int, default=CYCLES)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--catalogue", help="folder of catalog.json and its parquet files")
    parser.add_argument("--lines", type=Path, help="default: benchmarks/results/rolling.jsonl")
    parser.add_argument("--figures", action="store_true", help="run nothing; figures of kept lines")
    parser.add_argument("--version", help="automl's, for --figures; default: the present code's")
    parser.add_argument("--keep", action="store_true", help="write them to benchmarks/results")
    args = parser.parse_args()
    args.version = args.version or version_of(OURS)
    if not args.tables and not args.figures:
        args.tables = list(CARRIED if args.part == ["carry"] else TABLES)
    return args


# ---- runs


def _run(book: Book, table: Table, args: argparse.Namespace) -> list[Line]:
    """All parts that the arguments name, of one table."""
    how = in_this_process if args.small else by_command
    tools = [t for t in args.tools if available(t)]
    parts, at = args.part, (args.seconds, args.seed)
    lines: list[Line] = []
    if args.small:  # a minute has no time for the slow ones, nor to run the same cycle twice
        lines += carry(book, how, table, args.cycles[0], 1, *at)
        parts, tools = ("compare",), [t for t in tools if t in (OURS, "lightgbm")]
        args.cycles = (lines[-1].cycle,)
    cycles = [c for c in args.cycles if table.cut(c).has_loss]  # not an office's Sunday
    if "compare" in parts:
        lines += [_compare(book, how, t, table, c, *at) for c in cycles for t in tools]
    if "carry" in parts:
        lines += carry(book, how, table, args.cycles[0], 4, *at)
    if "curve" in parts:
        shares = [share * args.seconds for share in SHARES]
        lines += [_compare(book, how, OURS, table, c, s, args.seed) for c in cycles for s in shares]
    if "ablate" in parts:
        lines += [ablate(book, how, table, c, *at, name) for c in cycles for name in ABLATIONS]
    return lines


def _compare(
    book: Book, how: Cycle, tool: str, table: Table, cycle: int, seconds: float, seed: int
) -> Line:
    wanted = Line(
        part="compare",
        tool=tool,
        version=version_of(tool),
        table=table.name,
        cycle=cycle,
        seconds=seconds,
        seed=seed,
    )

    def run() -> Line:
        with tempfile.TemporaryDirectory() as place:
            if tool == OURS:
                return ours(how, wanted, table, table.cut(cycle), Path(place))
            return peer(wanted, table.cut(cycle), Path(place))

    return book.get(wanted, run)


def carry(
    book: Book, how: Cycle, table: Table, first: int, count: int, seconds: float, seed: int
) -> list[Line]:
    """A chain of cycles in one workspace, each with a cold cycle and a mere refit of the same cut."""

    def wanted(tool: str, cycle: int) -> Line:
        return Line(
            part="carry",
            tool=tool,
            version=version_of(OURS),
            table=table.name,
            cycle=cycle,
            seconds=seconds,
            seed=seed,
        )

    within = range(first, min(first + count + 1, len(table.bounds) - 1))
    cycles = [c for c in within if table.cut(c).has_loss]
    steps = [wanted("first", first)]
    steps += [wanted(tool, cycle) for cycle in cycles[1:] for tool in ("refit", "chain")]
    lines = [line for line in map(book.find, steps) if line]
    if len(lines) < len(steps):  # an interrupted chain starts over: its workspace is gone
        lines = [book.get(line, lambda line=line: line) for line in _chain(how, table, steps)]
    return lines + [_compare(book, how, OURS, table, cycle, seconds, seed) for cycle in cycles[1:]]


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
    wanted = Line(
        part="ablate",
        tool=name,
        version=version_of(OURS),
        table=table.name,
        cycle=cycle,
        seconds=seconds,
        seed=seed,
    )

    def run() -> Line:
        with tempfile.TemporaryDirectory() as place:
            cut = table.cut(cycle)
            return ours(how, wanted, table, cut, Path(place), lacking=ABLATIONS[name])

    return book.get(wanted, run)


# ---- the document


def _document(runs: Sequence[Line], args: argparse.Namespace) -> dict[str, Any]:
    lines = [asdict(line) for line in runs]
    compared = [x for x in lines if x["seconds"] == args.seconds]
    return {
        **provenance("rolling"),
        "seconds": args.seconds,
        "figures": {
            **compared_figures(compared, OURS),
            **carried_figures(compared, OURS),
            **ablated_figures(compared, OURS, list(ABLATIONS)),
            **curve_figures(lines, OURS, args.seconds),
            **cost_figures(compared),
        },
        "halves": {
            half: compared_figures([x for x in compared if x["table"] in names], OURS)
            for half, names in (("experimented on", TRIED), ("set apart", APART))
        },
        "lines": lines,
    }


def _text(document: dict[str, Any]) -> str:
    lines = [f"{document['seconds']:g} s a cycle, {document['cores']} cores"]
    lines += [f"  {name:28}{value}" for name, value in document["figures"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
