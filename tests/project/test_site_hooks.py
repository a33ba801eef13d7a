"""The site shows the Markdown of GitHub: lists with paragraphs, tables and code, and links that leave docs/."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("github", "site"),
    [
        ("text\n- a\n- b\n", "text\n\n- a\n- b\n"),
        ("- a\n  on\n- b\n", "- a\n    on\n- b\n"),
        ("- a\n\n  on\n- b\n", "- a\n\n    on\n\n- b\n"),
        ("1. a\n\n   ```sh\n   x\n   ```\n", "1. a\n\n    ```sh\n    x\n    ```\n"),
        ("```\n- a\n  b\n```\n", "```\n- a\n  b\n```\n"),
        ("- a\n  - b\n    on\n", "- a\n    - b\n        on\n"),
    ],
)
def test_lists_are_indented_by_four_and_code_is_left_alone(
    hooks: ModuleType, github: str, site: str
) -> None:
    assert hooks.indented(github) == site


@pytest.mark.parametrize(
    ("page", "link", "found"),
    [
        ("operations.md", "concepts.md#slot", "concepts.md#slot"),
        ("upgrading.md", "../CHANGELOG.md", "project/changelog.md"),
        ("project/contributing.md", "docs/families.md", "../families.md"),
        ("project/contributing.md", "CHANGELOG.md", "changelog.md"),
        ("howto/service.md", "../../examples/deploy/automl.service", "../files/examples/deploy/automl.service"),
        ("index.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("terminal.md", "../README.md#commands", "project/overview.md#commands"),
        ("index.md", "nothing.md", "nothing.md"),
    ],
)  # fmt: skip
def test_links_lead_to_the_same_file_inside_the_site(
    hooks: ModuleType, page: str, link: str, found: str
) -> None:
    assert hooks._relinked(f"[x]({link})", page) == f"[x]({found})"


def test_the_reference_names_every_command_key_and_export() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        from reference import pages  # noqa: PLC0415  docs/ is no package
    finally:
        sys.path.remove(str(DOCS))
    import automl  # noqa: PLC0415
    from automl.problem import Problem  # noqa: PLC0415
    from tests.project.test_docs import COMMANDS  # noqa: PLC0415

    made = pages()
    for command in COMMANDS:
        assert f"\n### {command}\n" in made["reference/commands.md"], command
    for section, field in Problem.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"| `{key}` |" in made["reference/keys.md"], f"{section}.{key}"
    for name in set(automl.__all__) - {"__version__", "Params"}:
        assert f"## {name}\n" in made["reference/python-api.md"], name
    assert made["reference/codes.md"].count("\n| `") > 100
