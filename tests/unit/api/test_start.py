"""`init` writes a problem file that is checked, or nothing; templates are copied whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl import init
from automl.api.checking import check_problem
from automl.api.templates import TEMPLATES
from automl.errors import AutomlError, ProblemError
from automl.workspace import open_workspace

ROWS = 900


@pytest.fixture
def trips(tmp_path: Path) -> Path:
    rows = np.arange(ROWS)
    frame = pd.DataFrame({"left": pd.date_range("2026-01-01", periods=ROWS, freq="2h")})
    frame = frame.assign(load=rows % 7, late=np.where(rows % 3, "no", "yes"), year=2026)
    frame.to_csv(tmp_path / "trips.csv", index=False)
    return tmp_path / "trips.csv"


def test_the_file_is_valid_checked_and_says_why(trips: Path) -> None:
    started = init(trips, target="late", folder=trips.parent, label_delay="2d")
    history = started.project.problem.history

    assert (history.files, history.time, history.key) == ("trips.csv", "left", ("left",))
    assert (history.positive, str(history.label_delay)) == ("yes", "2d")
    assert all(c["passed"] for c in started.checked["connections"])
    assert (
        "#   automl cycle problem.toml --as-of " + started.document["as_of"] in started.problem_toml
    )
    assert "the only column of dates" in started.problem_toml
    assert "# Learned from: load, year." in started.problem_toml


@pytest.mark.parametrize(
    "wanted", [{"source": "trips.csv", "target": "late"}, {"template": "churn"}]
)
def test_a_folder_that_cannot_be_written_is_refused(
    trips: Path, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, str]
) -> None:
    monkeypatch.chdir(trips.parent)
    with pytest.raises(ProblemError, match=r"below: cannot be written: Not a directory") as caught:
        init(**wanted, folder=trips / "below")
    assert "--folder" in caught.value.next_step
    assert [f.name for f in trips.parent.iterdir()] == ["trips.csv"]


def test_times_that_a_pull_does_not_read_get_a_function_that_converts_them(trips: Path) -> None:
    table = pd.read_csv(trips, parse_dates=["left"])
    table.assign(left=table["left"].dt.strftime("%d.%m.%Y %H:%M")).to_csv(trips, index=False)

    started = init(trips, target="late", folder=trips.parent)

    assert started.project.problem.history.python == "rows:rows"
    assert "source" in [c["name"] for c in started.checked["connections"] if c["passed"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "lat"}, "target 'lat' is not a column.* Did you mean 'late'"),
        ({"target": "late", "metric": "rmse"}, "'rmse', which does not fit task 'binary'"),
        ({"target": "late", "key": "nr"}, "key: 'nr' is not a column"),
        ({}, "target: found no name that says so"),
        ({"template": "chrn"}, "found the source"),
    ],
)
def test_a_mistake_leaves_no_file(trips: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        init(trips, folder=trips.parent / "new", **options)

    assert [p.name for p in trips.parent.iterdir()] == ["trips.csv"]


def test_no_file_is_replaced(trips: Path) -> None:
    (trips.parent / "problem.toml").write_text("mine", encoding="utf-8")

    with pytest.raises(ProblemError, match="exists already") as error:
        init(trips, target="late", folder=trips.parent)
    assert "automl check" in error.value.next_step
    assert (trips.parent / "problem.toml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_a_problem_whose_source_opens(name: str, tmp_path: Path) -> None:
    started = init(template=name, folder=tmp_path / "new")

    assert started.project.problem.name == name
    assert [c for c in started.checked["connections"] if not c["passed"]] == []
    assert f"--as-of {started.document['as_of']}" in started.problem_toml


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_first_cycle_of_a_template_publishes(name: str, tmp_path: Path) -> None:
    started = init(template=name, folder=tmp_path / "new")
    result = started.project.cycle(as_of=started.as_of)

    assert result.status == "published"
    assert len(started.project.predictions()) > 20


def test_mistakes_behind_another_are_found_by_one_check(tmp_path: Path) -> None:
    started = init(template="churn", folder=tmp_path)
    file = started.project.problem.file
    (tmp_path / "own.py").write_text("raise RuntimeError('boom')", encoding="utf-8")
    text = started.problem_toml.replace('"60s"', '"60s"\nfamilies = ["linear", "own.py"]')
    file.write_text(
        text.replace('key         = ["week", "aircraft"]', 'key = ["plane"]').replace("7d", "0d")
    )

    with pytest.raises(AutomlError) as error:
        check_problem(file, open_workspace(file), data=True)

    for part in (
        "batch.horizon: found '0d'",
        "validation.block: found '0d'",
        "own.py: loading raised RuntimeError: boom",
    ):
        assert part in str(error.value)
