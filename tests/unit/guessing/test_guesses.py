"""What is guessed of a table, why, and what no guess can be made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl.errors import ProblemError
from automl.guessing.frames import as_table
from automl.guessing.guess_values import Guesses
from automl.guessing.guesses import guess

ROWS = 1200


def table(rows: int = ROWS, freq: str = "1h", **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"day": pd.date_range("2026-01-01", periods=rows, freq=freq), "x": rng.normal(size=rows)}
    )
    frame["y"] = (frame["x"] + rng.normal(size=rows) > 0).astype(int)
    return frame.assign(**columns)


def guessed(frame: pd.DataFrame, target: str = "y", **given: Any) -> Guesses:
    return guess(
        as_table(frame, "day"), target, {k.replace("__", "."): v for k, v in given.items()}
    )


# ---------------------------------------------------------------- task


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (lambda n: np.arange(n) % 2, "binary"),
        (lambda n: np.arange(n) % 2 == 0, "binary"),
        (lambda n: pd.array(np.arange(n) % 2 == 0, dtype="boolean"), "binary"),
        (lambda n: np.where(np.arange(n) % 2, "yes", "no"), "binary"),
        (lambda n: pd.Categorical(np.array(["a", "b", "c"])[np.arange(n) % 3]), "multiclass"),
        (lambda n: np.arange(n) % 3, "multiclass"),
        (lambda n: np.arange(n) % 5 + 1, "multiclass"),
        (lambda n: (np.arange(n) % 3) * 10, "regression"),
        (lambda n: np.arange(n) % 40, "regression"),
        (lambda n: np.arange(n) / 7, "regression"),
    ],
    ids=range(10),
)
def test_the_task_follows_from_the_target(target: Any, task: str) -> None:
    found = guessed(table(target=target(ROWS)), "target")

    assert found["task"] == task
    assert found.entry("task").reason


def test_the_rarer_text_is_the_positive_class() -> None:
    churned = np.where(np.arange(ROWS) % 5, "active", "left")

    assert guessed(table(churned=churned), "churned")["history.positive"] == "left"


# ---------------------------------------------------------------- columns


def test_a_column_that_tells_the_target_alone_is_ignored_with_the_reason() -> None:
    frame = table()
    frame["score_after"] = frame["y"] * 2.0 + np.linspace(0, 0.1, ROWS)
    found = guessed(frame)

    assert found["history.ignore"] == ["score_after"]
    assert "tells the target by itself" in found.entry("history.ignore").reason


def test_a_time_after_the_rows_own_is_ignored_and_tells_the_label_delay() -> None:
    arrived = table()["day"] + pd.to_timedelta(np.arange(ROWS) % 30 + 1, unit="h")
    found = guessed(table(arrived=arrived))

    assert found["history.ignore"] == ["arrived"]
    assert found["history.label_delay"] == "30h"


def test_a_name_that_sounds_like_afterwards_is_asked_about_and_kept() -> None:
    found = guessed(table(final_price=np.arange(ROWS) % 7))

    assert found["history.ignore"] == []
    assert "final_price: known when the prediction is made?" in found.warnings[0]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("email", ["a"] * ROWS),
        ("customer_name", ["a"] * ROWS),
        ("contact", [f"p{i}@example.org" for i in range(ROWS)]),
    ],
)
def test_what_looks_personal_is_left_out(name: str, cells: list[str]) -> None:
    assert guessed(table(**{name: cells}))["history.personal"] == [name]


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ({}, ["day"]),
        ({"day": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(ROWS) // 2, "h")}, []),
        (
            {
                "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(ROWS) // 2, "h"),
                "order_id": np.arange(ROWS)[::-1],
            },
            ["order_id"],
        ),
    ],
    ids=["the time", "none", "an id"],
)
def test_the_key_differs_in_every_row(columns: dict[str, Any], key: list[str]) -> None:
    assert guessed(table(**columns))["history.key"] == key


# ---------------------------------------------------------------- periods


@pytest.mark.parametrize(
    ("rows", "freq", "block"),
    [
        (5000, "1min", "6h"),
        (1200, "1h", "7d"),
        (2400, "40min", "7d"),
        (1500, "1D", "1q"),
        (50_000, "10min", "1mo"),
        (300, "1D", "1q"),
    ],
)
def test_a_block_is_a_calendar_period_with_enough_rows(rows: int, freq: str, block: str) -> None:
    assert guessed(table(rows, freq))["validation.block"] == block


def test_the_newest_block_is_the_batch() -> None:
    found = guessed(table())  # 50 days: until 2026-02-19

    assert found["as_of"] == datetime(2026, 2, 13, tzinfo=UTC)
    assert found["batch.horizon"] == "7d"


def test_rows_without_a_target_at_the_end_are_the_batch() -> None:
    frame = table()
    frame["y"] = frame["y"].astype("Int64").where(frame.index < ROWS - 30)
    found = guessed(frame)

    assert found["as_of"] == datetime(2026, 2, 18, 18, tzinfo=UTC)
    assert "30 rows from there on have no target" in found.entry("as_of").reason


def test_days_begin_where_the_times_are_local() -> None:
    frame = table()
    frame["day"] = frame["day"].dt.tz_localize("Europe/Zurich")
    found = guessed(frame)

    assert found["history.timezone"] == "Europe/Zurich"
    assert found["as_of"].hour == 23  # midnight in Zurich


def test_few_rows_leave_a_shorter_batch() -> None:
    found = guessed(table(290, "1D"))

    assert found["validation.block"] == "1q"
    assert found["batch.horizon"] == "1mo"


# ---------------------------------------------------------------- given values, refusals


def test_what_is_given_is_not_guessed() -> None:
    found = guessed(table(), history__ignore=["x"], validation__block="1d", task="regression")

    assert (found["history.ignore"], found["validation.block"], found["task"]) == (
        ["x"],
        "1d",
        "regression",
    )
    assert found.entry("task").given
    assert found.entry("task").reason == "given"


def test_every_guess_says_how_to_override_it_and_why() -> None:
    found = guessed(table())

    assert all(g.argument and g.reason for g in found.entries)
    assert len(found.explain().splitlines()) == len(found)
    assert found._repr_html_().count("<tr>") == len(found) + 1


@pytest.mark.parametrize(
    ("frame", "target", "code", "message"),
    [
        (table(), "z", "missing_column", "target 'z' is not a column; found day, x, y"),
        (table(late=1), "lat", "missing_column", "Did you mean 'late'"),
        (table(), "day", "usage", "also the time"),
        (table(y=1), "y", "single_class", "found only 1 in 1200 rows"),
        (table(y=None), "y", "single_class", "found no value"),
        (table(y=[f"t{i}" for i in range(ROWS)]), "y", "many_classes", "1200 different texts"),
        (table(day=pd.Timestamp("2026-01-01")), "y", "single_time", "all rows hold 2026-01-01"),
        (table(100), "y", "few_rows", "found 100 rows with a target; wanted at least 200"),
        (table(200), "y", "few_rows", "before those to predict"),
        (table(y=table()["day"]), "y", "bad_target", "found times"),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_table_that_cannot_be_tried_is_refused(
    frame: pd.DataFrame, target: str, code: str, message: str
) -> None:
    with pytest.raises(ProblemError, match=message) as error:
        guessed(frame, target)
    assert error.value.code == code


def test_the_same_rows_in_another_order_are_guessed_the_same() -> None:
    frame = table(arrived=table()["day"] + pd.Timedelta("5h"))
    shuffled = frame.sample(frac=1, random_state=1)

    first, second = guessed(frame), guessed(shuffled)

    assert dict(first) == dict(second)


# ---------------------------------------------------------------- roles that several columns share


def test_the_time_and_the_column_that_tells_its_rows_apart_are_the_key() -> None:
    twice = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(ROWS) // 2, "h")
    found = guessed(
        table(day=twice, comment=[f"{i} words" * 9 for i in range(ROWS)], shop=["a", "b"] * 600)
    )

    assert found["history.key"] == ["day", "shop"]
    assert "2 different shop" in found.entry("history.key").reason


def test_two_columns_may_be_needed_next_to_the_time() -> None:
    day = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(ROWS) // 4, "h")
    found = guessed(table(day=day, home=list("aabb") * 300, kind=list("xyxy") * 300))

    assert found["history.key"] == ["day", "home", "kind"]


def test_a_column_that_is_empty_where_the_target_is_not_known_is_ignored() -> None:
    frame = table(paid=np.arange(ROWS) % 7.0)
    frame["y"] = frame["y"].astype("Int64").where(frame.index < ROWS - 60)
    frame["paid"] = frame["paid"].where(frame.index < ROWS - 60)
    found = guessed(frame)

    assert found["history.ignore"] == ["paid"]
    assert "empty where the target is not known yet" in found.entry("history.ignore").reason


def test_the_text_that_affirms_is_positive_even_if_it_is_the_frequent_one() -> None:
    paid = np.where(np.arange(ROWS) % 5, "Yes", "No")

    assert guessed(table(paid=paid), "paid")["history.positive"] == "Yes"


def test_a_column_close_to_the_target_is_named_and_kept() -> None:
    rng = np.random.default_rng(2)
    frame = table(target=rng.normal(size=ROWS))
    frame["twin"] = frame["target"] + 0.2 * rng.normal(size=ROWS)
    found = guessed(frame, "target")

    assert found["history.ignore"] == []
    assert "twin (correlation 0.98): alone close to the target" in found.warnings[0]


def test_a_block_is_at_most_a_year_where_a_year_has_enough_rows() -> None:
    monthly = pd.DataFrame({"day": pd.date_range("1980-01-01", periods=480, freq="MS").repeat(10)})
    monthly["y"] = np.arange(4800) / 7

    found = guessed(monthly)
    assert found["validation.block"] == "12mo"
    assert (found["as_of"], found["batch.horizon"]) == (datetime(2019, 1, 1, tzinfo=UTC), "12mo")


def test_a_month_that_reaches_the_end_begins_where_a_month_is_long_enough() -> None:
    found = guessed(table(365 * 24, "1h"))  # until 2026-12-31 23:00

    assert found["validation.block"] == "1mo"
    assert (found["as_of"], found["batch.horizon"]) == (datetime(2026, 12, 1, tzinfo=UTC), "1mo")
