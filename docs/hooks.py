"""Hooks of the site's build: pages made from code, pages and files from outside of docs/, and GitHub's Markdown.

The Markdown files are written for GitHub, where most readers open them. The site gets the same files: links that leave
docs/ lead to copies inside the site, and lists are indented as Python-Markdown wants them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = {  # pages of the repository outside of docs/, and their place in the site
    "README.md": "project/overview.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "examples/flights/README.md": "project/flights.md",
}
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"( *)(```+|~~~+)")
ITEM = re.compile(r" *([-*]|\d+\.) ")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add pages made from code, pages from outside of docs/, and the files that pages link to."""
    sys.path[:0] = [
        str(ROOT),
        str(ROOT / "docs"),
    ]  # mkdocs forgets what a hook adds when it is loaded
    from reference import pages  # noqa: PLC0415  after the path is set

    made = {**pages(), "decisions/index.md": _decisions()}
    made |= {place: (ROOT / page).read_text("utf-8") for page, place in OUTSIDE.items()}
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    for page in [f for f in files if f.is_documentation_page()]:
        for target in _targets(page.content_string, _origin(page.src_uri)):
            place = _place(target)
            if place.startswith("files/") and place not in files.src_uris:
                files.append(File.generated(config, place, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Links inside the site, and lists as Python-Markdown reads them."""
    return indented(_relinked(markdown, page.file.src_uri))


def _decisions() -> str:
    """The list of decision records, newest first."""
    rows = []
    for file in sorted((ROOT / "docs" / "decisions").glob("0*.md"), reverse=True):
        title = file.read_text("utf-8").splitlines()[0].removeprefix("# ")
        rows.append(f"- [{title}]({file.name})")
    return (
        "# Decision records\n\nA choice between real options, with what was measured.\n\n"
        + "\n".join(rows)
    )


# ---------------------------------------------------------------- links


def _origin(place: str) -> str:
    """Where a page of the site is in the repository."""
    return next((page for page, p in OUTSIDE.items() if p == place), f"docs/{place}")


def _place(target: str) -> str:
    """Where a file of the repository is in the site."""
    if target in OUTSIDE:
        return OUTSIDE[target]
    if target == "docs/decisions":
        return "decisions/index.md"
    return target.removeprefix("docs/") if target.startswith("docs/") else f"files/{target}"


def _targets(markdown: str, origin: str) -> list[str]:
    """Files of the repository that a page links to."""
    found = (m[2] for m in LINK.finditer(markdown) if "://" not in m[2])
    paths = [normpath(join(dirname(origin), target)) for target in found]
    return [path for path in paths if (ROOT / path).exists()]


def _relinked(markdown: str, place: str) -> str:
    origin = _origin(place)

    def relinked(match: re.Match[str]) -> str:
        if "://" in match[2] or match[2].startswith("mailto:"):
            return match[0]
        target = normpath(join(dirname(origin), match[2]))
        if not (ROOT / target).exists():
            return match[0]
        return f"{match[1]}{relpath(_place(target), dirname(place) or '.')}{match[3]}"

    return LINK.sub(relinked, markdown)


# ---------------------------------------------------------------- lists


def indented(markdown: str) -> str:
    """Content of list items four spaces deep, and a blank line before lists.

    GitHub reads what is as deep as the item's text; Python-Markdown wants four spaces a level.
    """
    lines: list[str] = []
    levels: list[int] = []  # columns at which the text of the open items begins
    fence, cut, apart = "", 0, False
    for line in markdown.splitlines():
        text = line.lstrip(" ")
        deep = len(line) - len(text)
        item, opening = ITEM.match(line), FENCE.match(line)
        if not text:
            lines.append("")
            apart = apart or not fence
            continue
        if not fence:
            while levels and deep < levels[-1] and (item or not lines[-1]):
                levels.pop()
            cut = deep
            if item and lines and lines[-1] and (apart or not _in_list(lines[-1])):
                lines.append("")
        lines.append(" " * 4 * len(levels) + line[min(cut, deep) :])
        if item and not fence:
            levels.append(item.end())
            apart = False  # an item with paragraphs: the next item begins after a blank line
        if opening and (not fence or text == fence):
            fence = "" if fence else opening[2]
    return "\n".join(lines) + "\n"


def _in_list(before: str) -> bool:
    return before.startswith(" ") or bool(ITEM.match(before))
