"""How each tool is run on a cut of a table: ours as its users run it, peers in environments of their own."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from automl.workspace import DEFAULTS, open_workspace

for key, value in DEFAULTS.items():  # before numpy and LightGBM read the environment
    os.environ.setdefault(key, value)

import numpy as np  # noqa: E402

from automl import report  # noqa: E402
from automl.errors import AutomlError  # noqa: E402
from automl.problem import load_problem  # noqa: E402
from benchmarks.lines import OURS, Line  # noqa: E402
from benchmarks.tables import KEY, Cut, Table  # noqa: E402

__all__ = [
    "PEERS",
    "Cycle",
    "available",
    "by_command",
    "in_this_process",
    "install",
    "ours",
    "peer",
    "version_of",
]

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / "benchmarks" / ".peers"
PEERS = {  # what each environment holds
    "autogluon": ["autogluon.tabular[lightgbm,catboost,xgboost]>=1.5,<1.6", "typing_extensions"],
    "flaml": ["flaml[automl]>=2.4,<3", "pyarrow"],
    "optuna": ["optuna>=5,<6", "lightgbm>=4.7,<5", "pandas", "pyarrow", "scikit-learn"],
    "lightgbm": ["lightgbm>=4.7,<5", "pandas", "pyarrow", "scikit-learn"],
}
NO_EFFECT = {"api", "cli", "diagnostics", "report", "tracking"}  # folders on which no loss depends

Cycle = Callable[[Path, datetime, str, str], dict[str, Any]]  # file, as_of, plan, what it lacks


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

[publish]
table = "predictions"

[batch]
resize = "allow"
"""


def by_command(file: Path, as_of: datetime, plan: str, lacking: str) -> dict[str, Any]:
    """What `automl cycle --json` prints, or its `error`."""
    command = [sys.executable, "-m", "benchmarks.lacking" if lacking else "automl.cli"]
    command += [lacking] if lacking else []
    command += ["cycle", str(file), "--as-of", f"{as_of:%Y-%m-%d}", "--json", "--plan", plan]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        return {"error": done.stderr[-600:]}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def in_this_process(file: Path, as_of: datetime, plan: str, _: str) -> dict[str, Any]:
    """The same in this process, so that libraries are imported once."""
    from automl.processes import warm_up

    warm_up()  # as the command does
    from automl.cycles.options import RunOptions
    from automl.score import cycle

    problem, workspace = load_problem(file), open_workspace(file)
    try:
        ended = cycle(problem, workspace, RunOptions(as_of=as_of.replace(tzinfo=UTC), plan=plan))
    except AutomlError as error:
        return {"error": str(error)}
    return report.result(ended, workspace)


def ours(
    run: Cycle,
    wanted: Line,
    table: Table,
    cut: Cut,
    place: Path,
    plan: str = "auto",
    lacking: str = "",
) -> Line:
    """A cycle of ours in a workspace of that place: the loss of its published predictions, and its cost."""
    place.mkdir(exist_ok=True)
    frame = table.frame.sort_values(table.time, kind="stable").reset_index(names=KEY)
    until = cut.batch[table.time].max()
    frame = frame[frame[table.time] <= until]  # later cycles append, as a warehouse would
    frame.to_parquet(place / "rows.parquet", index=False)
    names = {"name": table.name.replace("_", "-"), "task": table.task, "time": table.time}
    names |= {"key": KEY, "target": table.target, "metric": cut.metric.name, "block": table.block}
    text = PROBLEM.format(**names, seconds=wanted.seconds, seed=wanted.seed)
    (place / "problem.toml").write_text(text, encoding="utf-8")
    file, started = place / "problem.toml", time.monotonic()
    result = run(file, cut.as_of, plan, lacking)
    wall = time.monotonic() - started
    if "error" in result:
        return _line(wanted, None, wall, result)
    problem = load_problem(file)
    why = report.why(problem, open_workspace(problem.file), None)
    output = _published(place, cut, result["generation"], frame)
    details = {"cost": why["cost"], "reason": result["reason"], "plan": why["plan"]}
    details["standard_error"] = cut.standard_error(output)
    return _line(wanted, cut.loss(output), wall, details)


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
    published = rows.set_index(KEY).loc[keys]
    if cut.task == "regression":
        return published["prediction"].to_numpy("float64")
    positive = published["probability"].to_numpy("float64")
    return np.column_stack([1 - positive, positive])


def _known(inside: Any, cut: Cut) -> Any:
    return inside[cut.target].isin(cut.classes) if cut.classes else inside[cut.target].notna()


def peer(wanted: Line, cut: Cut, place: Path) -> Line:
    """A library's predictions for a cut, from the script in its own environment."""
    cut.train.to_parquet(place / "train.parquet", index=False)
    cut.batch.to_parquet(place / "batch.parquet", index=False)
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
        last = done.stderr.strip().splitlines()[-1:]  # the lines before hold paths of this machine
        return _line(wanted, None, wall, {"error": "".join(last)})
    result = json.loads((place / "result.json").read_text(encoding="utf-8"))
    return _line(wanted, cut.loss(np.load(place / "output.npy")), wall, result)


def _line(wanted: Line, loss: float | None, wall: float, details: dict[str, Any]) -> Line:
    return replace(wanted, loss=loss, wall=round(wall, 2), more=details)


@cache
def version_of(tool: str) -> str:
    """A library's version; of ours, the digest of the code that a loss depends on."""
    if tool == OURS:
        digest = hashlib.sha256()
        for folder in ("automl", "search_spaces"):
            for file in sorted((ROOT / folder).rglob("*.py")):
                if file.parent.name not in NO_EFFECT:
                    digest.update(_code(file).encode())
        return digest.hexdigest()[:12]
    package = {"autogluon": "autogluon.tabular"}.get(tool, tool)
    done = subprocess.run(
        [
            str(ENVIRONMENTS / tool / "bin" / "python"),
            "-c",
            f"from importlib.metadata import version; print(version({package!r}))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _code(file: Path) -> str:
    """What a file does, without its comments, docstrings and layout."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant()), *_] as body:
                del body[0]
    return ast.dump(tree)


def available(tool: str) -> bool:
    """Whether a tool can be run: automl itself, or its environment exists."""
    return tool == OURS or (ENVIRONMENTS / tool / "bin" / "python").exists()


def install(tool: str) -> None:
    """Make a library's environment, unless it exists."""
    place = ENVIRONMENTS / tool
    if not (place / "bin" / "python").exists():
        venv.create(place, with_pip=True)
        subprocess.run([place / "bin/pip", "install", "-q", *PEERS[tool]], check=True)
