"""False alarms of drift: quiet weeks, made up and real, through the function that `automl monitor` calls.

A cell is a kind of rows (independent, or an autoregression with a coefficient of 0.9), a number of columns and a
number of rows per window. Each quiet week has the forty before it as its past. `slow` cells are autoregressions from block to
block, which is harder than what the bars are about. Shifts: one of twenty columns moves by four standard deviations of its block
mean for good, and two windows are looked at.

    python -m benchmarks.alarms [--small] [--json] [--keep] [--tables FOLDER]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from automl.monitoring.blocks import column_measures, number_measures
from automl.monitoring.drift import BlockStatistics, Measure, drift_of
from benchmarks.provenance import provenance
from benchmarks.tables import find_tables, open_tables

Array = NDArray[np.float64]
ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "alarms.json"
RATE = 0.05
PAST = 40
WEEK = timedelta(days=7)
FIRST = datetime(2020, 1, 6, tzinfo=UTC)
KINDS = {"independent": 0.0, "autoregressive": 0.9}
COLUMNS = (5, 20, 50)
ROWS = (200, 1000, 10_000)
WEEKS = 2000
SHIFT = 4.0  # standard deviations of the block mean
TABLES = ("bike_sharing", "beijing_pm25", "hotel_bookings")
CHUNK = 4_000_000  # numbers made at once


def main() -> None:
    """Run all cells and print figures, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="200 weeks per cell, no large windows")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/alarms.json")
    parser.add_argument("--tables", help="folder of a catalogue of tables")
    options = parser.parse_args()
    document = {
        **provenance("alarms"),
        "small": options.small,
        **run(options.small, options.tables),
    }
    if options.keep:
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(document))
        return
    for name, value in (document.pop("figures") | document).items():
        print(f"{name:28} {value}")


def run(small: bool, tables: str | None) -> dict[str, Any]:
    """Figures and the cells behind them; ratios are to `alert_rate`."""
    began, weeks = time.monotonic(), 200 if small else WEEKS
    cells = {}
    for kind, phi in KINDS.items():
        for columns in COLUMNS[:2] if small else COLUMNS:
            for rows in ROWS[:1] if small else ROWS:
                series = row_series(weeks + PAST, columns, rows, phi)
                name = f"{kind}, {columns} columns, {rows} rows"
                cells[name] = round(alarm_rate(series, weeks) / RATE, 3)
                print(f"{name}: {cells[name]}", file=sys.stderr, flush=True)
    slow = {
        f"{columns} columns": round(alarm_rate(slow_series(weeks + PAST, columns), weeks) / RATE, 3)
        for columns in COLUMNS
    }
    found = [detected(weeks, phi) for phi in KINDS.values()]
    return {
        "figures": {
            "false_alarm_ratio": round(float(np.mean(list(cells.values()))), 3),
            "false_alarm_ratio_worst": max(cells.values()),
            "false_alarm_ratio_slow": max(slow.values()),
            "detected_within_2": round(min(two for _, two in found), 3),
            "detected_at_once": round(min(one for one, _ in found), 3),
        },
        "quiet_blocks_with_alarm": real_tables(tables),
        "weeks": weeks,
        "cells": cells,
        "slow": slow,
        "seconds": round(time.monotonic() - began, 1),
    }


def row_series(blocks: int, columns: int, rows: int, phi: float) -> list[Measure]:
    """Measures of so many consecutive windows of made-up columns."""
    rng = np.random.default_rng([columns, rows, int(10 * phi)])
    return [
        measure
        for column in range(columns)
        for measure in number_measures(_windows(rng, blocks, rows, phi), f"x{column}")
    ]


def _windows(rng: np.random.Generator, blocks: int, rows: int, phi: float) -> Array:
    """One column, shape (blocks, rows); an autoregression goes on from window to window."""
    made, state = [], np.array([rng.normal() * phi / np.sqrt(1 - phi**2)])
    step = max(1, CHUNK // rows)
    for start in range(0, blocks, step):
        noise = rng.standard_normal(min(step, blocks - start) * rows)
        if phi:
            noise, state = lfilter([1.0], [1.0, -phi], noise, zi=state)
        made.append(noise.reshape(-1, rows).astype("float32"))
    return np.concatenate(made)


def slow_series(blocks: int, columns: int) -> list[Measure]:
    """Block means that are themselves an autoregression of 0.9."""
    rng = np.random.default_rng(columns)
    noise = rng.normal(size=(blocks + 100, columns))
    values = lfilter([1.0], [1.0, -0.9], noise, axis=0)[100:]
    return [_mean(f"x{i}", values[:, [i]]) for i in range(columns)]


def _mean(name: str, values: Array) -> Measure:
    return Measure(source="inputs", column=name, statistic="mean", values=values)


def alarm_rate(series: Sequence[Measure], weeks: int) -> float:
    """Share of weeks with any alarm, each against the forty before it."""
    return float(np.mean([_alarm(series, i, i + PAST + 1) for i in range(weeks)]))


def detected(weeks: int, phi: float) -> tuple[float, float]:
    """Shares of shifts in one of twenty columns that are found in the first window, and within two.

    Every fourth week has one, each in another column: shifts of neighbouring weeks share their past.
    """
    series = row_series(weeks + PAST + 2, 20, 1000, phi)
    places = [i for i, m in enumerate(series) if m.statistic == "mean"]
    found = []
    for trial, start in enumerate(range(0, weeks, 4)):
        index, end = places[trial % len(places)], start + PAST + 2
        values = series[index].values.copy()
        values[end - 2 : end] += SHIFT * float(values.std(ddof=1))
        moved = [*series[:index], _mean(series[index].column, values), *series[index + 1 :]]
        found.append([_alarm(moved, start, end - 1), _alarm(moved, start, end)])
    once, twice = np.array(found).T
    return float(once.mean()), float((once | twice).mean())


def real_tables(folder: str | None) -> dict[str, Any]:
    """Share of weeks of real tables with an alarm, against the forty weeks before."""
    place = find_tables(folder)
    if place is None:
        return {}
    shares = {}
    for table in open_tables(place, TABLES):
        frame = table.frame.sort_values(table.time, kind="stable")
        times = pd.to_datetime(frame[table.time]).to_numpy()
        edges = pd.date_range(times[0].astype("datetime64[D]"), times[-1], freq="7D").to_numpy()
        bounds = np.searchsorted(times, edges)
        slices = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        measures = [
            m
            for name in frame.columns
            if name != table.time and not pd.api.types.is_datetime64_any_dtype(frame[name])
            for m in column_measures(frame[name], _kind(frame[name]), slices)
        ]
        alarms = [_alarm(measures, i, i + PAST + 1) for i in range(len(slices) - PAST)]
        shares[table.name] = {"weeks": len(alarms), "alarms": round(float(np.mean(alarms)), 3)}
    return shares


def _kind(column: pd.Series) -> str:
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


def _alarm(series: Sequence[Measure], start: int, end: int) -> bool:
    """Whether the last of these blocks raises an alarm."""
    starts = tuple(FIRST + i * WEEK for i in range(start, end))
    cut = tuple(
        Measure(
            source=m.source,
            column=m.column,
            statistic=m.statistic,
            values=m.values[start:end],
            least=m.least,
        )
        for m in series
    )
    statistics = BlockStatistics(
        starts=starts,
        ends=tuple(s + WEEK for s in starts),
        rows=(1000,) * len(starts),
        measures=cut,
    )
    return drift_of(statistics, RATE).state == "alarm"


if __name__ == "__main__":
    main()
