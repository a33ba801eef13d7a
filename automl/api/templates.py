"""Worked examples that `automl init --template` copies: a problem file, its data, and code where there is some."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from automl.api.new_problem import FILE, refuse_taken, writing
from automl.errors import ProblemError
from automl.problem import did_you_mean

__all__ = ["TEMPLATES", "Template", "copy_template"]

HOME = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A worked example: what it predicts, and the as_of whose batch its data hold."""

    about: str
    as_of: datetime


TEMPLATES: Mapping[str, Template] = {
    "churn": Template(
        about="which customers will be gone: one row per customer and week",
        as_of=datetime(2013, 12, 23, tzinfo=UTC),
    ),
    "forecast": Template(
        about="one series, an hour at a time, with what was known a day before",
        as_of=datetime(2013, 12, 16, tzinfo=UTC),
    ),
    "lead-scoring": Template(
        about="which leads will convert: one row per lead, its label weeks later",
        as_of=datetime(2013, 12, 23, tzinfo=UTC),
    ),
    "panel": Template(
        about="many series at once, a day at a time, with what was known a week before",
        as_of=datetime(2013, 12, 16, tzinfo=UTC),
    ),
}


def copy_template(name: str, root: Path) -> tuple[Path, datetime]:
    """Copy a template's files into a folder; returns the problem file and the as_of that works.

    Raises
    ------
    ProblemError
        There is no such template, or a file would be replaced.
    """
    if name not in TEMPLATES:
        raise ProblemError(
            f"template: found {name!r}; wanted one of {', '.join(TEMPLATES)}"
            f"{did_you_mean(name, list(TEMPLATES))}",
            code="usage",
            next_step="automl init --template churn",
        )
    files = sorted(
        p
        for p in (HOME / name.replace("-", "_")).iterdir()
        if p.suffix in (".toml", ".py", ".csv", ".parquet")
    )
    for file in files:
        refuse_taken(root / file.name)
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, root / file.name)
    return root / FILE, TEMPLATES[name].as_of
