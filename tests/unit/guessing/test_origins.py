"""Sources as typed: samples of files and databases, and what the problem file says of them."""

from __future__ import annotations

import runpy
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from automl.errors import AutomlError, ProblemError
from automl.guessing import open_origin
from automl.history.sources import sampling

ROWS = 300


def table() -> pd.DataFrame:
    frame = pd.DataFrame({"at": pd.date_range("2026-01-01", periods=ROWS, freq="h")})
    frame["code"] = [f"{i:04}" for i in range(ROWS)]
    frame["price"] = np.arange(ROWS) / 7
    frame["seats"] = np.arange(ROWS) % 9
    frame["y"] = np.where(np.arange(ROWS) % 3, "no", "yes")
    return frame


def test_a_csv_file_is_read_as_a_pull_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    table().assign(seats=lambda f: f["seats"].astype("object").where(f["seats"] > 0, "n/a")).to_csv(
        file, sep=";", decimal=",", index=False
    )

    frame = open_origin(str(file), "", tmp_path).sampled.frame

    assert frame["at"].dtype.kind == "M"
    assert frame["code"].tolist()[:2] == ["0000", "0001"], "a code is no number"
    assert frame["price"].tolist() == pytest.approx(table()["price"].tolist())
    assert (frame["seats"].dtype, int(frame["seats"].isna().sum())) == ("Int64", 34)


def test_a_script_reads_decimal_commas_and_days_before_months(tmp_path: Path) -> None:
    frame = table().assign(at=lambda f: f["at"].dt.strftime("%d.%m.%Y %H:%M"))
    frame.to_csv(tmp_path / "a.csv", sep=";", decimal=",", index=False)

    origin, _ = open_origin(str(tmp_path / "a.csv"), "", tmp_path).with_time("at", tmp_path)
    (tmp_path / "rows.py").write_text(origin.script, encoding="utf-8")
    rows = runpy.run_path(str(tmp_path / "rows.py"))["rows"](None, None)

    assert rows["at"].tolist() == table()["at"].tolist()
    assert rows["price"].tolist() == pytest.approx(table()["price"].tolist())


def test_a_folder_is_one_source_and_a_path_is_relative_to_the_problem_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for part in range(2):
        table().iloc[part::2].to_parquet(tmp_path / f"in/{part}.parquet")

    origin = open_origin(str(tmp_path / "in"), "", tmp_path)

    assert (origin.files, origin.sampled.rows) == ("in", ROWS)
    assert open_origin(str(tmp_path / "in"), "", tmp_path / "in").files == "*"
    assert open_origin(str(tmp_path / "in"), "", tmp_path / "x").files == str(tmp_path / "in")


def test_of_many_rows_every_fourth_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "MOST_ROWS", 100)
    table().to_parquet(tmp_path / "a.parquet")

    origin = open_origin(str(tmp_path / "a.parquet"), "", tmp_path)

    assert (origin.sampled.every, origin.sampled.rows) == (4, ROWS)
    assert origin.sampled.frame["code"].tolist()[:3] == ["0000", "0004", "0008"]
    assert "300 rows, of which every 4th was looked at" in str(origin.lines[0][2])


@pytest.fixture
def database(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "w.db") as connection:
        table().assign(at=lambda f: f["at"].astype("str")).to_sql("Sales 1", connection)
        table().to_sql("trips", connection)
    return f"sqlite:///{tmp_path / 'w.db'}"


def test_a_table_of_a_database_becomes_queries_with_bounds(database: str, tmp_path: Path) -> None:
    origin, _ = open_origin(database, "Sales 1", tmp_path).with_time("at", tmp_path)

    assert origin.lines[0][1] == "sqlite:///w.db", "relative to the problem file"
    assert origin.lines[1][1] == 'select * from "Sales 1" where at < :as_of'
    assert origin.batch_lines[0][1] == (
        'select * from "Sales 1" where at >= :as_of and at < :until'
    )


def test_of_a_large_table_the_newest_rows_are_looked_at(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "MOST_ROWS", 50)

    sampled = open_origin(database, "trips", tmp_path).sampled

    assert sampled.rows is None
    assert sampled.frame["code"].tolist() == [f"{i:04}" for i in range(ROWS - 50, ROWS)]


@pytest.mark.parametrize(
    ("source", "name", "found"),
    [
        ("trips.csv", "", "trips.csv: is not there.* Did you mean 'trip.csv'"),
        ("trip.csv", "sales", "found the table 'sales' after 'trip.csv'"),
        ("sqlite:///w.db", "", "found no table name; wanted one of Sales 1, trips"),
        ("w.db", "tripz", "has no table 'tripz'.* Did you mean 'trips'"),
        ("sqlite:///v.db", "trips", "no file at"),
    ],
)
def test_a_source_that_is_not_there_is_refused_with_what_is(
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    name: str,
    found: str,
) -> None:
    table().to_csv(tmp_path / "trip.csv", index=False)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(AutomlError, match=found):
        open_origin(source, name, tmp_path)


def test_times_of_a_database_that_a_pull_does_not_read_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "w.db") as connection:
        table().assign(at=lambda f: f["at"].dt.strftime("%d.%m.%Y")).to_sql("t", connection)
    origin = open_origin(f"sqlite:///{tmp_path}/w.db", "t", tmp_path)

    with pytest.raises(ProblemError, match=r"holds values such as '01.01.2026'"):
        origin.with_time("at", tmp_path)
