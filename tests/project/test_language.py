"""One idea, one word: names and prose use the glossary's words, and none of those that they replaced."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("automl", "flows", "search_spaces", "tests", "benchmarks", "examples")
# what today's names replaced; a workspace of then is still read
EARLIER = {
    "automl/store/migrations/versions",
    "tests/scenarios/old_workspace",
    "tests/project/test_language.py",
}
# words that no name may hold: module, class, function, parameter, field or variable
NAMES = frozenset(
    [
        "answer",
        "answers",
        "answered",
        "ask",
        "beside",
        "board",
        "boards",
        "desk",
        "dethrone",
        "dethroned",
        "ending",
        "endings",
        "floor",
        "heed",
        "judge",
        "judged",
        "judges",
        "judging",
        "lapse",
        "lapsed",
        "lest",
        "mend",
        "mended",
        "mends",
        "nobody",
        "room",
        "rooms",
        "ruling",
        "shelf",
        "somebody",
        "story",
        "stories",
        "told",
        "virgin",
        "who",
        "whoever",
        "whom",
    ]
)
# phrases that no sentence may hold, in comments, docstrings, messages and pages
PHRASES = (
    r"virgin",
    r"shelf",
    r"dethron\w+",
    r"whoever",
    r"somebody",
    r"nobody",
    r"lest",
    r"anew",
    r"heed(s|ed)?",
    r"mend(s|ed|ing)?",
    r"held against",
    r"put out",
    r"judge[sd]?",
    r"told",
    r"are as they were",
    r"goes on from here",
    r"for who\b",
    r"who (waits|waited|wins|won|lost|leads|was released)",
)
# words that mean something of their own in code, and nothing in a page
PAGE_WORDS = (
    r"stor(y|ies)",
    r"rulings?",
    r"lapsed?",
    r"desk",
    r"beside",
    r"alike",
    r"who waits",
    r"judging",
    r"answers?",
    r"board",
    r"floor",
    r"rooms?",
    r"as they were",
    r"sees to it",
)
# the fit cache's folder of before, and an account of the operating system
NOT_WORDS = re.compile(r"\.automl/shelf|(?<=[`\"])nobody(?=[`\"])|US Virgin Islands")


def _found(text: str, phrases: Sequence[str]) -> list[str]:
    """Phrases of a text, each with the number of its line."""
    phrase = re.compile(r"(?<![\w.-])(" + "|".join(phrases) + r")(?![\w-])", re.IGNORECASE)
    lines = enumerate(NOT_WORDS.sub("", text).splitlines(), 1)
    return [f"{number}: {match[0]}" for number, line in lines if (match := phrase.search(line))]


def _earlier(path: Path) -> bool:
    place = path.relative_to(ROOT).as_posix()
    return any(place.startswith(known) for known in EARLIER)


def _modules() -> list[Path]:
    files = [
        file
        for folder in CODE
        for file in sorted((ROOT / folder).rglob("*.py"))
        if not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
    ]
    return [f for f in files if not _earlier(f)]


def _pages() -> list[Path]:
    folders = [ROOT / "docs", ROOT / "examples"]
    return [*ROOT.glob("*.md"), *(page for f in folders for page in sorted(f.rglob("*.md")))]


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names that the module itself gives, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname


def _words(name: str) -> list[str]:
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


@pytest.mark.parametrize("file", _modules(), ids=lambda f: f.relative_to(ROOT).as_posix())
def test_no_name_holds_a_word_that_was_replaced(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = [(1, file.stem), *_names(tree)]
    # a test's name is a sentence about data of its own: it is read as prose
    names = [(line, n) for line, n in names if not n.startswith("test_")]
    assert [f"{line}: {n}" for line, n in names if NAMES.intersection(_words(n))] == []


@pytest.mark.parametrize("file", _modules(), ids=lambda f: f.relative_to(ROOT).as_posix())
def test_no_comment_docstring_or_message_holds_a_phrase_that_was_replaced(file: Path) -> None:
    assert _found(file.read_text(encoding="utf-8"), PHRASES) == []


@pytest.mark.parametrize("page", _pages(), ids=lambda f: f.relative_to(ROOT).as_posix())
def test_no_page_holds_a_phrase_that_was_replaced(page: Path) -> None:
    assert _found(page.read_text(encoding="utf-8"), [*PHRASES, *PAGE_WORDS]) == []


@pytest.mark.parametrize(
    ("name", "found"), [("BlockLoss", []), ("_told_by", ["told"]), ("askJudge", ["ask", "judge"])]
)
def test_words_of_a_name_are_found_in_either_spelling(name: str, found: list[str]) -> None:
    assert [word for word in _words(name) if word in NAMES] == found
