"""Commands and Python that the pages show, with what a comment above a block says about it.

A comment directly above a fence, which readers do not see, says how tests treat the block:
`<!-- file: NAME -->` it is the content of a file, `<!-- not run: REASON -->`, `<!-- synopsis -->` a grammar of commands,
`<!-- exit: N -->` it ends with another exit code than 0.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

__all__ = ["COMMAND", "PAGES", "ROOT", "Block", "arguments", "blocks", "in_workspace"]

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?ms)^( *)(?:<!-- (?P<note>[^>]*?) -->\n *)?```(?P<kind>\w*)\n(?P<text>.*?)^ *```$")  # fmt: skip
COMMAND = re.compile(r"(?<!\S)automl [a-z]")
CRON = re.compile(r"^(?:\S+ +){5}")
RUN = ("sh", "crontab", "python")


def _nav(entries: object) -> Iterator[str]:
    """Paths of the site's pages, in the order of its menus."""
    for entry in entries if isinstance(entries, list) else [entries]:
        if isinstance(entry, dict):
            yield from _nav(list(entry.values()))
        elif isinstance(entry, list):
            yield from _nav(entry)
        else:
            yield str(entry)


def _pages() -> list[Path]:
    """Pages written by hand: those of the site in its order, then README and others."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text[text.index("\nnav:") :])["nav"]
    ordered = [ROOT / "docs" / place for place in _nav(nav)]
    found = {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/*.md")}
    known = [page for page in [*ordered, ROOT / "README.md"] if page in found]
    return [*known, *sorted(found - {*known})]


PAGES = _pages()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    kind: str
    text: str
    note: str

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether tests run it."""
        return self.kind in RUN and not self.note.startswith(("not run", "synopsis", "file"))

    def said(self, word: str) -> str:
        """What the note says after a word and a colon; empty without it."""
        return self.note.removeprefix(f"{word}: ") if self.note.startswith(f"{word}: ") else ""

    def commands(self) -> list[str]:
        """Its command lines: continued lines as one, comments and here-documents apart, cron's times too."""
        if self.kind not in ("sh", "crontab"):
            return []
        text = re.sub(r"(?ms)<<'(\w+)'\n.*?^\1$", "", self.text.replace("\\\n", " "))
        lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in text.splitlines())
        return [CRON.sub("", x) if self.kind == "crontab" else x for x in lines if x]


def blocks() -> list[Block]:
    """Every block of every page."""
    return [block for page in PAGES for block in _blocks_of(page)]


def _blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        deep = len(found[1])
        lines = (
            line[deep:] if line[:deep].isspace() else line for line in found["text"].splitlines()
        )
        yield Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            kind=found["kind"],
            text="\n".join(lines) + "\n",
            note=found["note"] or "",
        )  # fmt: skip


def arguments(line: str) -> list[list[str]]:
    """Arguments of every call of `automl` in a command line."""
    plain = in_workspace(line)
    calls = re.split(r"\s*(?:&&|\|\||\||;)\s*", plain)
    split = [shlex.split(call) for call in calls if COMMAND.search(call)]
    return [words[words.index("automl") + 1 :] for words in split if "automl" in words]


PLACES = {  # what a reader replaces, and what tests put there
    "FILE...": "problem.toml",
    "FILE": "problem.toml",
    "FOLDER": ".",
    "--reason R": "--reason checked",
    "VERSION": "1",
    "/srv/automl": ".",
    "/srv/problems": ".",
    "problems/": ".",
}


def in_workspace(text: str) -> str:
    """A command with the places of the tests' workspace."""
    for word, place in PLACES.items():
        text = re.sub(rf"(?<![\w/.-]){re.escape(word)}(?!\w)", place, text)
    return text
