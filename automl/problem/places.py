"""The families that ship with this product: their folder and their names."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from automl.errors import ProblemError

__all__ = ["family_folder", "family_names"]


def family_folder() -> Path:
    """The folder of the families that ship with this product."""
    spec = importlib.util.find_spec("search_spaces")
    if spec is None or not spec.submodule_search_locations:
        raise ProblemError(
            "the package search_spaces is not installed",
            code="installation",
            next_step="Install automl-retrain again.",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def family_names() -> tuple[str, ...]:
    """Names of the families that ship with this product."""
    return tuple(sorted(p.stem for p in family_folder().glob("*.py") if not p.stem.startswith("_")))
