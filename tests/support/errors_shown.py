"""Whether an error is shown as it should be: within the width, and with every command in one piece."""

from __future__ import annotations

from automl.cli.error_text import wrapped

__all__ = ["fits"]


def fits(text: str, width: int) -> bool:
    """Whether lines are longer than the width only where a command or a path cannot be broken."""
    return all(len(line) <= width or wrapped(line, width) == line for line in text.splitlines())
