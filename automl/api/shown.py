"""A document that is read as a mapping, printed as the command prints it, and shown as a table in a notebook."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any

__all__ = ["Shown"]

WIDTH = 100  # columns of printed text
DEEPEST = 3  # levels of tables within tables; deeper values are shown as text
LISTED = 12  # values of a list that a notebook shows
FRACTION = re.compile(r"(?<=T\d\d:\d\d:\d\d)\.\d+")  # of a second


@dataclass(frozen=True, slots=True, eq=False)
class Shown(Mapping[str, Any]):
    """The document that `--json` prints, as a mapping.

    Examples
    --------
    >>> shown = Shown({"problem": "late", "champion": None}, lambda d: f"{d['problem']}: no champion yet")
    >>> shown["champion"] is None
    True
    >>> print(shown)
    late: no champion yet
    """

    document: Mapping[str, Any]
    _text: Callable[[Mapping[str, Any]], Any]

    def __getitem__(self, key: str) -> Any:
        return self.document[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.document)

    def __len__(self) -> int:
        return len(self.document)

    def __str__(self) -> str:
        from rich.console import Console

        file = StringIO()
        Console(file=file, width=WIDTH, highlight=False).print(self._text(self.document))
        return file.getvalue().rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _table_of_mapping(self.document, DEEPEST)


def _html(value: Any, depth: int) -> str:
    if isinstance(value, Mapping) and depth and not _empty(value):
        return _table_of_mapping(value, depth - 1)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and all(isinstance(v, Mapping) for v in value) and depth:
            return _table_of_rows(value)
        if not value:
            return _plain(value)
        rest = len(value) - LISTED
        more = [f"and {rest} more"] if rest > 0 else []
        return escape(", ".join([*map(_plain, value[:LISTED]), *more]))
    return escape(_plain(value))


def _table_of_mapping(content: Mapping[str, Any], depth: int) -> str:
    """Two columns; inside another table without what is empty."""
    rows = (
        f"<tr><th style='text-align:left'>{escape(str(key))}</th>"
        f"<td style='text-align:left'>{_html(value, depth)}</td></tr>"
        for key, value in content.items()
        if depth == DEEPEST or not _empty(value)
    )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _table_of_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(str(n))}</th>" for n in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_plain(row.get(n)))}</td>' for n in names)}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _empty(value: Any) -> bool:
    """Whether there is nothing to show of a value, nor of what is in it."""
    if isinstance(value, Mapping):
        return all(map(_empty, value.values()))
    return value is None or value in ("", [], ())


def _plain(value: Any) -> str:
    if _empty(value):
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return FRACTION.sub("", str(value))
