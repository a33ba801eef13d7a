"""How a CSV file is written: what stands between columns, and which mark begins the decimals.

Both are recognised from the first lines of each file, or declared as `history.delimiter` and `history.decimal`.
A decimal comma is recognised only where commas do not separate columns, and refused where points do the same.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from automl.errors import HistoryError

__all__ = ["DELIMITERS", "Dialect", "plain_numbers", "recognise"]

DELIMITERS = (",", ";", "\t", "|")  # in order of preference
LINES = 200  # of a file's beginning that are looked at
_GROUPS = " '’\u00a0\u202f"  # between thousands, besides the other mark
_EXCEL = re.compile(r"sep=(.)\s*$")  # a first line that tells Excel the delimiter


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one CSV file is written; `decimal` is empty if nothing shows it."""

    delimiter: str
    decimal: str = ""
    skipped: int = 0  # lines before the header


def recognise(
    head: bytes,
    where: str,
    *,
    delimiter: str = "",
    decimal: str = "",
    columns: Collection[str] = (),
) -> Dialect:
    """The dialect that the first bytes of a file show.

    Parameters
    ----------
    delimiter, decimal
        As declared; empty: to be recognised.
    columns
        Names that the header is known to have.

    Raises
    ------
    HistoryError
        Columns of numbers have a comma here and a point there.
    """
    text = head.decode("utf-8-sig", errors="replace")
    lines = text.splitlines(keepends=True)
    lines = lines[:-1] if len(lines) > 1 and len(head) > 1000 else lines  # the last may be cut
    excel = _EXCEL.match(lines[0]) if lines else None
    lines = lines[1 if excel else 0 :][:LINES]
    if excel and not delimiter:
        delimiter = excel[1]
    candidates = {mark: list(csv.reader(lines, delimiter=mark)) for mark in DELIMITERS}

    def fits(mark: str) -> tuple[int, int, int]:
        rows = candidates[mark] or [[]]
        known = len({*rows[0]} & {*columns})
        return known, len(rows[0]), sum(len(row) == len(rows[0]) for row in rows)

    delimiter = delimiter or max(DELIMITERS, key=fits)
    if delimiter != "," and not decimal:
        rows = candidates.get(delimiter) or list(csv.reader(lines, delimiter=delimiter))
        decimal = _decimal(rows, where)
    return Dialect(delimiter=delimiter, decimal=decimal, skipped=int(bool(excel)))


def _decimal(rows: Sequence[Sequence[str]], where: str) -> str:
    """The mark that begins decimals in columns of numbers; empty if there are none."""
    found: dict[str, tuple[str, str]] = {}
    width = len(rows[0]) if rows else 0
    for place in range(width):
        cells = [row[place].strip() for row in rows[1:] if len(row) == width and row[place].strip()]
        numbers = [c for c in cells if re.fullmatch(r"[+-]?[\d.,]*\d", c)]
        if len(numbers) < 0.5 * len(cells):
            continue
        for mark in ",.":
            shown = [c for c in numbers if re.search(rf"\d{re.escape(mark)}\d+$", c)]
            if shown and not re.search(rf"[{mark}].*[{mark}]", shown[0]):
                found.setdefault(mark, (rows[0][place], shown[0]))
    if len(found) == 2:
        (comma, a), (point, b) = found[","], found["."]
        raise HistoryError(
            f"{where}: found {a!r} in column {comma!r} and {b!r} in column {point!r}; wanted one decimal mark",
            code="decimal_mark",
            next_step='Declare it: decimal = "," or decimal = "." under [history].',
        )
    return next(iter(found), "")


def plain_numbers(cells: pa.Array, decimal: str) -> pa.Array:
    """Texts with numbers as Python writes them: `1.234,5` with a decimal comma becomes `1234.5`.

    Examples
    --------
    >>> plain_numbers(pa.array(["1.234,5", "-3,5", "12", "red"]), ",").to_pylist()
    ['1234.5', '-3.5', '12', 'red']
    """
    other = "." if decimal == "," else ","
    group = f"[{re.escape(other)}{_GROUPS}]"
    point = re.escape(decimal)
    grouped = rf"^[+-]?\d{{1,3}}(?:{group}\d{{3}})+(?:{point}\d+)?$"
    plain = rf"^[+-]?\d+{point}\d+$"
    number = pc.match_substring_regex(cells, f"{grouped}|{plain}")
    if not pc.any(number).as_py():
        return cells
    digits = pc.replace_substring_regex(cells, group, "")
    digits = pc.replace_substring(digits, decimal, ".") if decimal == "," else digits
    return pc.if_else(number, digits, cells)
