"""A line that is no TOML hides no other mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl.errors import ProblemError
from automl.problem import load_problem, what_is_right
from automl.problem.syntax import read_on

TEXT = """\
name = "a"
task = "binary"
question = what next
[history]
files = "*.csv"
time = "t"
target = "y"
[metric]
name = "rmse"
[sweep]
families = ["linaer"]
budget = 60s
[validation]
block = 7d
origins = 40
"""


@pytest.mark.parametrize(
    ("text", "content", "lines"),
    [
        ('a = "x"\nb = 1', {"a": "x", "b": 1}, []),
        ("a = 60s\nb = 7d # week", {"a": "60s", "b": "7d"}, [1, 2]),
        ("a = \nb = 1\nb = 2\nc = 3", {"b": 1, "c": 3}, [1, 3]),
        ("[x\na = 1\n[y]\nb = true", {"a": 1, "y": {"b": True}}, [1]),
        ('a = ["x"\nb = 1', {}, [2]),
    ],
)
def test_what_can_be_read_is_read(text: str, content: dict[str, object], lines: list[int]) -> None:
    found, mistakes = read_on(text)

    assert found == content
    assert [f"line {n}," in m for n, m in zip(lines, mistakes, strict=True)] == [True] * len(lines)


def test_mistakes_behind_lines_that_are_no_toml_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "problem.toml"
    file.write_text(TEXT, encoding="utf-8")

    with pytest.raises(ProblemError) as error:
        load_problem(file)

    lines = str(error.value).splitlines()
    assert "6 mistakes" in lines[0]
    for part in ("at line 3,", "at line 12,", "at line 14,", "origins: found 40", "'rmse'", "'linaer'"):  # fmt: skip
        assert sum(part in line for line in lines) == 1, part


def test_the_rest_of_a_wrong_file_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "problem.toml"
    file.write_text(TEXT.replace("[metric]", "[metrics]"), encoding="utf-8")

    problem, error = what_is_right(file)

    assert problem is not None
    assert (problem.history.files, str(problem.sweep.budget)) == ("*.csv", "60s")
    assert problem.validation.origins == "auto"
    assert "metrics: unknown key" in str(error)
    assert "metric: missing" in str(error)


def test_a_mistake_that_another_one_hides_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "problem.toml"
    text = 'name = "automl-cycle"\n' + TEXT.partition("\n")[2].replace("60s", '"60s"').replace(
        "7d", '"7d"'
    )
    file.write_text(text.replace("what next", '"?"'), encoding="utf-8")

    with pytest.raises(ProblemError, match=r"publish\.table") as error:
        load_problem(file)
    assert "origins: found 40" in str(error.value)
