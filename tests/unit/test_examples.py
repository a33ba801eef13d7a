"""Examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITH_EXAMPLES = sorted(
    str(p.relative_to(ROOT).with_suffix("")).replace("/", ".")
    for p in (ROOT / "automl").rglob("*.py")
    if ">>> " in p.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_every_example_runs(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))

    assert found.attempted
    assert not found.failed
