"""Rolling-origin comparison with AutoML libraries at equal time, and what carrying over saves.

Each cycle of a table trains on every row before a cut and is judged on the block after it. Peers run in
environments of their own, made on first use by `python -m benchmarks.rolling --install`. Every run is one
line of a JSON-lines file, which a run that is broken off goes on with; a line is made again only if the
tool's version (ours: the digest of its code) has changed.

    python -m benchmarks.rolling [--small] [--json] [--part compare|carry|curve|ablate ...] [--seconds 60]
        [--tools automl lightgbm ...] [--tables NAME ...] [--cycles 0 2 4] [--catalogue FOLDER]
    python -m benchmarks.rolling --told [--seconds 60] [--json] [--keep]    # figures of all kept lines
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from automl.workspace import DEFAULTS, open_workspace

for key, value in DEFAULTS.items():  # before numpy and LightGBM read the environment
    os.environ.setdefault(key, value)

import numpy as np  # noqa: E402

from automl import report  # noqa: E402
from automl.problem import load_problem  # noqa: E402
from benchmarks.figures import (  # noqa: E402
    ablated_figures,
    carried_figures,
    compared_figures,
    cost_figures,
    curve_figures,
    lines_of,
)
from benchmarks.provenance import provenance  # noqa: E402
from benchmarks.tables import KEY, Cut, Table, drifting, find_tables, open_tables  # noqa: E402

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ENVIRONMENTS = ROOT / "benchmarks" / ".peers"
PEERS = {  # what each environment holds
    "autogluon": ["autogluon.tabular[lightgbm,catboost,xgboost]>=1.5,<1.6", "typing_extensions"],
    "flaml": ["flaml[automl]>=2.4,<3", "pyarrow"],
    "optuna": ["optuna>=5,<6", "lightgbm>=4.7,<5", "pandas", "pyarrow", "scikit-learn"],
    "lightgbm": ["lightgbm>=4.7,<5", "pandas", "pyarrow", "scikit-learn"],
}
OURS = "automl"
TUNED = ("elec2", "hotel_bookings", "football_results", "beijing_pm25")
UNSEEN = ("birdstrikes", "lending_club", "chicago_l_ridership", "king_county")
FRESH = ("weather_aus",)  # first run when the code was settled
CARRIED = (*TUNED, "birdstrikes", "chicago_l_ridership")  # of five cycles and more
CYCLES = (0, 1, 2)
TALK = {"cli", "registry", "report", "conformance"}  # folders and files on which no loss depends
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)  # of the seconds, for the curve of quality over cost
ABLATIONS = {  # what is put into the environment of the cycle that lacks something
    "no recency": "recency",
    "no ensemble": "ensemble",
    "random-split validation": "time",
    "one study": "studies",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One run: how it was made, and how it ended."""

    part: str  # compare | carry | ablate
    tool: str
    version: str
    table: str
    cycle: int
    seconds: float
    seed: int
    loss: float | None  # None: it failed
    wall: float
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> tuple[Any, ...]:
        """What makes two runs the same."""
        return self.part, self.tool, self.version, self.table, self.cycle, self.seconds, self.seed


Cycle = Callable[[Path, datetime, str, str], dict[str, Any]]  # file, as_of, plan, what it lacks


class Book:
    """The lines of earlier runs, a place for new ones, and how a cycle of ours is run."""

    def __init__(self, file: Path | None, cycle: Cycle) -> None:
        self.file, self.cycle = file, cycle
        self.lines = [Line(**told) for told in lines_of(file)] if file else []

    def newest(self, seconds: float) -> list[Line]:
        """All lines of that budget, ours of the present code alone, and those of a curve up to it."""
        at, mine = {round(share * seconds, 6) for share in SHARES}, _version(OURS)
        last = {
            (x.part, x.tool, x.table, x.cycle, x.seconds): x
            for x in self.lines
            if x.seconds in at and (x.version == mine or x.tool in PEERS)
        }
        return list(last.values())

    def find(self, wanted: Line) -> Line | None:
        """The line of that id, if it ended well."""
        return next((x for x in self.lines if x.id == wanted.id and x.loss is not None), None)

    def get(self, wanted: Line, run: Callable[[], Line]) -> Line:
        """The line of that id, run if need be."""
        line = self.find(wanted)
        if line:
            return line
        line = run()
        self.lines.append(line)
        told = json.dumps(asdict(line))
        print(told, file=sys.stderr, flush=True)
        if self.file:
            self.file.parent.mkdir(exist_ok=True)
            with self.file.open("a", encoding="utf-8") as out:
                out.write(told + "\n")
        return line


def main() -> None:
    """Run what is asked, print the table or the document."""
    asked = _arguments()
    if asked.install:
        for tool in PEERS:
            _environment(tool)
    folder = None if asked.told else find_tables(asked.catalogue)
    file = None if asked.small else asked.lines or RESULTS / "rolling.jsonl"
    book = Book(file, _cycle_here if asked.small else _cycle_command)
    tables: list[Table] = []
    if asked.small or (folder is None and not asked.told):
        tables = [drifting()]
        asked.seconds = 10.0 if asked.small else asked.seconds
        asked.cycles = (1,) if asked.small else asked.cycles
    elif folder is not None:
        tables = open_tables(folder, asked.tables)
    told = [line for table in tables for line in _run(book, table, asked)]
    document = _document(book.newest(asked.seconds) if asked.told else told, asked)
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
    parser.add_argument("--tables", nargs="+", help="default: all nine; for carry alone, six")
    parser.add_argument("--cycles", nargs="+", type=int, default=CYCLES)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--catalogue", help="folder of catalog.json and its parquet files")
    parser.add_argument("--lines", type=Path, help="default: benchmarks/results/rolling.jsonl")
    parser.add_argument("--told", action="store_true", help="run nothing: figures of kept lines")
    parser.add_argument("--keep", action="store_true", help="write them to benchmarks/results")
    asked = parser.parse_args()
    if not asked.tables:
        asked.tables = list(CARRIED if asked.part == ["carry"] else (*TUNED, *UNSEEN, *FRESH))
    return asked


# ---- runs


def _run(book: Book, table: Table, asked: argparse.Namespace) -> list[Line]:
    """Everything asked for of one table."""
    tools = [t for t in asked.tools if t == OURS or (ENVIRONMENTS / t / "bin" / "python").exists()]
    parts, at = asked.part, (asked.seconds, asked.seed)
    told: list[Line] = []
    if asked.small:  # a minute has no time for the slow ones, nor to run the same cycle twice
        told += carry(book, table, asked.cycles[0], 1, *at)
        parts, tools = ("compare",), [t for t in tools if t in (OURS, "lightgbm")]
        asked.cycles = (told[-1].cycle,)
    if "compare" in parts:
        told += [_compare(book, t, table, c, *at) for c in asked.cycles for t in tools]
    if "carry" in parts:
        told += carry(book, table, asked.cycles[0], 4, *at)
    if "curve" in parts:
        shares = [share * asked.seconds for share in SHARES]
        told += [
            _compare(book, OURS, table, c, s, asked.seed) for c in asked.cycles for s in shares
        ]
    if "ablate" in parts:
        told += [ablate(book, table, c, *at, name) for c in asked.cycles for name in ABLATIONS]
    return told


def _compare(book: Book, tool: str, table: Table, cycle: int, seconds: float, seed: int) -> Line:
    wanted = Line("compare", tool, _version(tool), table.name, cycle, seconds, seed, None, 0.0)

    def run() -> Line:
        with tempfile.TemporaryDirectory() as place:
            if tool == OURS:
                return _ours(book.cycle, wanted, table, table.cut(cycle), Path(place))
            return _peer(wanted, table.cut(cycle), Path(place))

    return book.get(wanted, run)


def carry(
    book: Book, table: Table, first: int, count: int, seconds: float, seed: int
) -> list[Line]:
    """A chain of cycles in one workspace, each beside a cold one and a mere refit of the same cut."""

    def wanted(tool: str, cycle: int) -> Line:
        return Line("carry", tool, _version(OURS), table.name, cycle, seconds, seed, None, 0.0)

    cycles = range(first, min(first + count + 1, len(table.bounds)))
    steps = [wanted("first", first)]
    steps += [wanted(tool, cycle) for cycle in cycles[1:] for tool in ("refit", "chain")]
    told = [line for line in map(book.find, steps) if line]
    if len(told) < len(steps):  # a chain that was broken off begins again: its workspace is gone
        told = [book.get(line, lambda line=line: line) for line in _chain(book.cycle, table, steps)]
    return told + [_compare(book, OURS, table, cycle, seconds, seed) for cycle in cycles[1:]]


def _chain(run: Cycle, table: Table, steps: Sequence[Line]) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as name:
        chain, aside = Path(name) / "chain", Path(name) / "refit"
        for wanted in steps:
            cut = table.cut(wanted.cycle)
            if wanted.tool != "refit":
                yield _ours(run, wanted, table, cut, chain)
                continue
            shutil.copytree(chain, aside)
            yield _ours(run, wanted, table, cut, aside, "refit")
            shutil.rmtree(aside)


def ablate(book: Book, table: Table, cycle: int, seconds: float, seed: int, name: str) -> Line:
    """A cold cycle without one of its parts."""
    wanted = Line("ablate", name, _version(OURS), table.name, cycle, seconds, seed, None, 0.0)

    def run() -> Line:
        with tempfile.TemporaryDirectory() as place:
            cut = table.cut(cycle)
            return _ours(book.cycle, wanted, table, cut, Path(place), lacking=ABLATIONS[name])

    return book.get(wanted, run)


PROBLEM = """\
name     = "{name}"
question = "What will the next rows of {name} say?"
task     = "{task}"

[history]
files  = "rows.parquet"
time   = "{time}"
key    = ["{key}"]
target = "{target}"

[metric]
name = "{metric}"

[sweep]
budget = "{seconds:g}s"
seed   = {seed}

[validation]
block   = "{block}"
origins = 3

[publish]
table = "predictions"

[batch]
resize = "allow"
"""


def _cycle_command(file: Path, as_of: datetime, plan: str, lacking: str) -> dict[str, Any]:
    """What `automl cycle` answers, or its `error`."""
    command = [sys.executable, "-m", "benchmarks.lacking" if lacking else "automl.cli"]
    command += [lacking] if lacking else []
    command += ["cycle", str(file), "--as-of", f"{as_of:%Y-%m-%d}", "--json", "--plan", plan]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        return {"error": done.stderr[-600:]}
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _cycle_here(file: Path, as_of: datetime, plan: str, _: str) -> dict[str, Any]:
    """The same in this process, so that libraries are imported once."""
    from automl.children import warm_up

    warm_up()  # as the command does
    from automl.ask import Ask
    from automl.score import cycle

    problem, workspace = load_problem(file), open_workspace(file)
    asked = Ask(as_of=as_of.replace(tzinfo=UTC), plan=plan)
    return report.ending(cycle(problem, workspace, asked), workspace)


def _ours(
    run: Cycle,
    wanted: Line,
    table: Table,
    cut: Cut,
    place: Path,
    plan: str = "auto",
    lacking: str = "",
) -> Line:
    place.mkdir(exist_ok=True)
    frame = table.frame.sort_values(table.time, kind="stable").reset_index(names=KEY)
    until = cut.judged[table.time].max()
    frame = frame[frame[table.time] <= until]  # later cycles append, as a warehouse would
    frame.to_parquet(place / "rows.parquet", index=False)
    names = {"name": table.name.replace("_", "-"), "task": table.task, "time": table.time}
    names |= {"key": KEY, "target": table.target, "metric": cut.metric.name, "block": table.block}
    text = PROBLEM.format(**names, seconds=wanted.seconds, seed=wanted.seed)
    (place / "problem.toml").write_text(text, encoding="utf-8")
    file, started = place / "problem.toml", time.monotonic()
    told = run(file, cut.as_of, plan, lacking)
    wall = time.monotonic() - started
    if "error" in told:
        return _line(wanted, None, wall, told)
    problem = load_problem(file)
    why = report.why(problem, open_workspace(problem.file), None)
    more = {"cost": why["cost"], "reason": told["reason"], "plan": why["plan"]}
    return _line(wanted, cut.loss(_published(place, cut, told["generation"], frame)), wall, more)


def _published(place: Path, cut: Cut, generation: int, frame: Any) -> np.ndarray:
    import pandas as pd

    with sqlite3.connect(place / ".automl" / "automl.db") as database:
        rows = pd.read_sql(
            "select * from predictions where generation = ?", database, params=[generation]
        )
        if cut.task == "multiclass":
            wide = pd.read_sql("select * from predictions_classes", database)
    inside = frame[frame[cut.time] >= pd.Timestamp(cut.as_of)]
    keys = inside.loc[_known(inside, cut), KEY].astype("int64")
    if cut.task == "multiclass":
        table = wide.pivot(index=KEY, columns="class", values="probability")
        return table.loc[keys, [str(c) for c in cut.classes]].to_numpy("float64")
    told = rows.set_index(KEY).loc[keys]
    if cut.task == "regression":
        return told["prediction"].to_numpy("float64")
    positive = told["probability"].to_numpy("float64")
    return np.column_stack([1 - positive, positive])


def _known(inside: Any, cut: Cut) -> Any:
    return inside[cut.target].isin(cut.classes) if cut.classes else inside[cut.target].notna()


def _peer(wanted: Line, cut: Cut, place: Path) -> Line:
    cut.train.to_parquet(place / "train.parquet", index=False)
    cut.judged.to_parquet(place / "judged.parquet", index=False)
    spec = {"task": cut.task, "target": cut.target, "time": cut.time, "classes": list(cut.classes)}
    (place / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    command = [
        str(ENVIRONMENTS / wanted.tool / "bin" / "python"),
        str(ROOT / "benchmarks/peers.py"),
    ]
    command += [wanted.tool, str(place), str(wanted.seconds), str(wanted.seed)]
    # libraries choose their threads themselves; none may spin while it waits
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    started = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=place, env=environment
    )
    wall = time.monotonic() - started
    if done.returncode or not (place / "output.npy").exists():
        return _line(wanted, None, wall, {"error": done.stderr[-600:]})
    told = json.loads((place / "result.json").read_text(encoding="utf-8"))
    return _line(wanted, cut.loss(np.load(place / "output.npy")), wall, told)


def _line(wanted: Line, loss: float | None, wall: float, more: dict[str, Any]) -> Line:
    return Line(**{**asdict(wanted), "loss": loss, "wall": round(wall, 2), "more": more})


# ---- versions and environments


def _version(tool: str) -> str:
    if tool == OURS:
        digest = hashlib.sha256()
        for folder in ("automl", "search_spaces"):
            for file in sorted((ROOT / folder).rglob("*.py")):
                if not {file.parent.name, file.stem} & TALK:
                    digest.update(_code(file).encode())
        return digest.hexdigest()[:12]
    package = {"autogluon": "autogluon.tabular"}.get(tool, tool)
    told = subprocess.run(
        [
            str(ENVIRONMENTS / tool / "bin" / "python"),
            "-c",
            f"from importlib.metadata import version; print(version({package!r}))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.strip()


def _code(file: Path) -> str:
    """What a file does, without its comments, docstrings and layout."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant()), *_] as body:
                del body[0]
    return ast.dump(tree)


def _environment(tool: str) -> None:
    place = ENVIRONMENTS / tool
    if not (place / "bin" / "python").exists():
        venv.create(place, with_pip=True)
        subprocess.run([place / "bin/pip", "install", "-q", *PEERS[tool]], check=True)


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
            for half, names in (("tuned on", TUNED), ("not tuned on", UNSEEN), ("fresh", FRESH))
        },
        "lines": lines,
    }


def _text(document: dict[str, Any]) -> str:
    told = [f"{document['seconds']:g} s a cycle, {document['cores']} cores"]
    told += [f"  {name:28}{value}" for name, value in document["figures"].items()]
    return "\n".join(told) + "\n"


if __name__ == "__main__":
    main()
