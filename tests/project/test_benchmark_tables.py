"""Tables of the benchmark that have no dates: where their rows and retraining periods are put."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.tables import Table, open_tables

HOURS = {"kind": "steps", "steps": 48, "boundaries": [0]}
MONTHS = {"kind": "column", "column": "month", "values": [11, 12]}


def _opened(folder: Path, cycle: dict[str, Any], columns: dict[str, list[int]]) -> Table:
    frame = pd.DataFrame({**columns, "known_later": 1})
    frame["y"] = frame.index.astype("float64")
    frame.to_parquet(folder / "made.parquet")
    lists = {"leakage_columns": [], "drop_columns": ["known_later"], "suspect_columns": []}
    named = {"name": "made", "file": "made.parquet", "task": "regression", "target": "y"}
    entry = {**named, **lists, "time_column": "t", "cycle": cycle}
    (folder / "catalog.json").write_text(json.dumps({"datasets": [entry]}), encoding="utf-8")
    return open_tables(folder, ["made"])[0]


def test_steps_are_hours_and_the_last_three_origins_are_cycles(tmp_path: Path) -> None:
    table = _opened(tmp_path, HOURS, {"t": list(range(-240, 48))})

    assert table.block == "2d"
    cuts = [table.cut(cycle) for cycle in range(3)]
    assert [len(cut.train) for cut in cuts] == [144, 192, 240]
    assert [len(cut.batch) for cut in cuts] == [48, 48, 48]
    assert cuts[2].batch["t"].iloc[0] == cuts[2].as_of
    assert table.frame["t"].diff().dropna().unique().tolist() == [pd.Timedelta(hours=1)]


def test_rows_of_a_month_are_spread_over_it_in_their_order(tmp_path: Path) -> None:
    months = [10, 10, 10, 11, 11, 11, 11, 12, 12]
    table = _opened(tmp_path, MONTHS, {"t": list(range(9)), "month": months})

    assert table.block == "1mo"
    assert table.frame["t"].is_monotonic_increasing
    assert table.frame["t"].dt.month.tolist() == months
    assert [len(table.cut(cycle).batch) for cycle in range(2)] == [4, 2]
    assert (table.bounds[-1].year, table.bounds[-1].month) == (2002, 1)
    assert "known_later" not in table.frame


def test_the_standard_error_of_a_loss_is_that_of_its_rows(tmp_path: Path) -> None:
    cut = _opened(tmp_path, HOURS, {"t": list(range(-2000, 48))}).cut(2)
    errors = np.random.default_rng(0).normal(0, 1, len(cut.truth))
    found = cut.standard_error(cut.truth + errors)
    expected = 1 / np.sqrt(2 * len(cut.truth))  # of the root mean square of so many normal errors
    assert found == pytest.approx(expected, rel=0.5)
