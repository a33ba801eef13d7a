"""Cycles leave reports, whatever becomes of them; a report that cannot be written fails nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from automl import open_project
from automl.api.reporting import KEPT, Report, report_of_cycle
from automl.errors import AutomlError
from automl.problem import load_problem
from automl.report.html import SECTIONS
from automl.workspace import open_workspace
from tests.support.browser import needs_chromium, open_browser
from tests.support.diagnostics import with_diagnostics
from tests.support.parcels import AS_OF, make_world, write_problem
from tests.support.workspaces import WEEK
from tests.support.workspaces import file as file  # a fixture: a copy of the released workspace

SKIP = '\n[retraining]\nwhen = "on_degradation"\n'


def test_a_report_that_cannot_be_written_is_a_warning_that_names_its_traceback(
    file: Path, server: None
) -> None:
    problem, workspace = load_problem(file), replace(open_workspace(file), reports=True)
    folder = workspace.report_of(problem.name, AS_OF, 1)
    folder.mkdir(parents=True)
    (folder / "diagnostics.json").write_text("no JSON", encoding="utf-8")

    warning = report_of_cycle(problem, workspace, AS_OF)

    assert warning.startswith("the report was not written: JSONDecodeError")
    assert str(folder / "error.txt") in warning
    assert "json.loads" in (folder / "error.txt").read_text(encoding="utf-8")
    assert report_of_cycle(problem, replace(workspace, reports=False), AS_OF) == ""


# pairs of texts in one picture that lie on each other, and pictures that are empty or hardly visible
OVERLAPS = """
(() => {
  const found = [];
  for (const figure of document.querySelectorAll("figure")) {
    const svg = figure.querySelector("svg");
    const whole = svg.getBoundingClientRect();
    if (whole.width < 280 || whole.height < 80) found.push(`${figure.id}: ${whole.width} x ${whole.height}`);
    const boxes = [...svg.querySelectorAll("text")].map(e => [e.textContent, e.getBoundingClientRect()]);
    if (boxes.length < 3) found.push(`${figure.id}: empty`);
    for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
      const [a, b] = [boxes[i][1], boxes[j][1]];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      const least = Math.min(a.width * a.height, b.width * b.height);
      if (wide > 0 && tall > 0 && wide * tall > 0.3 * least)
        found.push(`${figure.id}: ${boxes[i][0]} on ${boxes[j][0]}`);
    }
  }
  return found;
})()
"""


@pytest.mark.slow  # starts a browser
@needs_chromium
def test_on_a_wide_window_and_on_a_phone_nothing_overlaps_is_cut_or_comes_from_the_network(
    released: Path, tmp_path: Path
) -> None:
    file = with_diagnostics(released, tmp_path / "copy")
    page = open_project(file).report(to=tmp_path / "page.html").path
    with open_browser() as browser:
        for width in (1440, 390):
            browser.resize(width, 900)
            browser.open(page.as_uri(), "Written by automl")
            assert browser.js("document.querySelectorAll('figure').length") > 10
            assert browser.js("document.documentElement.scrollWidth") <= width
            assert browser.js(OVERLAPS) == []
        browser.click("If you disagree")
        assert browser.js("location.hash") == "#act"
        assert browser.errors == []
        assert browser.left == []


@pytest.mark.slow  # cycles of three tasks, each with its report
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_cycle_leaves_its_report_also_one_that_is_skipped_or_refused(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOML_REPORT", "on")
    families = {
        'families = ["baseline", "linear"]': 'families = ["baseline", "linear", "lightgbm"]'
    }
    file = write_problem(tmp_path, task, replace=families, frame=make_world())
    project = open_project(file)
    result = project.cycle(as_of=AS_OF - 2 * WEEK)
    assert result.warnings == []
    folder = project.workspace.report_of("parcels", AS_OF - 2 * WEEK, 1)
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert all(f'<section id="{name}">' in html for name in SECTIONS)
    assert len(html.encode()) < 1_000_000
    assert {p.name for p in folder.iterdir()} == {"report.html", "diagnostics.json", "plots"}
    plots = {p.stem for p in (folder / "plots").iterdir()}
    assert plots >= {"leaderboard", "budget", "calibration", "importance", "shap", "predictions"}

    mlflow.set_tracking_uri(project.workspace.tracking_uri)
    client = mlflow.MlflowClient()
    found = {a.path for a in client.list_artifacts(result.run_id)}
    assert found >= {"report.html", "plots"}
    assert {Path(a.path).stem for a in client.list_artifacts(result.run_id, "plots")} == plots

    shown = project.report()
    assert isinstance(shown, Report)
    assert "<iframe" in shown._repr_html_()
    assert shown.document["status"] == result.status

    file.write_text(file.read_text(encoding="utf-8") + SKIP, encoding="utf-8")
    project = open_project(file)
    assert project.retrain(as_of=AS_OF - WEEK).status == "skipped"
    page = project.workspace.report_of("parcels", AS_OF - WEEK, 1) / "report.html"
    assert "Skipped" in page.read_text(encoding="utf-8")

    without = make_world().drop(columns=["weight"])
    (tmp_path / "other").mkdir()
    write_problem(tmp_path / "other", task, frame=without)
    shutil.copy(tmp_path / "other" / "world.db", tmp_path / "world.db")
    with pytest.raises(AutomlError, match="weight"):
        project.retrain(as_of=AS_OF)
    page = project.workspace.report_of("parcels", AS_OF, 1) / "report.html"
    assert "Refused" in page.read_text(encoding="utf-8")
    assert len(list(project.workspace.reports_of("parcels").iterdir())) <= KEPT + 1
