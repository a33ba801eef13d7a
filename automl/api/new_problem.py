"""Write a new problem file, valid or not at all, without replacing a file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from automl.api.arguments import typed
from automl.errors import ProblemError
from automl.problem import load_problem
from automl.redaction import redact

if TYPE_CHECKING:
    from automl.guessing import Guesses, Origin, Search

__all__ = ["FILE", "problem_name", "refuse_taken", "write_problem", "writing"]

FILE, SCRIPT = "problem.toml", "rows.py"


def write_problem(
    root: Path,
    origin: Origin,
    guesses: Guesses,
    search: Search,
    *,
    source: str,
    target: tuple[str, str],
    name: str = "",
) -> Path:
    """The problem file, and the function that converts times if one is needed.

    Parameters
    ----------
    source
        As it was typed.
    target
        The column, and why it was chosen.

    Raises
    ------
    ProblemError
        An option makes no valid problem file, or a file would be replaced; no file was written.
    """
    from automl.guessing import problem_text

    text = problem_text(
        guesses,
        search,
        name=name or problem_name(target[0]),
        target=target[0],
        origin=origin,
        comments=(_head(source, typed(guesses["as_of"])), target[1]),
    )
    files = {root / FILE: text, **({root / SCRIPT: origin.script} if origin.script else {})}
    for path in files:
        refuse_taken(path)
    made = not root.exists()
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            path.write_text(content, encoding="utf-8")
    try:
        load_problem(root / FILE)
    except ProblemError as error:
        for path in files:
            path.unlink()
        if made:
            shutil.rmtree(root)
        raise ProblemError(
            f"options of init: {str(error).removeprefix(f'{root / FILE}: ')}",
            code=error.code,
            next_step="Change these options; no file was left.",
        ) from None
    return root / FILE


def refuse_taken(file: Path) -> None:
    """Refuse to replace a file.

    Raises
    ------
    ProblemError
        It exists.
    """
    if file.exists():
        go_on = f"Go on with it: automl check {file}. Or name" if file.name == FILE else "Name"
        raise ProblemError(
            f"{file}: exists already; wanted a folder without a {file.name}",
            code="folder_taken",
            next_step=f"{go_on} another folder: --folder NEW",
        )


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Write files into a folder.

    Raises
    ------
    ProblemError
        The operating system does not allow it.
    """
    try:
        yield
    except OSError as error:
        raise ProblemError(
            f"{root}: cannot be written: {error.strerror or error}; wanted a folder that may be written",
            code="folder_not_writable",
            next_step="Name another folder: --folder NEW",
        ) from None


def problem_name(target: str) -> str:
    """A problem's name from its target: letters, digits and dashes."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", target).strip("-").lower()[:30]
    return plain if plain[:1].isalpha() else f"predict-{plain or 'table'}".rstrip("-")


def _head(source: str, as_of: str) -> str:
    shown = redact(source).replace("\n", " ")
    return (
        f"# Written by: automl init {shown}\n"
        "# A guess says why in its comment. Change what is wrong, then:\n"
        "#   automl check problem.toml --data\n"
        f"#   automl cycle problem.toml --as-of {as_of}\n"
    )
