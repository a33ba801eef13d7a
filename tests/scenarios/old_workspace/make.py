"""Makes the workspace that tests/scenarios/test_upgrade.py opens; run by the release that it is kept from.

    python make.py /srv/returns

A shop's orders: will one be returned? Ten weekly cycles in review mode, whose families change twice: challengers
wait and lapse, the last one waits still, and the former version's predictions stand by.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

FIRST, WEEKS, A_DAY, SHOPS = pd.Timestamp("2026-01-05"), 18, 24, 40
PROBLEM = """
name     = "returns"
question = "Which of the coming week's orders will be returned?"
task     = "binary"

[history]
files       = "orders.csv"
time        = "ordered"
key         = ["order_id"]
target      = "returned"
label_delay = "1d"

[batch]
horizon = "7d"

[metric]
name = "log_loss"

[sweep]
families = [{families}]
trials   = {trials}
seed     = 5

[validation]
block   = "7d"
origins = 2

[promotion]
mode = "review"

[publish]
keep = 2

[schedule]
retrain = "0 0 * * 1"
"""


FAMILY = '''"""A few boosted trees, so that the workspace stays small."""
from automl.spaces import Family


def space(trial, shape):
    return {{
        "learning_rate": trial.suggest_float("learning_rate", 0.1, 0.3, log=True),
        "num_leaves": trial.suggest_int("num_leaves", {leaves} - 2, {leaves} + 2),
    }}


def build(params, shape, seed):
    from lightgbm import LGBMClassifier

    return LGBMClassifier(**params, n_estimators={trees}, random_state=seed, n_jobs=1, verbose=-1)


family = Family(
    name="{name}", short="{name}", tasks={{"binary"}}, encoding="trees",
    start=[(1, {{"learning_rate": 0.2, "num_leaves": {leaves}}})], space=space, build=build,
)
'''


def orders() -> pd.DataFrame:
    """Orders of a hundred and twenty-six days; shops have habits, and prices matter in between."""
    rng = np.random.default_rng(11)
    rows = WEEKS * 7 * A_DAY
    times = FIRST + pd.to_timedelta(np.arange(rows) * (24 / A_DAY), unit="h")
    shop = rng.integers(0, SHOPS, rows)
    price = rng.gamma(2.0, 20.0, rows).round(2)
    habit = rng.normal(0, 1.2, SHOPS)
    drive = (
        habit[shop] + np.where((price > 20) & (price < 50), 1.2, -0.8) + rng.normal(0, 0.8, rows)
    )
    return pd.DataFrame(
        {
            "order_id": np.arange(rows),
            "ordered": times.strftime("%Y-%m-%d %H:%M:%S"),
            "shop": [f"shop {n:02d}" for n in shop],
            "price": price,
            "returned": (drive > 0).astype(int),
        }
    )


def main(folder: Path) -> None:
    """Write the problem and run its cycles."""
    folder.mkdir(parents=True)
    orders().to_csv(folder / "orders.csv", index=False)
    file = folder / "problem.toml"
    for name, trees, leaves in (("rough", 4, 5), ("fine", 60, 10)):
        (folder / f"{name}.py").write_text(FAMILY.format(name=name, trees=trees, leaves=leaves))
    for week in range(8, 18):
        if week == 8:
            write(file, '"baseline", "linear"', 2)
        if week == 11:
            write(file, '"baseline", "linear", "rough.py"', 5)
        if week == 16:
            write(file, '"baseline", "linear", "rough.py", "fine.py"', 7)
        as_of = FIRST + pd.Timedelta(weeks=week)
        command = [
            sys.executable,
            "-m",
            "automl.cli",
            "cycle",
            str(file),
            "--as-of",
            f"{as_of:%Y-%m-%d}",
        ]
        subprocess.run(command, check=True)


def write(file: Path, families: str, trials: int) -> None:
    """The problem file with these families."""
    file.write_text(PROBLEM.format(families=families, trials=trials), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
