"""Commands and Python that the pages show can be typed; tests/scenarios/test_documented_commands.py runs them."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclopts import CycloptsError

import automl
from automl.api import Project, Tryout
from automl.cli.entry import app
from automl.problem import load_problem
from tests.project.test_docs import COMMANDS
from tests.support.documented import PAGES, ROOT, Block, arguments, blocks, in_workspace

BLOCKS = blocks()
SHOWN = [b for b in BLOCKS if b.kind in ("sh", "crontab")]
PYTHON = [b for b in BLOCKS if b.kind == "python"]
HOMES = {"automl": automl, "attempt": Tryout, "project": Project}
MOST_NOT_RUN = 0.1
TARGETS = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))


def _place(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("block", SHOWN, ids=_place)
def test_every_shown_command_can_be_typed(block: Block) -> None:
    assert block.commands()
    wrong = [found for line in block.commands() for found in _mistakes(line)]
    assert wrong == []


def _mistakes(line: str) -> Iterator[str]:
    for words in arguments(line):
        try:
            app.parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            yield f"{line}: {error}"
    for call in re.split(r"\s*(?:&&|\|\|)\s*", in_workspace(line)):
        words = re.findall(r"\S+", call)
        if words[:1] == ["make"] and words[1] not in TARGETS:
            yield f"{line}: no target {words[1]}"
        elif words[:2] == ["python", "-m"]:
            importlib.import_module(words[2])
        elif words[:1] == ["python"] and not (ROOT / words[1]).exists():
            yield f"{line}: no file {words[1]}"


def test_a_wrong_option_or_value_of_a_shown_command_is_found() -> None:
    assert not [*_mistakes("automl status FILE --json")]
    for line in ("automl status FILE --jsn", "automl cycle FILE --plan fast", "make tset"):
        assert [*_mistakes(line)], line


@pytest.mark.parametrize("block", PYTHON, ids=_place)
def test_shown_python_compiles_and_uses_what_exists(block: Block) -> None:
    tree = ast.parse(block.text)
    compile(tree, block.place, "exec")
    assert _missing(tree) == []


def _missing(tree: ast.AST) -> list[str]:
    """Imported names, attributes and arguments of ours that are not there."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            found += [f"{node.module}.{n.name}" for n in node.names if not hasattr(module, n.name)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            home = HOMES.get(node.value.id)
            if home is not None and not hasattr(home, node.attr):
                found.append(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call):
            found += _unknown_arguments(node)
    return found


def _unknown_arguments(call: ast.Call) -> list[str]:
    owner, _, name = ast.unparse(call.func).rpartition(".")
    function: Any = getattr(HOMES.get(owner), name, None)
    if not callable(function):
        return []
    known = inspect.signature(function).parameters
    return [f"{owner}.{name}({k.arg}=)" for k in call.keywords if k.arg and k.arg not in known]


NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_notebooks_compile_use_what_exists_and_hold_no_outputs(file: Path) -> None:
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in code)
    for cell in code:
        text = "".join(cell["source"])
        if not text.startswith("%%writefile problem.toml"):
            plain = re.sub(r"(?m)^[%!].*$", "", text)
            compile(plain, file.name, "exec")
            assert _missing(ast.parse(plain)) == []


def test_wrong_names_in_shown_python_are_found() -> None:
    code = (
        "import automl\nfrom automl import Famly\nproject.cycel()\nautoml.try_table(frame, aim='y')"
    )
    found = {"automl.Famly", "project.cycel", "automl.try_table(aim=)"}
    assert set(_missing(ast.parse(code))) == found


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.kind == "toml" and b.said("file")], ids=_place
)
def test_problem_files_that_a_page_shows_whole_are_valid(block: Block, tmp_path: Path) -> None:
    (tmp_path / "problem.toml").write_text(block.text, encoding="utf-8")
    assert load_problem(tmp_path / "problem.toml").sweep.families


def test_at_most_a_tenth_of_what_is_shown_is_not_run_and_the_reason_is_there() -> None:
    lines = {b.place: max(1, len(b.commands())) for b in [*SHOWN, *PYTHON]}
    left = {b.place: b.said("not run") for b in [*SHOWN, *PYTHON] if b.note.startswith("not run")}
    assert len(lines) > 60, "the search found them"
    assert all(len(reason.split()) >= 4 for reason in left.values()), left
    assert sum(lines[place] for place in left) <= MOST_NOT_RUN * sum(lines.values())


def test_commands_are_marked_as_such() -> None:
    """A fence without a language is text, which is not run."""
    plain = [b for b in BLOCKS if not b.kind and not b.note.startswith("synopsis")]
    typed = re.compile(r"(?m)^(\S+=\S+ )*(automl [a-z]|make |python |pip |curl |prefect )")
    assert [b.place for b in plain if typed.search(b.text)] == []
    notes = {b.note.split(":")[0] for b in BLOCKS if b.note}
    assert notes <= {"file", "not run", "synopsis", "stopped once it prints", "stays once it prints", "exit"}  # fmt: skip


def test_every_command_is_shown_where_it_is_run() -> None:
    run = {words[0] for b in SHOWN if b.runs for line in b.commands() for words in arguments(line)}
    never = {"approve", "reject"}  # a challenger has to wait; their own scenarios run them
    assert set(COMMANDS) - run <= never


def test_every_page_of_docs_is_in_the_menus_of_the_site() -> None:
    menus = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    pages = [p.relative_to(ROOT / "docs").as_posix() for p in PAGES if (ROOT / "docs") in p.parents]
    listed = re.findall(r"[\w./-]+\.md", menus)
    assert [p for p in pages if p not in listed and not p.startswith("decisions/")] == []
    assert len(listed) == len(set(listed))


def test_words_of_a_command_line_are_those_of_a_shell() -> None:
    line = 'cd x && automl rollback FILE --reason "wrong prices" || true'
    assert arguments(line) == [["rollback", "problem.toml", "--reason", "wrong prices"]]
    assert shlex.split(in_workspace("automl status --all /srv/automl"))[-1] == "."
