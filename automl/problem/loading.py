"""Read a problem file into a frozen value, or raise one error that lists every mistake."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from automl.errors import ProblemError
from automl.problem.mistakes import conflicts, explain
from automl.problem.sections import METRICS, Problem
from automl.problem.syntax import read_on

__all__ = ["load_problem", "what_is_right"]

ROUNDS = 5  # of validation without what was wrong before
# Values that stand for required keys that are wrong or missing, so that the rest can be checked
STAND_INS: dict[tuple[str, ...], Any] = {
    ("name",): "unnamed",
    ("task",): "binary",
    ("history",): {"time": "?", "target": "??"},
    ("history", "time"): "?",
    ("history", "target"): "??",
    ("metric",): {"name": METRICS["binary"][0]},
    ("metric", "name"): METRICS["binary"][0],
    ("sweep",): {"budget": "60s"},
    ("validation",): {"block": "1d"},
    ("validation", "block"): "1d",
}


def load_problem(path: str | Path) -> Problem:
    """Read and validate a problem file.

    Raises
    ------
    ProblemError
        The file is missing, is not TOML, or breaks rules; the message lists every mistake.
    """
    problem, error = what_is_right(path)
    if error is not None:
        raise error
    assert problem is not None
    return problem


def what_is_right(path: str | Path) -> tuple[Problem | None, ProblemError | None]:
    """The problem without what is wrong in its file, and the error that lists every mistake.

    Keys that are wrong have their defaults; None if nothing can be made of the file.
    """
    file = Path(path).resolve()
    try:
        content, unreadable = read_on(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, ProblemError(
            f"{path}: this problem file does not exist",
            code="no_file",
            next_step="Give the path of a TOML file, for example examples/flights/problem.toml.",
        )
    except (OSError, UnicodeDecodeError) as error:
        return None, ProblemError(
            f"{path}: cannot be read: {error}",
            code="no_file",
            next_step="Give the path of a TOML file that this user may read.",
        )
    problem, lines = _validated(content, file) if content or not unreadable else (None, [])
    if len(unreadable) == 1 and not lines:
        return problem, _not_toml(path, unreadable[0])
    lines = [*(f"not valid TOML: {m}" for m in unreadable), *lines]
    return problem, _mistakes(path, lines) if lines else None


def _not_toml(path: str | Path, error: str) -> ProblemError:
    return ProblemError(
        f"{path}: not valid TOML: {error}",
        code="toml",
        next_step=f"Fix that line, then run: automl check {path}",
    )


def _mistakes(path: str | Path, lines: list[str]) -> ProblemError:
    return ProblemError(
        f"{path}: {len(lines)} mistake{'s' if len(lines) > 1 else ''}\n"
        + "\n".join(f"  {line}" for line in lines),
        code="problem",
        next_step=f"Fix these keys, then run: automl check {path}",
    )


def _validated(content: dict[str, Any], file: Path) -> tuple[Problem | None, list[str]]:
    """The problem without its wrong keys, and every mistake: also those that show once others are gone."""
    contradicting = conflicts(content, file)
    left = copy.deepcopy(content)
    lines: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for _ in range(ROUNDS):
        try:
            return Problem(**{**left, "file": file}), [*lines, *contradicting]
        except ValidationError as error:
            found = error.errors()
            places = [_place(item["loc"]) for item in found]
            lines += [
                line
                for line, place in zip(explain(error), places, strict=True)
                if not any(place[: len(known)] == known for known in seen)
            ]
            seen |= {p for p in places if p}
            if not all(places):
                break
            for place in places:
                _leave_out(left, place)
    return None, [*lines, *contradicting]


def _place(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """The names of a key, without what is inside its list."""
    names: list[str] = []
    for part in loc:
        if isinstance(part, int):
            break
        names.append(part)
    return tuple(names[:2])


def _leave_out(content: dict[str, Any], place: tuple[str, ...]) -> None:
    """Remove a key, or give a required one its stand-in."""
    *sections, key = place
    inside = content
    for name in sections:
        inside = inside.get(name, {})
    if isinstance(inside, dict):
        inside.pop(key, None)
        if place in STAND_INS:
            inside[key] = copy.deepcopy(STAND_INS[place])
