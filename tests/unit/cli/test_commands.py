"""What every command has in common: options, one document with its schema, completion, colours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from automl.cli import app, console, error_text
from automl.cli.app import app as commands
from automl.cli.error_text import wrapped
from automl.problem import Problem
from automl.report.lines import command, sentence

NAMES = sorted(name for name in commands if not name.startswith("-"))
SERVED = {"ui"}  # print no document


def options(name: str) -> set[str]:
    return {n for a in app[name].assemble_argument_collection() for n in a.names}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_takes_quiet_debug_and_json(name: str) -> None:
    wanted = {"--quiet", "--debug"} | ({"--json"} - ({"--json"} if name in SERVED else set()))
    assert wanted <= options(name)


def test_completion_knows_commands_and_options() -> None:
    script = commands.generate_completion(prog_name="automl", shell="bash")
    assert [name for name in NAMES if name not in script] == []
    assert "--columns" in script
    assert "--install-completion" in list(commands)


@pytest.mark.parametrize("as_json", [True, False])
def test_every_document_has_its_schema_and_text_has_none(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    console.print_document({"a": float("1")}, lambda _: "text", as_json=as_json)
    out = capsys.readouterr().out
    assert (json.loads(out) == {"schema": 1, "a": 1.0}) if as_json else (out == "text\n")


def test_commands_to_copy_stay_whole_and_sentences_wrap_under_themselves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    copied = f"sqlite3 /a/{'long/' * 20}automl.db 'select * from parcels'"
    console.print_document({}, lambda _: command(copied, indent=4), as_json=False)
    assert capsys.readouterr().out == f"    {copied}\n"
    words = " ".join(["word"] * 40)
    console.print_document({}, lambda _: sentence(words), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert {len(line) - len(line.lstrip()) for line in lines} == {2}
    assert " ".join(" ".join(lines).split()) == words


@pytest.mark.parametrize("colours", ["NO_COLOR", "FORCE_COLOR"])
def test_no_color_is_respected(
    colours: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(colours, "1")
    console.print_document({}, lambda _: sentence("late", style="red"), as_json=False)
    assert ("\x1b[31m" in capsys.readouterr().out) is (colours == "FORCE_COLOR")


# ---------------------------------------------------------------- errors on a terminal

NEXT = "Fix the source, or accept the change: automl contract /srv/problems/parcels/problem.toml --accept"


def test_an_error_without_a_terminal_is_a_line_per_part() -> None:
    text = error_text.error_text("a " * 60 + "b", effect="champion", next_step=NEXT)
    assert [line.partition(":")[0] for line in text.splitlines()] == ["error", "unchanged", "next"]


def test_an_error_on_a_terminal_wraps_sentences_and_never_a_command() -> None:
    text = error_text.error_text(
        "found x; " * 20, effect="e", changed=True, next_step=NEXT, width=80
    )
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[-1] == (
        "  automl contract /srv/problems/parcels/problem.toml --accept"
    )
    assert "in effect: e" in text


@pytest.mark.parametrize(
    "typed",
    [
        "automl rollback FILE --to 3 --reason 'prices were wrong'",
        "pip install automl-retrain[postgres]",
        "iconv -f WINDOWS-1252 -t UTF-8 rows.csv > utf8/rows.csv",
        "export AUTOML_KEY_SECRET=...",
    ],
)
@pytest.mark.parametrize("words", range(1, 30, 4))
def test_a_command_in_a_sentence_is_never_broken(typed: str, words: int) -> None:
    text = wrapped(f"next: {'word ' * words}{typed}, then run the same command again.", 80)
    assert [line for line in text.splitlines() if typed in line]


# ---------------------------------------------------------------- status of one problem


def test_status_of_a_problem_before_its_first_cycle_names_the_command(
    make_problem: Callable[..., Problem], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_problem()
    assert app(["status", str(tmp_path / "problem.toml")], result_action="return_value") == 0
    assert "next: automl cycle problem.toml" in capsys.readouterr().out
