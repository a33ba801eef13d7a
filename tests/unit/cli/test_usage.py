"""The command line before any cycle has run: help, mistakes, and what there is to see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.parcels import write_problem
from tests.support.typing_commands import HEAVY, Place

COMMANDS = (
    "cycle",
    "retrain",
    "score",
    "schedule",
    "status",
    "leaderboard",
    "why",
    "ui",
    "check",
    "spaces",
    "doctor",
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A problem that nobody has run yet."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_problem(tmp_path / "here")
    return Place(tmp_path / "here", tmp_path / "elsewhere")


# ---------------------------------------------------------------- help and usage


def test_help_names_every_command(place: Place) -> None:
    answer = place.run("--help")

    assert answer.code == 0
    assert [name for name in COMMANDS if f" {name} " not in answer.out] == []


@pytest.mark.parametrize(
    "arguments", [("--help",), ("status", "FILE"), ("check", "FILE")], ids=lambda a: a[0]
)
def test_looking_loads_no_heavy_library(place: Place, arguments: tuple[str, ...]) -> None:
    named = [str(place.file) if a == "FILE" else a for a in arguments]

    answer = place.run(*named, python=("-X", "importtime"))

    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in answer.err.splitlines()
        if "|" in line
    }
    assert answer.code == 0
    assert "cyclopts" in loaded  # the list of imports was read rightly
    assert loaded.isdisjoint(HEAVY)


def test_importing_the_package_loads_no_heavy_library(tmp_path: Path) -> None:
    told = "import automl, sys; print([m for m in ('automl', *sys.argv[1:]) if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", told, *HEAVY],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "['automl']\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nope",), "--nope"),
        (("chek", "FILE"), "chek"),
        (("check", "FILE", "--nope"), "--nope"),
        (("cycle",), "--file requires an argument"),
        (
            ("cycle", "FILE", "--as-of", "yesterday"),
            "--as-of: found 'yesterday'; wanted a time such as",
        ),
        (("cycle", "FILE", "--budget", "5 parsecs"), "--budget: '5 parsecs' is not a duration"),
        (("check", "nowhere.toml"), "nowhere.toml: no such problem file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_ends_in_2_and_says_what_is_wrong(
    place: Place, arguments: tuple[str, ...], message: str
) -> None:
    answer = place.run(*(str(place.file) if a == "FILE" else a for a in arguments))

    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert not (place.folder / ".automl").exists()


def test_a_wrong_problem_file_ends_in_2_and_lists_every_mistake(place: Place) -> None:
    text = place.file.read_text(encoding="utf-8")
    for old, new in {
        '"roc_auc"': '"rmse"',
        '"linear"': '"linaer"',
        "origins = 2": "origins = 99",
        "seed     = 3": "sede     = 3",
        'label_delay = "1d"': 'label_delay = "soon"',
    }.items():
        assert old in text
        text = text.replace(old, new)
    place.file.write_text(text, encoding="utf-8")

    answer = place.run("check", str(place.file))

    assert answer.code == 2
    assert "5 mistakes" in answer.err
    for mistake in (
        "history.label_delay: 'soon' is not a duration",
        "sweep.sede: unknown key",
        "Did you mean 'seed'?",
        "validation.origins: found 99",
        "metric.name: 'rmse' does not fit task 'binary'",
        "'linaer' is no family",
        "Did you mean 'linear'?",
    ):
        assert mistake in answer.err


# ---------------------------------------------------------------- before any cycle


def test_check_says_what_is_valid_and_touches_nothing(place: Place) -> None:
    before = sorted(place.folder.iterdir())

    answer = place.run("check", str(place.file))

    assert answer.code == 0
    assert "parcels: the problem file is valid" in answer.out
    assert sorted(place.folder.iterdir()) == before
    assert list(place.elsewhere.iterdir()) == []


def test_check_json_is_one_document(place: Place) -> None:
    answer = place.run("check", str(place.file), "--json")

    assert answer.code == 0
    assert answer.document["schema"] == 1
    assert answer.document["problem"] == "parcels"
    assert list(answer.document["families"]) == ["baseline", "linear"]
    assert answer.document["workspace"] == str(place.folder / ".automl")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("status", 0, "no champion yet"),
        ("leaderboard", 2, "no retraining cycle yet"),
        ("why", 2, "no retraining cycle yet"),
    ],
)
def test_looking_before_any_cycle_says_that_there_is_none(
    place: Place, command: str, code: int, message: str
) -> None:
    answer = place.run(command, str(place.file))

    assert answer.code == code
    assert message in answer.out + answer.err
    assert "automl cycle" in answer.out + answer.err  # what to type next


@pytest.mark.parametrize(("command", "key"), [("status", "problem"), ("why", "error")])
def test_looking_before_any_cycle_answers_one_json_document(
    place: Place, command: str, key: str
) -> None:
    answer = place.run(command, str(place.file), "--json")

    assert key in answer.document
    assert answer.document.get("champion") is None
