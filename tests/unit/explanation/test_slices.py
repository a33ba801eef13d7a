"""Slices come worst first, with enough rows each; periods are in order of time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from automl.explanation.slices import LABEL, LEAST_IN_SLICE, by_slice, by_time, levels_of
from automl.modeling.metrics import get_metric

N = 400


@pytest.fixture
def rows() -> pd.DataFrame:
    """A shop, a number, a number with two values, gaps, and a time."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "shop": np.where(np.arange(N) < 5, "rare", rng.choice(["a", "b"], N)),
            "size": np.where(rng.random(N) < 0.2, np.nan, rng.normal(0, 1, N)),
            "gift": rng.integers(0, 2, N).astype(float),
            "at": pd.date_range("2026-01-01", periods=N, freq="h")[::-1],
        }
    )


def test_the_slice_with_the_highest_loss_comes_first(rows: pd.DataFrame) -> None:
    truth = np.zeros(N)
    output = np.where(rows["shop"] == "b", 2.0, 1.0)
    found = by_slice(
        rows, ["shop", "size"], truth, {"released": output}, np.ones(N), get_metric("rmse")
    )
    assert (found[0]["column"], found[0]["value"]) == ("shop", "b")
    assert found[0]["scores"]["released"] == pytest.approx(2)
    losses = [s["scores"]["released"] for s in found]
    assert losses == sorted(losses, reverse=True)
    assert all(s["rows"] >= LEAST_IN_SLICE for s in found)
    assert "rare" not in {s["value"] for s in found}
    assert {s["value"] for s in found if s["column"] == "size"} >= {"missing"}


def test_numbers_are_cut_into_quarters_and_few_values_are_named(rows: pd.DataFrame) -> None:
    quarters, gifts = levels_of(rows["size"]), levels_of(rows["gift"])
    assert quarters is not None
    assert gifts is not None
    assert len(quarters[1]) == 5
    assert sorted(gifts[1]) == ["0", "1"]
    assert levels_of(rows["at"]) is None
    assert levels_of(pd.Series(["same"] * 9)) is None


def test_long_values_are_shortened() -> None:
    levels = levels_of(pd.Series(["x" * 99, "y"] * 50))
    assert levels is not None
    assert max(map(len, levels[1])) == LABEL


def test_periods_are_in_order_of_time_and_hold_every_row(rows: pd.DataFrame) -> None:
    outputs = {"released": np.ones(N), "baseline": np.zeros(N)}
    found = by_time(rows["at"], np.zeros(N), outputs, np.ones(N), get_metric("rmse"))
    assert [p["time"] for p in found] == sorted(p["time"] for p in found)
    assert sum(p["rows"] for p in found) == N
    assert all(p["scores"] == {"released": 1.0, "baseline": 0.0} for p in found)
