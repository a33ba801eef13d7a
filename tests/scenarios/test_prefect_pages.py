"""What a scheduler sees in Prefect, in headless Chromium with the network blocked: a deployment, its runs, artifacts."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.browser import Browser, needs_chromium, open_browser
from tests.support.shown_flows import PUBLISHED, REFUSED, shown_flows

pytestmark = [needs_chromium, pytest.mark.slow]  # a server, two runs and a browser
PHOTOGRAPH = Path(__file__).parents[2] / "docs" / "photograph.py"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, dict[str, str]]]:
    """The browser, and the pages that the docs picture."""
    with shown_flows(tmp_path_factory.mktemp("flows")) as server, open_browser() as browser:
        yield browser, _photograph().prefect_pages(server.api.removesuffix("/api"))


def _photograph() -> ModuleType:
    spec = importlib.util.spec_from_file_location("photograph", PHOTOGRAPH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        ("prefect-deployment", [PUBLISHED, "cycle", f"problem:{PUBLISHED}"]),
        ("prefect-form", ["as_of", "plan", "budget", "again"]),
        ("prefect-run", [f"{PUBLISHED} · 2026-03-02 00:00", "Completed", "Task runs"]),
        ("prefect-leaderboard", ["trials, roc_auc (higher is better)", "linear", "baseline"]),
        ("prefect-failure", [f"{REFUSED} · 2026-03-02 00:00", "Failed", f"problem:{REFUSED}"]),
    ],
)
def test_a_page_shows(shown: tuple[Browser, dict[str, str]], page: str, wanted: list[str]) -> None:
    browser, pages = shown
    browser.open(pages[page], wanted[0])
    for text in wanted[1:]:
        browser.wait(text)
    assert browser.left == [], "the network is blocked"


TABS = "[role=tab], button, a, li"


def test_a_run_leads_to_its_steps_and_artifacts(shown: tuple[Browser, dict[str, str]]) -> None:
    browser, pages = shown
    browser.open(pages["prefect-run"], "Artifacts")
    browser.click("Task Runs", TABS)
    browser.wait("update MLflow")
    browser.click("Artifacts", TABS)
    for kind in ("decision", "leaderboard", "mlflow-run"):
        browser.wait(f"{kind}-{PUBLISHED}")


def test_a_refused_run_says_what_was_found_and_wanted(
    shown: tuple[Browser, dict[str, str]],
) -> None:
    browser, pages = shown
    browser.open(pages["prefect-failure"], "Details")
    browser.click("Details", TABS)
    browser.wait("history.target")
    assert "'lost'" in browser.text()
