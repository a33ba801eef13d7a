"""The command line before any cycle: help, usage errors, and what the inspecting commands show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from automl.cli.console import print_error
from automl.errors import ContractError
from automl.workspace import now
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
    """A problem that has not run yet."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_problem(tmp_path / "here")
    return Place(tmp_path / "here", tmp_path / "elsewhere")


# ---------------------------------------------------------------- help and usage


def test_help_names_every_command(place: Place) -> None:
    result = place.run("--help")

    assert result.code == 0
    assert [name for name in COMMANDS if f" {name} " not in result.out] == []


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("cycle", "[OPTIONS] FILE"),
        ("approve", "--reason STR [OPTIONS] FILE [VERSION]"),
        ("schedule", "[OPTIONS] FILE..."),
        ("spaces", "[OPTIONS] [NAME]"),
        ("doctor", "[OPTIONS] [FILE]"),
    ],
)
def test_help_of_a_command_names_its_arguments(place: Place, command: str, usage: str) -> None:
    result = place.run(command, "--help")

    assert result.out.splitlines()[0] == f"Usage: automl {command} {usage}"


@pytest.mark.parametrize(
    "arguments", [("--help",), ("status", "FILE"), ("check", "FILE")], ids=lambda a: a[0]
)
def test_inspecting_loads_no_heavy_library(place: Place, arguments: tuple[str, ...]) -> None:
    named = [str(place.file) if a == "FILE" else a for a in arguments]

    result = place.run(*named, python=("-X", "importtime"))

    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in result.err.splitlines()
        if "|" in line
    }
    assert result.code == 0
    assert "cyclopts" in loaded  # proves that the list of imports was parsed
    assert loaded.isdisjoint(HEAVY)


def test_importing_the_package_loads_no_heavy_library(tmp_path: Path) -> None:
    code = "import automl, sys; print([m for m in ('automl', *sys.argv[1:]) if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", code, *HEAVY],
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
        (("chek", "FILE"), 'Did you mean "check"?\nnext: automl --help lists the commands.'),
        (("check", "FILE", "--nope"), "--nope"),
        (("cycle",), "FILE is missing: the path of a problem file"),
        (("schedule", "--check"), "FILE is missing: the path of a problem file"),
        (("rollback", "FILE"), "--reason is missing"),
        (
            ("cycle", "FILE", "--as-of", "yesterday"),
            "--as-of: found 'yesterday'; wanted a time such as",
        ),
        (
            ("cycle", "FILE", "--budget", "5 parsecs"),
            "--budget: found '5 parsecs'; wanted a duration",
        ),
        (("check", "nowhere.toml"), "nowhere.toml: this problem file does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_exits_2_and_names_the_mistake(
    place: Place, arguments: tuple[str, ...], message: str
) -> None:
    result = place.run(*(str(place.file) if a == "FILE" else a for a in arguments))

    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert not (place.folder / ".automl").exists()


def test_an_invalid_problem_file_exits_2_and_lists_every_mistake(place: Place) -> None:
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

    result = place.run("check", str(place.file))

    assert result.code == 2
    assert "5 mistakes" in result.err
    for mistake in (
        "history.label_delay: found 'soon'; wanted a duration",
        "sweep.sede: unknown key",
        "Did you mean 'seed'?",
        "validation.origins: found 99",
        "metric.name: found 'rmse', which does not fit task 'binary'",
        "found 'linaer'; wanted one of",
        "Did you mean 'linear'?",
    ):
        assert mistake in result.err


# ---------------------------------------------------------------- before any cycle


def test_check_reports_a_valid_file_and_touches_nothing(place: Place) -> None:
    before = sorted(place.folder.iterdir())

    result = place.run("check", str(place.file))

    assert result.code == 0
    assert "parcels: the problem file is valid" in result.out
    assert sorted(place.folder.iterdir()) == before
    assert list(place.elsewhere.iterdir()) == []


def test_check_json_is_one_document(place: Place) -> None:
    result = place.run("check", str(place.file), "--json")

    assert result.code == 0
    assert result.document["schema"] == 1
    assert result.document["problem"] == "parcels"
    assert list(result.document["families"]) == ["baseline", "linear"]
    assert result.document["workspace"] == str(place.folder / ".automl")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("status", 0, "no champion yet"),
        ("leaderboard", 2, "no retraining cycle yet"),
        ("why", 2, "no retraining cycle yet"),
    ],
)
def test_inspecting_before_any_cycle_reports_that_there_is_none(
    place: Place, command: str, code: int, message: str
) -> None:
    result = place.run(command, str(place.file))

    assert result.code == code
    assert message in result.out + result.err
    assert "automl cycle" in result.out + result.err  # what to type next


@pytest.mark.parametrize(("command", "key"), [("status", "problem"), ("why", "error")])
def test_inspecting_before_any_cycle_prints_one_json_document(
    place: Place, command: str, key: str
) -> None:
    result = place.run(command, str(place.file), "--json")

    assert key in result.document
    assert result.document.get("champion") is None


# ---------------------------------------------------------------- what a cycle will need


def test_check_opens_what_a_cycle_will_need_and_leaves_nothing(place: Place) -> None:
    (place.folder / "world.db").unlink()
    before = sorted(place.folder.rglob("*"))
    result = place.run("check", str(place.file), "--data", "--json")
    assert result.code == 5
    found = {c["name"]: c for c in json.loads(result.out)["connections"]}
    assert [name for name, c in found.items() if not c["passed"]] == ["source"]
    assert "no file at" in found["source"]["found"]
    assert {"store", "table", "mlflow"} <= {*found}
    assert sorted(place.folder.rglob("*")) == before


def test_the_next_step_of_an_error_names_the_file_that_was_given(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(place.folder / "problem.toml")
    error = ContractError(
        "column 'id' is gone", next_step="Accept it: automl contract FILE --accept"
    )
    print_error(error, ["contract", file, "--json"], now())
    shown = capsys.readouterr()
    assert f"next: Accept it: automl contract {file} --accept" in shown.err
    assert json.loads(shown.out)["error"]["next"] == f"Accept it: automl contract {file} --accept"
