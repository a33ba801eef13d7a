"""An error as text: what is wrong, what is in effect, what to type next.

On a terminal sentences wrap at its width, under themselves; a command or path to copy is never broken.
"""

from __future__ import annotations

import re
import textwrap

__all__ = ["error_text", "wrapped"]

LEAST = 40  # columns; a narrower terminal wraps by itself
# A command to copy. After `automl` come only words that can be arguments, because the sentence may go on
_QUOTED = r"""'[^']*'|"[^"]*\""""
_ARGUMENT = rf"(?:{_QUOTED}|--?[\w-]+(?:=\S+| [a-z\d]\w*)?|[A-Z]+\b|\d+\b|\S*[/.=:]\S*[^\s.,;:])"
_PROGRAM = "pip install|python -c|iconv|mlflow db|export|fuser|grant"
_COMMAND = re.compile(
    rf"automl \w+(?: {_ARGUMENT})*|\b(?:{_PROGRAM})(?: (?:{_QUOTED}|[^\s,;'\"]+))+"
)
_SPACE = "\N{NO-BREAK SPACE}"


def error_text(
    message: str, *, effect: str = "", changed: bool = False, next_step: str = "", width: int = 0
) -> str:
    """The lines of an error; without a width every part is one line.

    Parameters
    ----------
    message
        Where, what was found and what was wanted; several mistakes are a line each.
    effect
        Champion and predictions now; `changed` if the command has changed them.
    next_step
        What to type or change.
    """
    parts = [("error", message)]
    if effect:
        parts.append(("in effect" if changed else "unchanged", effect))
    if next_step:
        parts.append(("next", next_step))
    lines = [f"{name}: {text}" for name, text in parts]
    return "\n".join(wrapped(line, width) if width else line for line in lines)


def wrapped(text: str, width: int) -> str:
    """A text of one or more lines, each wrapped two columns deeper than it begins.

    Examples
    --------
    >>> print(wrapped("next: Fix the file, then type: automl check problem.toml", 40))
    next: Fix the file, then type:
      automl check problem.toml
    """
    return "\n".join(_wrapped_line(line, max(LEAST, width)) for line in text.splitlines())


def _wrapped_line(line: str, width: int) -> str:
    glued = _COMMAND.sub(lambda m: m[0].replace(" ", _SPACE), line)
    indent = line[: len(line) - len(line.lstrip())]
    filled = textwrap.fill(
        glued.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace(_SPACE, " ")
