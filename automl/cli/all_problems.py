"""`automl status` of several problems: whether their cycles still end, and which alerts are open."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.cli.console import print_document, print_message
from automl.cli.inputs import open_problem
from automl.errors import AutomlError, ProblemError

if TYPE_CHECKING:
    from automl.problem import Problem
    from automl.store import Store

__all__ = ["problem_files", "status_of_all"]

WRONG = 1  # exit code


def status_of_all(paths: Sequence[Path], *, as_json: bool, alerting: bool) -> int:
    """Print one line per problem; exit code 1 if one is late, has an open alert or cannot be read.

    Parameters
    ----------
    paths
        Problem files, and folders that hold some.
    alerting
        Open and send the alert of a problem that is late, and close it when it has recovered.
    """
    files = problem_files(paths)
    if not files:
        raise ProblemError(
            f"found no problem file in {', '.join(map(str, paths))}; wanted TOML files with [history] and [metric]",
            code="no_file",
            next_step="Name problem files, or a folder that holds some: automl status FOLDER",
        )
    problems = [_line(file, alerting=alerting) for file in files]
    wrong = [p for p in problems if p["late"] or p["alerts"]]
    document = {
        "problems": problems,
        "late": sum(bool(p["late"]) for p in problems),
        "alerts": sum(len(p["alerts"]) for p in problems),
    }
    from automl import report

    print_document(document, report.late_text, as_json=as_json)
    if wrong and as_json:
        print_message("\n".join(p["late"] or "; ".join(p["alerts"]) for p in wrong))
    return WRONG if wrong else 0


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


def _line(file: Path, *, alerting: bool) -> dict[str, Any]:
    try:
        problem, workspace = open_problem(file)
        from automl.monitoring.late import check_late, late
        from automl.store import Store, open_alerts

        sentence = (check_late if alerting else late)(problem, workspace)
        store = Store(workspace)
        titles = [a.title for a in open_alerts(store, problem.name) if a.kind != "late"]
        text = _in_words(store, problem)
    except AutomlError as error:
        return {
            "problem": file.name,
            "file": str(file),
            "late": str(error),
            "text": "",
            "alerts": [],
        }
    return {
        "problem": problem.name,
        "file": str(file),
        "late": sentence,
        "text": text,
        "alerts": titles,
    }


def _in_words(store: Store, problem: Problem) -> str:
    """Champion, what readers see, and the newest cycle."""
    cycles = store.cycles(problem.name, limit=1)
    if not cycles:
        return "no cycle yet"
    champion, live = store.champion(problem.name), store.live(problem.table)
    parts = [f"version {champion.model_version}"] if champion else []
    parts += [f"{live.rows} rows until {live.until:%Y-%m-%d %H:%M}"] if live else []
    newest = cycles[0]
    last = f"{newest.verb} of {newest.as_of:%Y-%m-%d %H:%M} {newest.status}"
    return "; ".join([", ".join(parts), last] if parts else [last])
