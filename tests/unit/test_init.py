"""`import automl` is light, and what it exports is there, sorted and documented."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import automl

ROOT = Path(__file__).parents[2]
HEAVY = ("pandas", "numpy", "sklearn", "optuna", "mlflow", "prefect", "sqlalchemy", "pydantic")


def run(code: str) -> str:
    """Standard output of a fresh process that runs `code`."""
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_importing_the_package_loads_no_library() -> None:
    loaded = run(f"import automl, sys; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded == "[]"


def test_a_family_file_needs_no_data_library() -> None:
    loaded = run(
        "from automl import Family, Params, Shape, Suggests\n"
        f"import sys; print([m for m in {HEAVY[:-1]!r} if m in sys.modules])"
    )
    assert loaded == "[]"


def test_exports_are_sorted_and_listed() -> None:
    assert automl.__all__ == sorted(automl.__all__)
    assert set(automl.__all__) <= set(dir(automl))


@pytest.mark.parametrize("name", automl.__all__)
def test_an_exported_name_can_be_imported_and_is_documented(name: str) -> None:
    value = getattr(automl, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Famly'"):
        _ = automl.Famly


def test_every_place_that_the_map_names_exists() -> None:
    """The docstring is the map of the package: a stale line would send a newcomer astray."""
    named = [
        line.split()[0]
        for line in (automl.__doc__ or "").splitlines()
        if line.startswith("    ") and line.split()[0].endswith(("/", ".py"))
    ]
    assert len(named) > 10
    assert [n for n in named if not (ROOT / "automl" / n).exists()] == []


def test_the_map_names_every_part_of_the_package() -> None:
    """A new package or module gets a line in the map."""
    text = automl.__doc__ or ""
    parts = [
        p.name + ("/" if p.is_dir() else "")
        for p in (ROOT / "automl").iterdir()
        if (p.is_dir() and (p / "__init__.py").exists()) or p.suffix == ".py"
    ]
    assert [p for p in parts if p not in text and p != "__init__.py"] == []
