"""The site of the pages: built strictly, without an address outside of itself, searched without a server or network."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)  # fmt: skip
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 60
    loaded = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(https?:)?//")
    assert [p for p in pages if loaded.search(p.read_text(encoding="utf-8"))] == []
    styles = "".join(p.read_text(encoding="utf-8") for p in site.rglob("*.css"))
    assert not re.search(r"url\(['\"]?https?:|@import", styles)


def test_markdown_is_shown_as_on_github(site: Path) -> None:
    for page in site.rglob("*.html"):
        shown = re.sub(r"(?s)<(pre|code|script|table)\b.*?</\1>", "", page.read_text("utf-8"))
        for paragraph in re.findall(r"(?s)<p>(.*?)</p>", shown):
            text = html.unescape(paragraph)
            assert not re.search(r"(?m)^\s*(- |\||```)", text), f"{page.name}: {text[:200]}"


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(
    ("words", "title"),
    [("rollback", "Roll back"), ("as_of", "as_of"), ("label_delay", "problem file"), ("postgresql", "PostgreSQL")],
)  # fmt: skip
def test_search_finds_pages_opened_from_the_file_system_without_a_network(
    site: Path, tmp_path: Path, words: str, title: str
) -> None:
    found = subprocess.run(
        [
            str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=30000", "--dump-dom", "--enable-logging=stderr", "--v=0",
            f"{(site / 'index.html').as_uri()}?q={words}",
        ],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert re.search(r"[1-9]\d* matching documents", found.stdout)
    results = re.findall(
        r"(?s)<h[12]>(.*?)</h[12]>.*?</article>", found.stdout.split("md-search-result__list")[1]
    )
    plain = [html.unescape(re.sub(r"<[^>]+>", "", r)) for r in results]
    assert any(title.lower() in p.lower() for p in plain), plain
    assert "CONSOLE" not in found.stderr or "Error" not in found.stderr
