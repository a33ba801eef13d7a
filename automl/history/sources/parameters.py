"""Where a query uses its parameters `:as_of`, `:until` and `:since`, and what each is compared with.

Read by tokens, not parsed: what is not recognised counts as used elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Use", "uses", "without_colons"]

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<parameter>(?<![:\w\\]):\w+(?!\w))
    |(?P<word>[^\W\d]\w*)
    |(?P<number>\d[\w.]*)
    |(?P<sign><=|>=|<>|!=|==|::|\|\||.)""",
    re.VERBOSE | re.DOTALL,
)
_COMPARISONS = frozenset({"<", "<=", ">", ">=", "=", "==", "<>", "!="})
# functions of a time that return a time, or part of it
_OF_TIME = frozenset({"date", "datetime", "strftime", "coalesce", "ifnull", "substr", "replace"})
_NUMBERED = frozenset({"unixepoch", "julianday"})  # those that return a number
_TEXTS = frozenset({"text", "varchar", "char", "character"})  # types a parameter may be cast to
_ARITHMETIC = frozenset("+-*/%|") | {"||"}
_UNCLEAR = (0, 0)  # the place of an operand that is not one column or call
# words that a column before a comparison cannot be
_NO_COLUMN = frozenset({"end", "null", "not", "and", "or", "where", "in", "like", "case"})


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One use of a parameter.

    Attributes
    ----------
    name, start, end
        The parameter and its place in the query.
    whole
        Start and end of the value made of it, with functions around it.
    operand, operand_at
        What that value is compared with, as written, and its place; empty if that is not one column or call.
    compared
        Whether it is compared by itself or through a function of times that returns a time.
    shifted
        Whether the query moves it on purpose, as `date(:as_of, '-7 days')` does.
    """

    name: str
    start: int
    end: int
    whole: tuple[int, int]
    operand: str
    operand_at: tuple[int, int]
    compared: bool
    shifted: bool

    @property
    def bare(self) -> bool:
        """Whether the parameter itself is compared with a column or call."""
        return self.compared and self.whole == (self.start, self.end) and bool(self.operand)


def uses(query: str) -> list[Use]:
    """Every use of a parameter, in the order of the query.

    Examples
    --------
    >>> [(u.name, u.operand, u.bare) for u in uses("select * from t where t.at >= :as_of")]
    [('as_of', 't.at', True)]
    """
    tokens = [t for t in _tokens(query) if t.kind != "space"]
    return [_use(query, tokens, i) for i, t in enumerate(tokens) if t.kind == "parameter"]


def without_colons(query: str) -> str:
    """The query with the colons of texts, names and comments escaped, so that they name no parameter."""
    return "".join(
        t.text.replace(":", r"\:") if t.kind in ("space", "text", "quoted") else t.text
        for t in _tokens(query)
    )


def _tokens(query: str) -> list[_Token]:
    return [_Token(m.lastgroup or "sign", m[0], m.start(), m.end()) for m in _TOKEN.finditer(query)]


def _use(query: str, tokens: Sequence[_Token], place: int) -> Use:
    low, high, numbered, shifted = place, place, False, False
    while (around := _call_around(tokens, low, high)) is not None:
        low, high, inside = around
        name = tokens[low].text.lower()
        texts = [t.text for t in inside if t.kind == "text"]
        numbered |= name in _NUMBERED or any(re.search("%[sJ]", t) for t in texts)
        shifted |= any(re.match(r"'\s*[+-]?\s*\d", t) for t in texts) and name != "replace"
    after = _text(tokens, high + 1)
    shifted |= after in ("+", "-")
    operand = _operand(tokens, low, high)
    as_text = after == "::" and _text(tokens, high + 2).lower() in _TEXTS
    compared = operand is not None and not (numbered or as_text or after in _ARITHMETIC)
    token = tokens[place]
    return Use(
        name=token.text[1:],
        start=token.start,
        end=token.end,
        whole=(tokens[low].start, tokens[high].end),
        operand=query[slice(*(operand or _UNCLEAR))],
        operand_at=operand or _UNCLEAR,
        compared=compared,
        shifted=shifted,
    )


def _call_around(
    tokens: Sequence[_Token], low: int, high: int
) -> tuple[int, int, Sequence[_Token]] | None:
    """The call of a function of times that has the value among its arguments."""
    left = _partner(tokens, low - 1, -1)
    right = _partner(tokens, high + 1, 1)
    if left is None or right is None or left == 0:
        return None
    name = tokens[left - 1]
    if name.kind != "word" or name.text.lower() not in _OF_TIME | _NUMBERED:
        return None
    return left - 1, right, tokens[left:right]


def _partner(tokens: Sequence[_Token], place: int, step: int) -> int | None:
    """The parenthesis that encloses a place, going left (-1) or right (1)."""
    opening, closing = ("(", ")") if step > 0 else (")", "(")
    depth = 0
    while 0 <= place < len(tokens):
        text = tokens[place].text
        if text == closing and depth == 0:
            return place
        depth += (text == opening) - (text == closing)
        place += step
    return None


def _operand(tokens: Sequence[_Token], low: int, high: int) -> tuple[int, int] | None:
    """Where that stands which a value is compared with; empty if unclear, None if it is not compared."""
    before = _text(tokens, low - 1).lower()
    if before in _COMPARISONS:
        return _ends_at(tokens, low - 2)
    if _text(tokens, high + 1) in _COMPARISONS:
        return _begins_at(tokens, high + 2)
    place = low - 1
    if before == "and":
        place = _between(tokens, low - 2)
    if place >= 0 and _text(tokens, place).lower() == "between":
        place -= _text(tokens, place - 1).lower() == "not"
        return _ends_at(tokens, place - 1)
    return None


def _between(tokens: Sequence[_Token], place: int) -> int:
    """The `between` whose upper bound follows the `and` after `place`; -1 if there is none."""
    depth = 0
    while place >= 0:
        text = tokens[place].text.lower()
        depth += (text == ")") - (text == "(")
        if depth < 0 or (depth == 0 and text in ("and", "or", "where", "on", "when")):
            return -1
        if depth == 0 and text == "between":
            return place
        place -= 1
    return -1


def _ends_at(tokens: Sequence[_Token], place: int) -> tuple[int, int]:
    """The column or call that ends at a token; empty if it is something else."""
    start = place
    if _text(tokens, place) == ")":
        left = _partner(tokens, place - 1, -1)
        if left is None or left == 0 or tokens[left - 1].kind != "word":
            return _UNCLEAR
        start = left - 1
    elif not _is_name(tokens, place):
        return _UNCLEAR
    while start >= 2 and tokens[start - 1].text == "." and _is_name(tokens, start - 2):
        start -= 2
    return _place(tokens[start : place + 1])


def _begins_at(tokens: Sequence[_Token], place: int) -> tuple[int, int]:
    """The column or call that begins at a token; empty if it is something else."""
    if not _is_name(tokens, place):
        return _UNCLEAR
    end = place
    while _text(tokens, end + 1) == "." and _is_name(tokens, end + 2):
        end += 2
    if _text(tokens, end + 1) == "(":
        right = _partner(tokens, end + 2, 1)
        if right is None:
            return _UNCLEAR
        end = right
    return _place(tokens[place : end + 1])


def _is_name(tokens: Sequence[_Token], place: int) -> bool:
    if not 0 <= place < len(tokens):
        return False
    token = tokens[place]
    return token.kind == "quoted" or (token.kind == "word" and token.text.lower() not in _NO_COLUMN)


def _place(tokens: Sequence[_Token]) -> tuple[int, int]:
    """Start and end of these tokens; empty if they hold a parameter or a query of their own."""
    if any(t.kind == "parameter" or t.text.lower() == "select" for t in tokens):
        return _UNCLEAR
    return tokens[0].start, tokens[-1].end


def _text(tokens: Sequence[_Token], place: int) -> str:
    return tokens[place].text if 0 <= place < len(tokens) else ""
