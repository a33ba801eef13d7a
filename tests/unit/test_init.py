"""`import automl` is light, and what it exports is there, sorted and documented."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

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


def test_every_module_that_the_map_names_in_a_package_exists() -> None:
    """`name` on the lines of a package is a module or package inside it."""
    missing, package = [], ""
    for line in (automl.__doc__ or "").partition("What a cycle does")[2].splitlines():
        head = re.match(r"    (\w+)/ ", line)
        package = head[1] if head else package if line.startswith(" " * 20) else ""
        for name in re.findall(r"`([\w/]+)`", line) if package else []:
            place = ROOT / "automl" / package / name
            if not (place.is_dir() or place.with_suffix(".py").exists()):
                missing.append(f"{package}/{name}")
    assert missing == ["api/init", "api/try_table"]  # functions


def test_the_wheel_says_that_the_package_is_typed() -> None:
    shipped = {f.distribution_path for f in WheelBuilder(str(ROOT)).recurse_included_files()}

    assert {"automl/__init__.py", "automl/py.typed", "search_spaces/linear.py"} <= shipped
