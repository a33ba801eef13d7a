"""A small weekly world for backtests: a linear relation, of which one part may turn round at a date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
WEEK = timedelta(days=7)
ROWS = 120  # a week
PROBLEM = """\
name = "turning"
task = "regression"

[history]
files = "rows.parquet"
time = "at"
key = ["row"]
target = "y"

[metric]
name = "rmse"

[sweep]
families = ["baseline", "linear"]
trials = 3
seed = 7

[validation]
block = "7d"
origins = 2
season = "none"

[publish]
table = "turning_predictions"

[schedule]
retrain = "0 0 * * 1"
"""


def monday(week: int) -> datetime:
    """The Monday after so many weeks of the world."""
    return START + week * WEEK


def write_world(folder: Path, *, weeks: int = 12, turns: int | None = None) -> Path:
    """Rows of so many weeks and a problem file; from the week `turns` on, `b` counts the other way."""
    random = np.random.default_rng(5)
    count = weeks * ROWS
    hours = np.sort(random.uniform(0, weeks * 7 * 24, count))
    x = random.normal(size=(count, 3))
    turned = hours >= (turns if turns is not None else weeks) * 7 * 24
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["row"] = np.arange(count)
    frame["at"] = [START.replace(tzinfo=None) + timedelta(hours=float(h)) for h in hours]
    frame["y"] = 2 * x[:, 0] + np.where(turned, -0.5, 1.5) * x[:, 1] + random.normal(size=count)
    frame.to_parquet(folder / "rows.parquet", index=False)
    file = folder / "problem.toml"
    file.write_text(PROBLEM, encoding="utf-8")
    return file
