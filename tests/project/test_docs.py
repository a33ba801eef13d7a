"""The docs name what exists: commands, options, keys of the problem file, links and pictures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from automl.problem import Problem, load_problem

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/*.md")])
COMMANDS = [
    "check", "spaces", "cycle", "retrain", "score", "status", "leaderboard", "why", "history", "contract",
    "schedule", "ui", "doctor",
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_of_a_page_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8"))
    missing = [x for x in links if not x.startswith("http") and not (page.parent / x).exists()]
    assert missing == []


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
    files = [*(ROOT / "automl/history").glob("*.py"), *(ROOT / "automl/contract").glob("*.py")]
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
    for need in [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]:
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
