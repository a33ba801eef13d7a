"""A small made-up world: dated parcels whose outcome depends on what is known, and a problem file on it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
AS_OF = datetime(2026, 3, 2, tzinfo=UTC)

PROBLEM = """
name     = "{name}"
question = "Which parcels will be late?"
task     = "{task}"

[history]
source      = "sqlite:///world.db"
query       = "select * from parcels"
time        = "sent_at"
key         = ["parcel"]
target      = "{target}"
label_delay = "1d"
ignore      = ["arrived_after"]

[metric]
name = "{metric}"

[sweep]
families = ["baseline", "linear"]
trials   = 4
seed     = 3

[validation]
block   = "7d"
origins = 2
"""

METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
TARGET = {"binary": "late", "multiclass": "fate", "regression": "hours"}


def make_world(
    rows: int = 2400, *, first: datetime = FIRST, seed: int = 0, step: str = "40min"
) -> pd.DataFrame:
    """Parcels sent every 40 minutes from `first`: 2,400 rows are 66 days."""
    rng = np.random.default_rng(seed)
    times = pd.date_range(first.replace(tzinfo=None), periods=rows, freq=step)
    weight = rng.gamma(2.0, 2.0, rows).round(3)
    carrier = rng.choice(["ant", "bee", "cat"], rows, p=[0.5, 0.3, 0.2])
    drive = (
        0.5 * weight
        + 2.0 * (carrier == "cat")
        + 0.3 * (times.dayofweek >= 5)
        + rng.normal(0, 1, rows)
    )
    return pd.DataFrame(
        {
            "parcel": np.arange(rows),
            "sent_at": times,
            "weight": np.where(rng.random(rows) < 0.05, np.nan, weight),
            "carrier": carrier,
            "arrived_after": drive * 10,
            "late": (drive > 3).astype(int),
            "fate": np.select([drive > 4, drive > 2], ["lost", "late"], "fine"),
            "hours": (drive * 10).round(3),
        }
    )


def write_world(frame: pd.DataFrame, folder: Path) -> None:
    """The table `parcels` of `world.db` in a folder, replaced as a whole."""
    engine = sa.create_engine(f"sqlite:///{folder / 'world.db'}")
    frame.assign(sent_at=frame["sent_at"].dt.strftime("%Y-%m-%d %H:%M:%S")).to_sql(
        "parcels", engine, index=False, if_exists="replace"
    )
    engine.dispose()


def write_problem(
    folder: Path,
    task: str = "binary",
    *,
    name: str = "parcels",
    replace: dict[str, str] | None = None,
    frame: pd.DataFrame | None = None,
) -> Path:
    """Write `problem.toml`, and the world unless it is there; returns the file."""
    text = PROBLEM.format(name=name, task=task, target=TARGET[task], metric=METRIC[task])
    for old, new in (replace or {}).items():
        if old not in text:
            raise AssertionError(f"{old!r} is not in the problem file")
        text = text.replace(old, new)
    file = folder / "problem.toml"
    file.write_text(text, encoding="utf-8")
    if frame is not None or not (folder / "world.db").exists():
        others = [name for name in TARGET.values() if name != TARGET[task]]
        write_world(
            (make_world() if frame is None else frame).drop(columns=others, errors="ignore"), folder
        )
    return file
