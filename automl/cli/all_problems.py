"""`automl status --all`: whether the cycles of many problems still end."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automl.cli.console import print_document, print_message
from automl.cli.inputs import open_problem
from automl.errors import AutomlError, ProblemError

__all__ = ["problem_files", "status_of_all"]

LATE = 1  # exit code


def status_of_all(paths: Sequence[Path], *, as_json: bool) -> int:
    """Print one line per problem; exit code 1 if one is late or cannot be read."""
    files = problem_files(paths)
    if not files:
        raise ProblemError(
            f"found no problem file in {', '.join(map(str, paths))}",
            code="no_file",
            next_step="Name problem files, or a folder that holds some.",
        )
    problems = [_line(file) for file in files]
    late = [p["late"] for p in problems if p["late"]]
    from automl import report

    print_document({"problems": problems, "late": len(late)}, report.late_text, as_json=as_json)
    if late and as_json:
        print_message("\n".join(late))
    return LATE if late else 0


def problem_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and the problem files below folders, without hidden ones."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            below = sorted(path.rglob("*.toml"))
            seen = [f for f in below if not _hidden(f.relative_to(path)) and _is_problem(f)]
            found |= dict.fromkeys(seen)
        else:
            found[path] = None
    return list(found)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_problem(file: Path) -> bool:
    """Whether a TOML file has what only problem files have; one that is broken has it in its text."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return "[history]" in text and "[metric]" in text
    return "history" in content and "metric" in content


def _line(file: Path) -> dict[str, Any]:
    try:
        problem, workspace = open_problem(file)
        from automl.monitoring.late import check_late
        from automl.store import Store, open_alerts

        late = check_late(problem, workspace)
        store = Store(workspace)
        titles = [a.title for a in open_alerts(store, problem.name) if a.kind != "late"]
        cycles = store.cycles(problem.name, limit=1)
        last = (
            f"{cycles[0].verb} of {cycles[0].as_of:%Y-%m-%d %H:%M} {cycles[0].status}"
            if cycles
            else ""
        )
    except AutomlError as error:
        return {
            "problem": file.name,
            "file": str(file),
            "late": str(error),
            "text": "",
            "alerts": [],
        }
    text = "; ".join([last or "no cycle yet", *titles])
    return {
        "problem": problem.name,
        "file": str(file),
        "late": late,
        "text": text,
        "alerts": titles,
    }
