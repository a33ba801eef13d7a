"""`try_table` before its cycle: what it refuses, and how families reach the problem file."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl import Family, try_table
from automl.api.table import _family_entry
from automl.errors import AutomlError, ProblemError
from automl.guessing import ARGUMENTS
from automl.modeling.families import load_family
from automl.problem import load_problem

FAMILY = """
from automl import Family
def space(trial, shape): return {}
def build(params, shape, seed): ...
family = Family(name="mine", short="mine", tasks={"binary"}, encoding="dense", start=[(1, {})], space=space, build=build)
"""


@pytest.fixture
def frame() -> pd.DataFrame:
    rows = np.arange(600)
    return pd.DataFrame(
        {"day": pd.date_range("2026-01-01", periods=600, freq="2h"), "x": rows % 7.0, "y": rows % 2}
    )


def test_every_guess_can_be_overridden() -> None:
    assert set(ARGUMENTS.values()) <= set(inspect.signature(try_table).parameters)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "z"}, "target 'z' is not a column"),
        ({"time": "dai"}, "Did you mean 'day'"),
        ({"ignore": "xx"}, "ignore: 'xx' is not a column; found day, x, y"),
        ({"key": ["x", "nr"]}, "key: 'nr' is not a column"),
        ({"block": "daily"}, "block: found 'daily'; wanted a duration"),
        ({"as_of": "soon"}, "as_of: found 'soon'"),
        ({"families": ["lightgmb"]}, "Did you mean 'lightgbm'"),
        ({"families": ["mine.py"]}, "mine.py', which is not a file"),
        ({"metric": "rmse"}, "'rmse', which does not fit task 'binary'"),
        ({"budget": None}, "found neither budget nor trials"),
        ({"budget": 60}, "arguments of try_table: 1 mistake\n  sweep.budget: found 60"),
        ({"families": "lightgmb"}, "Did you mean 'lightgbm'"),
        ({"task": "rank"}, "task: found 'rank'; wanted one of binary, multiclass, regression"),
        ({"timezone": "Mars/Base"}, "timezone: found 'Mars/Base'; wanted a time zone"),
        ({"personal": "y"}, "personal: found 'y', which is the target"),
        ({"personal": ["day"]}, "personal: found 'day', which is the time"),
    ],
    ids=range(16),
)  # fmt: skip
def test_a_mistake_is_refused_before_anything_runs_and_leaves_no_file(
    frame: pd.DataFrame, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProblemError, match=message):
        try_table(frame, **{"target": "y", "time": "day", "folder": tmp_path / "new", **arguments})

    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize(
    ("name", "next_step"),
    [("problem.toml", "automl.open_project"), ("data.parquet", "Give another folder")],
)
def test_files_in_the_folder_are_never_replaced(
    frame: pd.DataFrame, tmp_path: Path, name: str, next_step: str
) -> None:
    (tmp_path / name).write_text("name = 'other'", encoding="utf-8")

    with pytest.raises(ProblemError, match=f"{name} exists already") as error:
        try_table(frame, "y", "day", folder=tmp_path)

    assert next_step in error.value.next_step
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") == "name = 'other'"


def test_row_numbers_leave_a_column_called_row_alone(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl.api.project.Project.cycle", _refuse)
    daily = frame.assign(day=frame["day"].dt.floor("D"), row=frame["x"])

    with pytest.raises(AutomlError, match="stop here"):
        try_table(daily, "y", "day", folder=tmp_path)

    copied = pd.read_parquet(tmp_path / "data.parquet")
    assert copied["row"].tolist() == frame["x"].tolist()
    assert copied["row_"].tolist() == list(range(600))
    assert load_problem(tmp_path / "problem.toml").history.key == ("row_",)


def test_personal_columns_are_not_copied(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl.api.project.Project.cycle", _refuse)

    with pytest.raises(AutomlError, match="stop here"):
        try_table(frame.assign(email="a@example.org"), "y", "day", folder=tmp_path)

    assert b"example.org" not in (tmp_path / "data.parquet").read_bytes()
    assert list(pd.read_parquet(tmp_path / "data.parquet").columns) == ["day", "x", "y"]
    assert load_problem(tmp_path / "problem.toml").history.key == ("day",)


def _refuse(*_: object, **__: object) -> None:
    raise AutomlError("stop here")


def test_a_family_of_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FAMILY, encoding="utf-8")

    assert _family_entry(load_family(str(path), tmp_path)) == str(path)
    assert _family_entry(path) == str(path)
    assert _family_entry("linear") == "linear"


def test_an_imported_family_is_named_by_its_modules_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_family_module.py").write_text(FAMILY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import own_family_module  # type: ignore[import-not-found]  # noqa: PLC0415

    assert _family_entry(own_family_module.family) == str(tmp_path / "own_family_module.py")
    del sys.modules["own_family_module"]


def test_a_family_of_a_notebook_cell_is_refused_with_what_to_do() -> None:
    cell: dict[str, Any] = {"__name__": "__main__"}
    exec(FAMILY, cell)
    family: Family = cell["family"]

    with pytest.raises(ProblemError, match="'mine' is not defined in a file of its own") as error:
        _family_entry(family)
    assert "%%writefile" in error.value.next_step
