"""Docstrings with numpy's sections as Markdown."""

from __future__ import annotations

import inspect
import re

__all__ = ["as_markdown", "summary"]

LISTS = ("Parameters", "Returns", "Raises", "Attributes", "Yields")


def summary(value: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())


def as_markdown(text: str) -> str:
    """A docstring as Markdown: sections in bold, their entries as a list, examples as code."""
    head, *rest = re.split(r"(?m)^([A-Z]\w+)\n-+\n", text)
    parts = [_prose(head)]
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        shown = _entries(body) if name in LISTS else _prose(body)
        parts.append(f"**{name}**\n\n{shown}")
    return "\n\n".join(parts) + "\n"


def _entries(body: str) -> str:
    """Lines at the margin name an entry, indented lines explain it."""
    entries: list[list[str]] = []
    for line in filter(str.strip, body.splitlines()):
        if not line.startswith(" "):
            entries.append([line.strip()])
        else:
            entries[-1].append(line.strip())
    return "\n".join(f"- `{name}`: {' '.join(said)}" for name, *said in entries)


def _prose(body: str) -> str:
    """Paragraphs; examples and indented lines as code."""
    shown = []
    for paragraph in re.split(r"\n\s*\n", body.strip("\n")):
        if paragraph.startswith((">>>", "    ")):
            shown.append(f"```pycon\n{inspect.cleandoc(paragraph)}\n```")
        else:
            shown.append(paragraph.strip())
    return "\n\n".join(shown)
