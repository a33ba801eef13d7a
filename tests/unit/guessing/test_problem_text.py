"""Guesses become a problem file that is valid and says why."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd

from automl.guessing.frames import as_table
from automl.guessing.guesses import guess
from automl.guessing.problem_text import Search, problem_text
from automl.problem import load_problem

ODD = 'a "quoted" \\ name ü'


def text_of(**given: object) -> str:
    frame = pd.DataFrame({"day": pd.date_range("2026-01-01", periods=600, freq="2h").repeat(2)})
    frame[ODD] = np.arange(1200) % 2
    frame["email"] = "x@example.org"
    guesses = guess(as_table(frame, "day"), ODD, {"history.ignore": [], **given})
    search = Search(families=["baseline", "linear"], budget="60s", trials=None, seed=0)
    return problem_text(guesses, search, name="try-odd", target=ODD, files="data.parquet")


def test_the_file_is_a_valid_problem(tmp_path: Path) -> None:
    file = tmp_path / "problem.toml"
    file.write_text(text_of(), encoding="utf-8")

    problem = load_problem(file)

    assert problem.history.target == ODD
    assert problem.history.key == ("row",)
    assert problem.history.personal == ()  # not copied into the data
    assert str(problem.validation.block) == "7d"


def test_every_guess_has_its_reason_as_a_comment() -> None:
    lines = text_of().splitlines()

    guessed = [line for line in lines if line.startswith(("task", "block", "key", "# label_delay"))]
    assert len(guessed) == 4
    assert all(line.partition("# ")[2] for line in guessed)
    assert any('personal = ["email"]' in line for line in lines)


def test_what_is_given_stands_in_the_file() -> None:
    content = tomllib.loads(text_of(**{"metric.name": "brier", "history.label_delay": "2d"}))

    assert content["metric"]["name"] == "brier"
    assert content["history"]["label_delay"] == "2d"
