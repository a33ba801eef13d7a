"""Every error of the code is in docs/errors.md as a terminal of 80 columns shows it.

A new error needs no entry here: `python docs/errors.py` writes the page. It needs a code, a message that says where,
found and wanted, and a next step.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.errors_shown import fits

ROOT = Path(__file__).parents[3]
WIDTH = 80
# modules of the Python API whose messages name the argument to change
WITHOUT_STEP = {"frames", "guesses", "table"}


@pytest.fixture(scope="module")
def catalogue() -> ModuleType:
    """The script that writes the page."""
    spec = importlib.util.spec_from_file_location("errors_page", ROOT / "docs" / "errors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["errors_page"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def entries(catalogue: ModuleType) -> list:
    return catalogue.entries()


def test_the_page_is_what_the_code_says(catalogue: ModuleType, entries: list) -> None:
    kept = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert catalogue.page(entries) == kept, "run: python docs/errors.py"


def test_every_place_that_raises_an_error_is_found(entries: list) -> None:
    assert len(entries) > 200
    assert len({e.code for e in entries}) > 130
    assert {e.exit_code for e in entries} == {1, 2, 3, 4, 5, 6, 7}


def test_every_error_has_a_code_and_says_what_to_type(entries: list) -> None:
    assert [e for e in entries if not re.fullmatch(r"[a-z0-9_]+", e.code)] == []
    silent = [
        f"{e.module} {e.code}"
        for e in entries
        if not e.next_step and e.module.rpartition(".")[2] not in WITHOUT_STEP
    ]
    assert silent == []


def test_every_error_fits_80_columns_and_breaks_no_command(entries: list) -> None:
    for entry in entries:
        lines = entry.text.splitlines()
        assert lines[0].startswith("error: ")
        assert fits(entry.text, WIDTH), entry.text
        for typed in re.findall(r"automl \w+ (?:FILE|\S+\.toml)(?: --\w+)*", entry.next_step):
            assert any(typed in line for line in lines), entry.text


def test_a_message_that_names_what_was_found_says_what_was_wanted(entries: list) -> None:
    """Of wrong files, options and data; other errors have nothing to compare."""
    bare = [
        e.message
        for e in entries
        if e.exit_code in (2, 3) and re.search(r": found ", e.message) and "wanted" not in e.message
    ]
    assert len(bare) < len(entries) / 10, "\n".join(bare)
