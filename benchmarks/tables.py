"""Catalogued tables as retraining problems: rows up to a cut, the block after it, and its truth.

A catalogue is a folder with `catalog.json` and one parquet file per table; it says which column is the
time, which are known only after the outcome, and where the retraining periods begin. Columns it calls
suspect are left out too, for every tool, except where a table is nothing without them.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from automl.modeling.metrics import Metric, get_metric

__all__ = ["DRIFTING", "Cut", "Table", "drifting", "find_tables", "open_tables"]

METRICS = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
TASKS = {"forecasting": "regression"}  # on what is known ahead: which series, and when
BLOCKS = {
    "1D": "1d",
    "1MS": "1mo",
    "2MS": "2mo",
    "3MS": "3mo",
    "6MS": "6mo",
    "QS": "1q",
    "1YS": "12mo",
}
DAY, HOUR = pd.Timedelta(days=1), pd.Timedelta(hours=1)
DATED = pd.Timestamp("2001-01-01")  # where the years of tables without dates begin
STEP_CYCLES = 3  # of a calendar that is counted in steps and gives the last origin alone
KEEP_SUSPECTS = {"elec2"}  # its label is made from the suspect: the literature keeps it
DRIFTING = "drifting"  # made here, for machines without a catalogue
KEY = "row"
DRAWS = 100


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Cut:
    """One cycle of a table: train on `train`, predict `batch`; `truth` is its target."""

    table: str
    cycle: int
    task: str
    metric: Metric
    target: str
    time: str
    as_of: datetime
    train: pd.DataFrame
    batch: pd.DataFrame
    truth: np.ndarray
    classes: tuple[Any, ...]

    @property
    def has_loss(self) -> bool:
        """Whether a loss is defined: the target is a number, or the rows are of more than one class."""
        return not self.classes or len(np.unique(self.truth)) > 1

    def loss(self, output: np.ndarray) -> float:
        """1 - AUC, log loss, or RMSE of probabilities in the order of `classes`, or of values."""
        return self.metric.loss(self.metric.score(self._outcomes(), output))

    def standard_error(self, output: np.ndarray) -> float:
        """Of the loss: its deviation over bootstrap draws of the batch's rows (Efron 1979)."""
        random, outcomes = np.random.default_rng(0), self._outcomes()
        draws = (random.integers(0, len(outcomes), len(outcomes)) for _ in range(DRAWS))
        losses = [self.metric.loss(self.metric.score(outcomes[d], output[d])) for d in draws]
        return float(np.nanstd(losses, ddof=1))

    def _outcomes(self) -> np.ndarray:
        if not self.classes:
            return self.truth
        return np.searchsorted(np.asarray(self.classes), self.truth).astype("float64")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Table:
    """A dated table and its retraining calendar: bounds of its blocks, the end of the last one too."""

    name: str
    task: str
    target: str
    time: str
    block: str
    bounds: Sequence[datetime]
    frame: pd.DataFrame

    def cut(self, cycle: int) -> Cut:
        """The cycle that begins at that boundary."""
        start, end = self.bounds[cycle], self.bounds[cycle + 1]
        times = self.frame[self.time]
        batch = self.frame[(times >= start) & (times < end)]
        train = self.frame[times < start]
        classes = (
            () if self.task == "regression" else tuple(sorted(train[self.target].unique().tolist()))
        )
        batch = batch[batch[self.target].isin(classes)] if classes else batch
        return Cut(
            table=self.name,
            cycle=cycle,
            task=self.task,
            metric=get_metric(METRICS[self.task]),
            target=self.target,
            time=self.time,
            as_of=start,
            train=train.reset_index(drop=True),
            batch=batch.drop(columns=self.target).reset_index(drop=True),
            truth=batch[self.target].to_numpy(),
            classes=classes,
        )


def find_tables(given: str | None) -> Path | None:
    """The catalogue's folder: given, `AUTOML_TABLES`, or `datasets` next to the checkout; None if absent."""
    parent = Path(__file__).resolve().parents[2]
    places = [
        given,
        os.environ.get("AUTOML_TABLES"),
        parent / "datasets",
        parent / "shared/datasets",
    ]
    return next((Path(p) for p in places if p and (Path(p) / "catalog.json").is_file()), None)


def open_tables(folder: Path, names: Sequence[str]) -> list[Table]:
    """The named tables; raises `SystemExit` for one that the catalogue lacks or that has no calendar."""
    entries = {
        d["name"]: d
        for d in json.loads((folder / "catalog.json").read_text(encoding="utf-8"))["datasets"]
    }
    tables = []
    for name in names:
        if name not in entries:
            raise SystemExit(f"{name}: not a table in {folder}")
        entry = entries[name]
        unfit = [*entry["leakage_columns"], *entry["drop_columns"]]
        unfit += [] if name in KEEP_SUSPECTS else entry["suspect_columns"]
        frame = pd.read_parquet(folder / entry["file"]).drop(columns=unfit)
        frame = frame.dropna(subset=entry["target"]).reset_index(drop=True)
        frame[entry["time_column"]] = _times(entry, frame)
        bounds, block = _calendar(entry, frame)
        tables.append(
            Table(
                name=name,
                task=TASKS.get(entry["task"], entry["task"]),
                target=entry["target"],
                time=entry["time_column"],
                block=block,
                bounds=[b.to_pydatetime() for b in bounds],
                frame=frame,
            )
        )
    return tables


def _times(entry: dict[str, Any], frame: pd.DataFrame) -> pd.Series:
    """When rows happened: of a table without dates, steps are hours, and the rows of a month spread over it."""
    times, cycle = frame[entry["time_column"]], entry["cycle"]
    if times.dtype.kind == "M":
        return times
    if cycle["kind"] != "column":
        return DATED + times * HOUR
    months = frame[cycle["column"]]
    starts = months.map(_month)
    places = times.groupby(months).rank(method="first") - 1
    shares = places / times.groupby(months).transform("size")
    return (starts + shares * starts.dt.days_in_month * DAY).dt.floor("s")


def _month(number: int) -> pd.Timestamp:
    return DATED + pd.DateOffset(months=number - 1)


def _calendar(entry: dict[str, Any], frame: pd.DataFrame) -> tuple[list[pd.Timestamp], str]:
    """Where the retraining periods begin, and the last one ends; and how long one is.

    Those that are counted in rows begin on the day of that row, and are as long as most of them. Of those
    counted in steps the catalogue may give the last origin alone; earlier ones are a period apart.
    """
    cycle = entry["cycle"]
    if cycle["kind"] == "rows":
        days = frame[entry["time_column"]].sort_values(ignore_index=True).dt.normalize()
        bounds = [days[row] for row in cycle["boundaries"]] + [days.iloc[-1] + DAY]
        return bounds, f"{np.median(np.diff(bounds)) // DAY}d"
    if cycle["kind"] == "column":
        return [_month(m) for m in (*cycle["values"], cycle["values"][-1] + 1)], "1mo"
    if cycle["kind"] == "steps" and cycle["boundaries"] == [0]:
        period = cycle["steps"] * HOUR
        return [DATED + k * period for k in range(1 - STEP_CYCLES, 2)], f"{period // DAY}d"
    bounds = [pd.Timestamp(b) for b in cycle.get("boundaries", [])]
    months = {b.year * 12 + b.month - a.year * 12 - a.month for a, b in itertools.pairwise(bounds)}
    freq = cycle.get("freq") or "".join(f"{m}MS" for m in months)
    if freq not in BLOCKS:
        raise SystemExit(f"{entry['name']}: has no retraining calendar")
    return [*bounds, bounds[-1] + to_offset(freq)], BLOCKS[freq]


def drifting(rows: int, seed: int = 3) -> Table:
    """A made table of two years whose relations turn slowly: for trying the benchmark without a catalogue."""
    random = np.random.default_rng(seed)
    start = datetime.fromisoformat("2021-01-01")
    age = np.sort(random.uniform(0, 1, rows))
    X = random.normal(size=(rows, 6))
    shop = random.integers(0, 30, rows)
    turning = np.cos(2 * age)[:, None] * X[:, :3] + np.sin(2 * age)[:, None] * X[:, 3:]
    signal = turning[:, 0] + turning[:, 1] * turning[:, 2] + 0.1 * (shop % 7)
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(6)])
    frame["shop"] = [f"shop {s}" for s in shop]
    frame["at"] = [start + timedelta(minutes=round(a * 2 * 365 * 24 * 60)) for a in age]
    frame["hit"] = (signal + random.normal(size=rows) > 0.3).astype(int)
    bounds = [datetime.fromisoformat(f"2022-{month:02}-01") for month in range(7, 13)]
    bounds.append(datetime.fromisoformat("2023-01-01"))
    return Table(
        name=DRIFTING,
        task="binary",
        target="hit",
        time="at",
        block="1mo",
        bounds=bounds,
        frame=frame,
    )
