"""The page of a cycle: every section in order, nothing from outside, its numbers those of the store."""

from __future__ import annotations

import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from automl.problem import load_problem
from automl.report import cycle_report
from automl.report.figures import NAMES, Picture, pictures
from automl.report.html import SECTIONS, report_html
from automl.store import Store
from automl.workspace import open_workspace
from tests.support.diagnostics import made_up_diagnostics, with_diagnostics
from tests.support.parcels import AS_OF, METRIC, TARGET
from tests.support.workspaces import let_wait

MOST_BYTES = 1_000_000
OF_TASK = {
    "binary": {"calibration", "roc", "precision_recall", "lift", "confusion"},
    "multiclass": {"calibration", "roc", "confusion"},
    "regression": {"calibration", "residuals"},
}
OF_EVERY_TASK = {"errors_over_time", "slices", "importance", "shap"}


class Page(HTMLParser):
    """Sections, addresses and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if tag == "section" and name == "id":
                self.sections.append(str(value))
            if name in ("src", "href", "xlink:href", "action", "data"):
                self.addresses.append(str(value))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def file(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workspace with two cycles, with diagnostics of both."""
    return with_diagnostics(released, tmp_path_factory.mktemp("page") / "copy")


@pytest.fixture(scope="module")
def document(file: Path) -> dict[str, Any]:
    """What the report of the newest cycle shows."""
    return cycle_report(load_problem(file), open_workspace(file))


@pytest.fixture(scope="module")
def drawn(document: dict[str, Any]) -> list[Picture]:
    """Its pictures."""
    return pictures(document)


@pytest.fixture(scope="module")
def html(document: dict[str, Any], drawn: list[Picture]) -> str:
    """Its page."""
    return report_html(document, drawn)


def test_every_section_is_there_in_order_and_nothing_comes_from_outside(html: str) -> None:
    page = Page(html)
    assert page.sections == list(SECTIONS)
    assert [x for x in page.addresses if not x.startswith("#")] == []
    assert re.findall(r"@import|url\((?!#)", html) == []
    assert not page.tags & {"script", "link", "iframe", "img", "object", "embed", "base"}
    assert len(html.encode()) < MOST_BYTES


def test_every_picture_has_data_a_title_and_a_sentence(drawn: list[Picture]) -> None:
    names = [p.name for p in drawn]
    assert names == [n for n in NAMES if n in names]
    assert set(names) >= OF_TASK["binary"] | OF_EVERY_TASK | {"leaderboard", "live", "budget"}
    for p in drawn:
        assert p.sentence.endswith((".", ")")), p.sentence
        assert p.title
        for axes in p.figure.axes:
            assert axes.has_data() or axes.patches or axes.texts, p.name


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks_have_their_own_pictures(
    task: str, file: Path, document: dict[str, Any]
) -> None:
    problem = load_problem(file)
    metric = problem.metric.model_copy(update={"name": METRIC[task]})
    history = problem.history.model_copy(update={"target": TARGET[task]})
    other = problem.model_copy(update={"task": task, "metric": metric, "history": history})
    shown = {
        **document,
        "task": task,
        "target": TARGET[task],
        "metric": METRIC[task],
        "better": "lower",
        "diagnostics": made_up_diagnostics(other),
        "decision": {**document["decision"], "evidence": None},
        "live": {**document["live"], "turned_out": [], "decisions": []},
        "gain": None,
        "budget": None,
        "monitoring": {**document["monitoring"], "found": None},
        "leaderboard": {**document["leaderboard"], "trials": []},
    }
    names = {p.name for p in pictures(shown)}
    assert names == OF_TASK[task] | OF_EVERY_TASK


def test_numbers_of_the_page_are_those_of_the_store(file: Path, html: str) -> None:
    store, text = Store(open_workspace(file)), Page(html).text
    champion, live = store.champion("parcels"), store.live(load_problem(file).table)
    assert champion is not None
    assert live is not None
    assert f"version {champion.model_version}" in text
    assert champion.fingerprint in text
    assert f"generation {live.id}: {live.rows} rows" in text
    newest = store.decisions("parcels")[0]
    assert re.sub(r"\s+", " ", newest.reason) in text
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        query = "select id, realised from automl_generation where labelled_rows > 0"
        [(generation, scores)] = database.execute(query).fetchall()
    value = float(re.findall(r'"roc_auc": ([\d.]+)', scores)[0])
    assert f"{value:.4g}" in text
    assert str(generation) in text
    cycle = store.find_cycle("parcels", "retrain", AS_OF)
    assert cycle is not None
    trials = [t for t in store.trials(cycle) if t["status"] == "complete"]
    assert f"{len(trials)} trials complete" in text
    for t in trials:
        assert t["recipe"]["family"] in text


def test_text_of_the_data_is_escaped_and_is_no_formula(html: str) -> None:
    assert "<b>$x$</b>" not in html
    assert "&lt;b&gt;$x$&lt;/b&gt;" in html


def test_since_leaves_out_what_happened_before(file: Path) -> None:
    problem, workspace = load_problem(file), open_workspace(file)
    whole, later = (cycle_report(problem, workspace, since=s)["live"] for s in (None, AS_OF))
    assert [d["as_of"] for d in whole["decisions"]] == ["2026-02-23", "2026-03-02"]
    assert [d["as_of"] for d in later["decisions"]] == ["2026-03-02"]
    assert later["turned_out"] == []


def test_a_challenger_that_waits_and_a_cycle_that_failed_say_what_to_type(file: Path) -> None:
    problem, workspace = load_problem(file), open_workspace(file)
    let_wait(file)
    commands = [c["command"] for c in cycle_report(problem, workspace)["act"]["commands"]]
    assert commands[0].startswith("automl approve problem.toml 1 ")
    assert commands[1].startswith("automl reject problem.toml 1 ")
    assert any(c.startswith("automl rollback problem.toml") for c in commands)

    store, later = Store(workspace), AS_OF.replace(day=9)
    cycle = store.open_cycle(problem.name, "retrain", later, 1, problem.digest)
    store.end_cycle(cycle, "failed", "no trial succeeded <here>")
    page = Page(report_html(cycle_report(problem, workspace)))
    assert page.sections == list(SECTIONS)
    assert "Failed" in page.text
    assert "no trial succeeded <here>" in page.text
    assert "Promoted" not in page.text.split("What is live")[0]
