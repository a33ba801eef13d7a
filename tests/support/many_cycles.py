"""Many daily cycles with a stub trainer: what each costs in seconds, bytes, runs and memory."""

from __future__ import annotations

import gc
import sqlite3
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from automl.cycles.options import RunOptions
from automl.monitoring.pipeline import monitor
from automl.problem import load_problem
from automl.score import cycle
from automl.workspace import open_workspace
from tests.support.parcels import make_world, write_problem

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
START = FIRST + timedelta(days=30)
DAY = timedelta(days=1)
PER_DAY = 24  # parcels
STUB = '''
"""Stub: one logistic regression, fitted in milliseconds."""
from automl import Family


def space(trial, shape):
    return {"C": trial.suggest_float("C", 1.0, 2.0)}


def build(params, shape, seed):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=params["C"], max_iter=200)


family = Family(name="stub", short="stub", tasks={"binary"}, encoding="dense", start=[(1, {"C": 1.0})],
                space=space, build=build)
'''


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one cycle and one run of monitoring."""

    seconds: float
    bytes: int  # that the workspace grew by
    runs: int  # in MLflow
    memory: int  # resident bytes of this process afterwards


def write_many(folder: Path, cycles: int) -> Path:
    """The problem file of a world that lasts for so many daily cycles."""
    (folder / "stub.py").write_text(STUB, encoding="utf-8")
    frame = make_world(PER_DAY * (cycles + 35), first=FIRST, step="60min")
    return write_problem(
        folder,
        replace={
            '["baseline", "linear"]': '["baseline", "./stub.py"]',
            "trials   = 4": "trials   = 2",
            'block   = "7d"': 'block   = "1d"',
            'metric]\nname = "roc_auc"': 'metric]\nname = "log_loss"',
            'label_delay = "1d"': 'label_delay = "1d"\nkeep        = "30d"',
        },
        frame=frame,
    )


def run_many(file: Path, cycles: int) -> list[Cost]:
    """Run the cycles and the monitoring of so many days, and measure each."""
    problem, workspace = load_problem(file), open_workspace(file)
    costs, before = [], (0, 0)
    for number in range(cycles):
        as_of, began = START + number * DAY, time.monotonic()
        cycle(problem, workspace, RunOptions(as_of=as_of))
        monitor(problem, workspace, RunOptions(as_of=as_of))
        seconds = time.monotonic() - began
        gc.collect()
        now = _bytes(workspace.home), _runs(workspace.home)
        costs.append(Cost(seconds, now[0] - before[0], now[1] - before[1], _resident()))
        before = now
    return costs


def ratios(costs: list[Cost]) -> dict[str, float]:
    """The last tenth over the second tenth, of every cost."""
    tenth = len(costs) // 10
    early, late = costs[tenth : 2 * tenth], costs[-tenth:]
    return {
        "seconds": _middle(late, "seconds") / _middle(early, "seconds"),
        **{
            name: sum(getattr(c, name) for c in late) / sum(getattr(c, name) for c in early)
            for name in ("bytes", "runs", "memory")
        },
    }


def _middle(costs: list[Cost], name: str) -> float:
    """The median: a machine that does something else for a while shows in a mean."""
    return statistics.median(getattr(cost, name) for cost in costs)


def _bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def _runs(folder: Path) -> int:
    with sqlite3.connect(folder / "mlflow.db") as database:
        return int(database.execute("select count(*) from runs").fetchone()[0])


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096
