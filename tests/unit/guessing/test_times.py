"""Which of several columns of dates is the time of a row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from automl.errors import ProblemError
from automl.guessing import choose_time

ROWS = 400
DAYS = pd.Series(pd.date_range("2025-01-01", periods=ROWS, freq="6h"))
RANDOM = np.random.default_rng(1)
LATER = DAYS + pd.to_timedelta(RANDOM.integers(1, 900, ROWS), unit="h")
EARLIER = DAYS - pd.to_timedelta(RANDOM.integers(1, 9000, ROWS), unit="h")


@pytest.mark.parametrize(
    ("columns", "time", "reason"),
    [
        ({"day": DAYS}, "day", "the only column of dates"),
        ({"a": LATER, "b": DAYS}, "b", "rows are in its order"),
        ({"updated_at": DAYS, "at": EARLIER}, "at", "'updated_at': rows are in its order"),
        ({"birth_date": EARLIER, "ordered": DAYS}, "ordered", "called as dates of other events are"),
        ({"a": EARLIER.where(EARLIER.index % 9 > 0), "b": DAYS}, "b", "missing in 11%"),
        ({"text": DAYS.dt.strftime("%Y-%m-%d"), "x": np.arange(ROWS)}, "text", "the only"),
        ({"year": np.arange(ROWS) // 40 + 1990, "x": np.arange(ROWS)}, "year", "the only"),
    ],
)  # fmt: skip
def test_the_time_is_the_column_for_which_most_speaks(
    columns: dict[str, object], time: str, reason: str
) -> None:
    chosen, why = choose_time(pd.DataFrame(columns))

    assert (chosen, reason in why) == (time, True)


def test_names_and_order_are_not_needed_to_tell_a_later_time() -> None:
    frame = pd.DataFrame({"c1": LATER.where(LATER.index > 40), "c2": DAYS})

    assert choose_time(frame.sample(frac=1, random_state=0))[0] == "c2"


def test_the_target_is_never_the_time() -> None:
    assert choose_time(pd.DataFrame({"due": DAYS, "day": LATER}), target="due")[0] == "day"


def test_a_table_without_dates_is_refused_with_its_columns() -> None:
    with pytest.raises(ProblemError, match="no column of dates") as error:
        choose_time(pd.DataFrame({"x": [0.5], "y": [1]}))
    assert "Columns are x, y" in error.value.next_step
