"""TOML that is read on after a mistake, so that one wrong line hides no other."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

__all__ = ["read_on"]

MOST = 20  # mistakes after which the text is no problem file
_LINE = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")
_VALUE = re.compile(r"""^\s*([\w.-]+|"[^"]+")\s*=\s*([^#"']*?)\s*(#.*)?$""")


def read_on(text: str) -> tuple[dict[str, Any], list[str]]:
    r"""The content of a text, and its mistakes.

    A value without its quotes is read with them; another line that cannot be read is left out.

    Examples
    --------
    >>> read_on('budget = 60s\nblock = "7d"')
    ({'budget': '60s', 'block': '7d'}, ['Expected newline or end of document after a statement (at line 1, column 12)'])
    """
    lines, last = text.splitlines(), 0
    mistakes: list[str] = []
    quoted: set[int] = set()
    for _ in range(2 * MOST):
        try:
            return tomllib.loads("\n".join(lines)), mistakes
        except tomllib.TOMLDecodeError as error:
            place = _line_of(error, lines)
            if place not in quoted:
                mistakes.append(str(error))
            if place < last:  # a text or list that never ends: what follows cannot be read
                break
            last = place
            value = _VALUE.match(lines[place - 1]) if place not in quoted else None
            lines[place - 1] = f"{value[1]} = {json.dumps(value[2])}" if value and value[2] else ""
            quoted.add(place)
    return {}, mistakes


def _line_of(error: tomllib.TOMLDecodeError, lines: list[str]) -> int:
    found = _LINE.search(str(error))
    number = int(found[1]) if found and found[1] else len(lines)
    return max(1, min(number, len(lines)))
