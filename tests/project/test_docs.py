"""The docs name what exists: commands, options, keys of the problem file, links and pictures."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import automl
from automl.api.project import Project
from automl.api.table import Tryout
from automl.problem import Problem, load_problem

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/*.md")])
GLOSSARY = [  # the words of the project, each with an entry in docs/concepts.md
    "problem", "history", "as_of", "slot", "label delay", "mature", "contract", "snapshot", "batch",
    "family", "start point", "recipe", "blend", "baseline", "block", "origin", "gap", "trial", "sweep",
    "leaderboard", "plan", "policy", "skip", "refit", "fit cache", "champion", "challenger", "shadow", "previous champion",
    "probation", "evidence", "out-of-sample", "in-sample", "gain", "P(better)", "decision", "promotion regret", "guard",
    "release", "ledger", "alias", "rollback", "generation", "publish", "pointer", "standby",
    "realised performance", "promise", "expected performance", "drift", "alert", "backtest", "cycle", "step", "workspace", "store", "projection", "fence",
]  # fmt: skip
COMMANDS = [
    "init", "check", "spaces", "cycle", "retrain", "score", "status", "leaderboard", "why", "history", "contract",
    "schedule", "ui", "doctor", "champion", "rollback", "approve", "reject", "monitor",
    "backfill", "backtest", "reproduce", "report",
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_of_a_page_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8"))
    missing = [x for x in links if not x.startswith("http") and not (page.parent / x).exists()]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """Addresses of a page's headings, as GitHub makes them."""
    prose = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    headings = re.findall(r"(?m)^#+ (.+)$", prose)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_anchor_that_a_page_links_to_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert links or page.name not in {"README.md", "concepts.md"} or page.parent != ROOT
    missing = [
        f"{name}#{anchor}"
        for name, anchor in links
        if not name.startswith("http")
        and anchor not in anchors(page.parent / name if name else page)
    ]
    assert missing == []


@pytest.mark.parametrize("word", GLOSSARY)
def test_every_word_of_the_glossary_has_an_entry(word: str) -> None:
    page = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    assert re.search(rf"(?m)^### {re.escape(word)}$", page), word


def test_every_column_of_the_saved_views_is_explained() -> None:
    views = (ROOT / "automl" / "tracking" / "views.py").read_text(encoding="utf-8")
    names = re.findall(r"(?:tags|metrics|params)\.`([^`]+)`", views)
    shown = {re.sub(r"\{[^}]+\}", "METRIC", name) for name in names}
    page = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    assert len(shown) > 15, "the search found them"
    assert sorted(name for name in shown if f"`{name}`" not in page) == []


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of each command, as its help shows them."""
    from automl.cli import app  # noqa: PLC0415  here alone

    found = {}
    for name in (*COMMANDS, "--install-completion"):
        arguments = app[name].assemble_argument_collection()
        found[name] = {name} | {n for argument in arguments for n in argument.names}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_options_that_a_page_names_exist(
    page: Path, options: dict[str, set[str]]
) -> None:
    text = page.read_text(encoding="utf-8")
    spans = [*re.findall(r"`(automl [^`]+)`", text), *_code_lines(text)]
    wrong = []
    for span in spans:
        names = span.split("  ")[0].split()[1].split("|")
        wrong += [span for n in names if n not in COMMANDS and not n.startswith(("-", "C"))]
        given = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", span.split("#")[0]))
        known = {"--help", "--version"}.union(*(options.get(n, set()) for n in names))
        wrong += [f"{span}: {option}" for option in given - known]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_files_that_a_page_names_exist(page: Path) -> None:
    text = re.sub(r"(?m)^.*(earlier|of then).*$", "", page.read_text(encoding="utf-8"))
    spans = re.findall(r"`([^`\s]+)`", text)
    top = "automl|flows|search_spaces|tests|docs|benchmarks|examples"
    files = [x for x in spans if re.match(rf"(?:{top})/", x) and not re.search(r"[A-Z*{]", x)]
    missing = [x for x in files if not (ROOT / x).exists()]
    modules = [x for x in spans if re.fullmatch(r"automl(\.[A-Za-z_]\w*)+", x)]
    missing += [x for x in modules if x.count(".") > 1 and not _importable(x)]
    assert missing == []


def _code_lines(text: str) -> list[str]:
    blocks = re.findall(r"(?ms)^```\w*\n(.*?)^```", text)
    return [line for block in blocks for line in block.splitlines() if line.startswith("automl ")]


def _importable(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), attribute) or bool(
            importlib.util.find_spec(name)
        )
    except ModuleNotFoundError:
        return False


def test_the_architecture_page_states_every_import_contract() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    assert [c["name"] for c in contracts if c["name"] not in page] == []
    packages = {p.name for p in (ROOT / "automl").iterdir() if (p / "__init__.py").exists()}
    assert sorted(name for name in packages if f"`automl/{name}/`" not in page) == []


@pytest.mark.parametrize("name", ["architecture", "cycle"])
def test_pictures_show_the_present_code(name: str) -> None:
    drawn = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "draw.py"), name],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout
    kept = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == kept, "run: python docs/draw.py"


def test_the_citation_and_the_licence_agree_with_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_readme_documents_every_command_and_the_commands_are_these() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = subprocess.run(
        [sys.executable, "-m", "automl.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for command in COMMANDS:
        assert re.search(rf"│ {command}\s", shown), command
        assert re.search(rf"automl [a-z|]*\b{command}\b", readme), command


def test_every_key_of_the_problem_file_is_documented() -> None:
    page = (ROOT / "docs" / "problem-file.md").read_text(encoding="utf-8")
    for name, field in Problem.model_fields.items():
        section = field.annotation
        inner = getattr(section, "model_fields", {}) if isinstance(section, type) else {}
        for key in inner or ({name} - {"file"}):
            assert f"`{key}`" in page, f"{name}.{key}"


def test_every_finding_code_of_the_data_is_in_the_operations_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    files = (ROOT / "automl" / "history").rglob("*.py")
    code = re.compile(r'(?:\bcode=|\bcode, \w+ = |\bReason\(\s*|\bFinding\(\s*)"(\w+)"')
    codes = {c for file in files for c in code.findall(file.read_text(encoding="utf-8"))}
    assert len(codes) > 50, "the search found them"
    assert sorted(c for c in codes if f"`{c}`" not in page) == []


def test_the_problem_file_of_the_readme_is_valid(tmp_path: Path) -> None:
    block = re.search(
        r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert block is not None
    (tmp_path / "problem.toml").write_text(block[1], encoding="utf-8")
    assert load_problem(tmp_path / "problem.toml").table == "flight_delays"


def test_the_python_of_the_readme_uses_what_exists() -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert block is not None
    homes = {"automl": automl, "attempt": Tryout, "project": Project}
    names = re.findall(r"\b(automl|attempt|project)\.(\w+)", block[1].replace("problem.toml", ""))
    assert len(names) >= 6
    assert [f"{home}.{name}" for home, name in names if not hasattr(homes[home], name)] == []
    calls = [n for n in ast.walk(ast.parse(block[1])) if isinstance(n, ast.Call)]
    call = next(c for c in calls if ast.unparse(c.func) == "automl.try_table")
    assert {k.arg for k in call.keywords} <= set(inspect.signature(automl.try_table).parameters)


def test_make_help_lists_the_two_commands_of_the_readme() -> None:
    shown = subprocess.run(
        ["make", "-C", str(ROOT)], capture_output=True, text=True, check=True
    ).stdout
    assert {"demo", "test", "check"} <= {
        line.split()[0] for line in shown.splitlines() if line.strip()
    }
    assert "make test" in (ROOT / ".ci" / "run").read_text() + (ROOT / "README.md").read_text()


def test_the_lock_pins_every_dependency_with_hashes_and_names_no_index() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    for need in [*project["project"]["dependencies"], *groups["dev"], *groups["docs"]]:
        name = re.match(r"[A-Za-z0-9_.-]+", need)
        assert name is not None
        assert re.search(rf"(?m)^{re.escape(name[0].lower())}==\S+ .*\\$", lock), need
        assert "<" in need, f"{need} has no upper bound"
    assert "://" not in lock


@pytest.mark.parametrize("name", ["flights"])
def test_kept_results_name_their_figures_date_commit_and_cores(name: str) -> None:
    kept = json.loads(
        (ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8")
    )
    assert {"date", "commit", "cores", "figures"} <= set(kept)
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for key, value in kept["figures"].items():
        if key.startswith("mean_roc_auc"):
            assert f"{value:.4f}" in page, key
