"""Lines of text in 80 columns: facts whose values wrap under themselves, and commands that are never broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

__all__ = ["checks", "command", "facts", "sentence"]


def command(text: str, *, indent: int = 0) -> Text:
    """A command or path to copy: it stays one line, however long it is."""
    return Text(" " * indent + text, no_wrap=True, overflow="ignore")


def sentence(text: str, *, style: str = "", indent: int = 2) -> RenderableType:
    """A sentence that wraps under its own beginning."""
    return Padding(Text(text, style=style, overflow="fold"), (0, 0, 0, indent), expand=False)


def facts(values: Mapping[str, str | Text], *, indent: int = 2) -> RenderableType:
    """Name and value a line; a long value wraps under itself."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name, value)
    return Padding(table, (0, 0, 0, indent), expand=False)


def checks(found: Sequence[Mapping[str, Any]]) -> Table:
    """A line per check, and what to do below one that did not pass; both wrap under themselves."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for c in found:
        style = "" if c["passed"] else "red"
        table.add_row("ok" if c["passed"] else "FAIL", c["name"], Text(c["found"]), style=style)
        if not c["passed"]:
            table.add_row("", "->", Text(c["remedy"]))
    return table
