"""The problem that the benchmark of publishing scores: its file, its family and its made-up rows."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["AS_OF", "LEARNED", "make_rows", "write_batch", "write_problem"]

AS_OF = datetime(2026, 3, 2, tzinfo=UTC)
LEARNED, DAYS = 20_000, 60  # rows and days before as_of
NUMBERS, TEXTS = 16, 2  # with key and time: 20 columns
AT_ONCE = 250_000
PROBLEM = """
name = "publish"
task = "binary"
[history]
{source}
time = "at"
key = ["id"]
target = "late"
[metric]
name = "roc_auc"
[sweep]
families = ["champion.py"]
trials = 1
[validation]
block = "7d"
origins = 1
[publish]
{publish}
"""
CHAMPION = '''"""LightGBM as it is: 200 trees of 31 leaves."""
from automl import Family


def space(trial, shape):
    return {"learning_rate": trial.suggest_float("learning_rate", 0.05, 0.05)}


def build(params, shape, seed):
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=200, num_leaves=31, n_jobs=1, verbose=-1, random_state=seed, **params)


family = Family(name="champion", short="champ", tasks={"binary"}, encoding="trees",
                start=[(1, {"learning_rate": 0.05})], space=space, build=build)
'''


def write_problem(folder: Path, source: str, publish: str) -> Path:
    """The problem file, with its family next to it."""
    file = folder / "problem.toml"
    file.write_text(PROBLEM.format(source=source, publish=publish), encoding="utf-8")
    (folder / "champion.py").write_text(CHAMPION, encoding="utf-8")
    return file


def write_batch(champion: Path, name: str, rows: int, publish: str) -> Path:
    """A copy of the champion's folder with a batch of `rows` rows."""
    folder = champion.with_name(name)
    shutil.copytree(champion, folder)
    for number, start in enumerate(range(0, rows, AT_ONCE)):
        table = make_rows(start, min(start + AT_ONCE, rows), rows, before=False)
        pq.write_table(table, folder / "rows" / f"batch-{number:04d}.parquet")
    return write_problem(folder, 'files = "rows/*.parquet"', publish)


def make_rows(low: int, high: int, whole: int, *, before: bool) -> pa.Table:
    """Rows `low` to `high` of `whole`, spread over the days before as_of or the week after."""
    number = np.arange(low, high)
    random = np.random.default_rng([low, int(before)])
    days = DAYS if before else 7
    start = AS_OF.replace(tzinfo=None) - timedelta(days=DAYS if before else 0)
    at = np.datetime64(start, "us") + (number * (days * 86_400_000_000 // whole)).astype(
        "timedelta64[us]"
    )
    numbers = {f"x{i}": random.normal(size=len(number)) for i in range(NUMBERS)}
    texts = {
        f"t{i}": np.char.add("kind ", random.integers(0, 20, len(number)).astype(str))
        for i in range(TEXTS)
    }
    drive = numbers["x0"] + numbers["x1"] * numbers["x2"] + (texts["t0"] == "kind 3")
    late = pa.array((drive + random.normal(size=len(number)) > 0).astype(int))
    late = late if before else pa.nulls(len(number), pa.int64())  # files of a source share a schema
    keys = random.permutation(number) + (0 if before else LEARNED)
    return pa.table({"id": keys, "at": pa.array(at), **numbers, **texts, "late": late})
