"""What a reviewer sees in MLflow, in headless Chromium with the network blocked.

Four weekly cycles of parcels; one trial of the first failed. The server is that of `automl ui`. Only MLflow's own
errors may be in the console: it looks for a user and for its icon, and its charts resize more than once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.browser import Browser, needs_chromium, open_browser
from tests.support.shown_cycles import CYCLES, MlflowPlaces, make_cycles, places, serving

pytestmark = [needs_chromium, pytest.mark.slow]  # four cycles, a server and a browser
OF_MLFLOW = re.compile(r"users/current|favicon\.ico|ResizeObserver loop")


@dataclass(frozen=True)
class Shown:
    """The browser, and where the pages are."""

    browser: Browser
    there: MlflowPlaces
    first_page: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    file = make_cycles(tmp_path_factory.mktemp("shown") / "cycles")
    with serving(file) as (base, first_page), open_browser() as browser:
        yield Shown(browser, places(file, base), first_page)


@pytest.fixture
def browser(shown: Shown) -> Iterator[Browser]:
    """After each test: nothing left the machine, and no error in the console is ours."""
    shown.browser.errors.clear()
    yield shown.browser
    ours = [error for error in shown.browser.errors if not OF_MLFLOW.search(error)]
    assert (ours, shown.browser.left) == ([], [])


def headers(browser: Browser) -> list[str]:
    """Names of the columns in view, in their order."""
    names = browser.js(
        "[...document.querySelectorAll('[role=columnheader]')]"
        ".map(e => [e.getBoundingClientRect().x, e.getBoundingClientRect().right, e.innerText.trim()])"
        ".filter(([x, right, text]) => text && right <= innerWidth).sort((a, b) => a[0] - b[0]).map(x => x[2])"
    )
    return [name for name in dict.fromkeys(names) if name not in {"Tags", "Metrics", "Parameters"}]


def test_the_first_page_opens_the_decisions_and_nothing_pops_up(
    shown: Shown, browser: Browser
) -> None:
    browser.open(shown.first_page, shown.there.newest)
    browser.wait("p_better")
    text = browser.text()
    assert "Ask questions about" not in text, "the assistant"
    assert "Decisions (one row per cycle)" in text
    assert headers(browser)[2:5] == ["decision", "gain_pct", "p_better"]
    assert len(set(re.findall(r"cycle 2026-\d\d-\d\d", text))) == CYCLES
    browser.open(f"{shown.there.base}/#/models", "parcels")
    assert "new Model Registry UI" not in browser.text().replace("\n", " ")


def test_the_leaderboard_has_the_best_trial_first_and_its_role(
    shown: Shown, browser: Browser
) -> None:
    browser.open(shown.there.view("leaderboard"), "cv_roc_auc")
    browser.wait("chosen")
    assert headers(browser)[2:5] == ["cv_roc_auc", "cv_roc_auc_sd", "role"]
    scores = [float(x) for x in browser.texts("[role=gridcell][col-id*='cv_roc_auc`']") if x]
    assert len(scores) > 2
    assert scores == sorted(scores, reverse=True)


def test_families_are_one_row_each_with_the_best_score(shown: Shown, browser: Browser) -> None:
    browser.open(shown.there.view("families"), "Group: linear")
    browser.wait("Group: baseline")
    assert browser.text().count("Group: linear") == 1
    [best, *_] = re.findall(r"0\.\d+(?= \(max\))", browser.text())
    browser.open(shown.there.view("leaderboard"), best)


def test_failed_trials_show_their_cause_and_lead_to_it(shown: Shown, browser: Browser) -> None:
    browser.open(shown.there.view("failed"), "ValueError: not today")
    assert {"state", "reason"} <= set(headers(browser))
    browser.click("fail #", "a")
    browser.wait("Description")
    assert "failed: ValueError: not today" in browser.text()


def test_the_note_begins_with_the_decision_ends_with_the_undo_and_is_not_folded(
    shown: Shown, browser: Browser
) -> None:
    browser.open(shown.there.run, "undo:")
    text = browser.text()
    note = text[text.index("Description") :].splitlines()[1:6]
    note = [line for line in note if line.strip()]
    assert note[0].startswith(("✔ Promoted", "– Kept"))
    assert "P(better)" in note[1]
    assert note[3].startswith("undo: automl ")
    assert "Show more" not in "\n".join(text.splitlines()[:20])
    links = browser.js(
        "Object.fromEntries([...document.querySelectorAll('a')].map(a => [a.innerText, a.href]))"
    )
    assert links["decisions"] == shown.there.view("decisions")
    browser.open(links["why"], "guards:")
    assert "carrier = ant" in browser.text(), "the slices"


def test_live_losses_are_a_line_and_not_a_bar(shown: Shown, browser: Browser) -> None:
    browser.open(shown.there.chart, "over_cycles/live_loss vs over_cycles/promised_loss")
    browser.wait("js:document.querySelectorAll('.scatterlayer .trace').length >= 2")
    assert browser.js("document.querySelectorAll('.barlayer .point').length") == 0
    points = browser.js(
        "document.querySelectorAll('.scatterlayer .trace')[0].querySelectorAll('.point').length"
    )
    assert points == CYCLES - 1, "the newest generation has no labels yet"


def test_a_comparison_of_three_trials_begins_with_the_metric(
    shown: Shown, browser: Browser
) -> None:
    browser.open(shown.there.compare, "Comparing 3 Runs")
    browser.wait("per_block_roc_auc")
    text = browser.text()
    chart = text[text.index("Metrics:") : text.index("Run details")].splitlines()
    assert chart[1].strip() == "cv_roc_auc"
    metrics = [line for line in text[text.rindex("Metrics") :].splitlines() if "_" in line]
    assert metrics[0] == "cv_roc_auc"


def test_a_version_has_score_evidence_schema_and_an_example(shown: Shown, browser: Browser) -> None:
    browser.open(shown.there.model, "@ champion")
    text = " ".join(browser.text().split())
    assert re.search(r"cv_roc_auc ?: 0\.\d+", text)
    assert re.search(r"evidence ?: \d blocks, \d out-of-sample", text)
    browser.open(f"{shown.there.model}/versions/{CYCLES}", "Schema")
    text = browser.text()
    assert "Kept: " in text or "Promoted: " in text
    assert "Inputs (3)" in text


def test_from_the_champion_to_its_cycle_and_back_in_two_clicks(
    shown: Shown, browser: Browser
) -> None:
    browser.open(f"{shown.there.model}/versions/{CYCLES}", "@ champion")
    browser.click(
        shown.there.newest, "a:not([target])"
    )  # that of the description opens a page of its own
    browser.wait("js:location.href.includes('/runs/')")
    browser.wait("undo:")
    # the second click opens a page of its own
    links = "[...document.querySelectorAll('a')].map(a => a.href)"
    back = browser.js(f"{links}.find(address => address.includes('/models/parcels'))")
    assert back.endswith(f"/versions/{CYCLES}")
    browser.open(back, "@ champion")


def test_documents_of_a_cycle_are_shown(shown: Shown, browser: Browser) -> None:
    browser.open(f"{shown.there.run}/artifacts/leaderboard.json", "rank")
    browser.wait("linear")
    for name in ("decision.json", "decision.md", "leaderboard.json", "config", "data", "env"):
        assert name in browser.text(), name


def test_report_and_plots_of_a_cycle_are_shown(shown: Shown, browser: Browser) -> None:
    browser.open(f"{shown.there.run}/artifacts/report.html", "report.html")
    browser.wait("js:document.querySelector('iframe') !== null")
    browser.click("plots", "[role=treeitem], li, span, div")
    browser.wait(".png")
    browser.open(f"{shown.there.run}/artifacts/plots/evidence.png", "evidence.png")
    browser.wait("js:[...document.querySelectorAll('img')].some(i => i.naturalWidth > 400)")
