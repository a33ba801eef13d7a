"""Read a problem file into a frozen value, or raise one error that lists every mistake."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from automl.errors import ProblemError
from automl.problem.mistakes import conflicts, explain
from automl.problem.sections import Problem

__all__ = ["load_problem"]


def load_problem(path: str | Path) -> Problem:
    """Read and validate a problem file.

    Raises
    ------
    ProblemError
        The file is missing, is not TOML, or breaks rules; the message lists every mistake.
    """
    file = Path(path).resolve()
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProblemError(
            f"{path}: this problem file does not exist",
            code="no_file",
            next_step="Give the path of a TOML file, for example examples/flights/problem.toml.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemError(
            f"{path}: cannot be read: {error}",
            code="no_file",
            next_step="Give the path of a TOML file that this user may read.",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ProblemError(
            f"{path}: not valid TOML: {error}",
            code="toml",
            next_step=f"Fix that line, then run: automl check {path}",
        ) from None
    lines = conflicts(content, file)
    try:
        problem = Problem(**{**content, "file": file})
    except ValidationError as error:
        lines = [*explain(error), *lines]
    if lines:
        raise ProblemError(
            f"{path}: {len(lines)} mistake{'s' if len(lines) > 1 else ''}\n"
            + "\n".join(f"  {line}" for line in lines),
            code="problem",
            next_step=f"Fix these keys, then run: automl check {path}",
        )
    return problem
