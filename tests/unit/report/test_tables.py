"""Which cycle is shown, and under which metric its scores stand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from automl import report
from automl.api.arguments import cycle_of
from automl.errors import ProblemError
from automl.report import tables
from automl.store import Cycle, DecisionRecord, Store
from tests.support.sites import MONDAY, Site
from tests.support.sites import make_site as make_site

WEEK = timedelta(weeks=1)


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


def ended(
    site: Site, as_of: datetime, status: str, verb: str = "retrain", **receipts: object
) -> Cycle:
    cycle = site.store.open_cycle("parcels", verb, as_of, 1, "another file")
    site.store.note(cycle, **receipts)
    site.store.end_cycle(cycle, status, f"it was {status}")
    return cycle


def text_of(shown: object) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def test_the_newest_cycle_that_trained_is_shown_and_a_later_one_is_named(site: Site) -> None:
    ended(site, MONDAY, "published", metrics=["roc_auc", "log_loss"])
    ended(site, MONDAY + WEEK, "refused")
    ended(site, MONDAY + 2 * WEEK, "published", "score")

    for show, print_text in (
        (report.why, report.why_text),
        (report.leaderboard, report.leaderboard_text),
    ):
        document = show(site.problem, site.store.workspace, None)
        assert document["as_of"] == "2026-03-02"
        assert document["later"]["as_of"] == "2026-03-09"
        assert "the later cycle of 2026-03-09, refused: it was refused" in text_of(
            print_text(document)
        )
    named = report.why(site.problem, site.store.workspace, MONDAY + WEEK)
    assert (named["status"], named["later"]) == ("refused", None)


@pytest.mark.parametrize("outcome", ["keep", "promote"])
def test_why_says_that_the_gain_of_a_mere_refit_is_not_known(
    site: Site, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(site, MONDAY, "published", metrics=["roc_auc"])
    made = DecisionRecord(
        id=1, as_of=MONDAY, attempt=1, outcome=outcome, reason="", content={}, decided_at=MONDAY
    )
    monkeypatch.setattr(Store, "decisions", lambda *_, **__: [made])
    monkeypatch.setattr(tables, "regrets", lambda *_: [])

    document = report.why(site.problem, site.store.workspace, None)

    text = " ".join(text_of(report.why_text(document)).split())
    assert ("refit: the same recipes, fitted on newer rows too" in text) is (outcome == "keep")
    assert ("what this alone gains is not known" in text) is (outcome == "keep")


def test_status_fits_one_screen_and_commands_stay_whole() -> None:
    kept = "kept: its gain is not above the switching margin of 0.10%; raw gain +0.3%, " + "x " * 99
    cycles = [
        {"as_of": f"2026-03-0{n}", "verb": verb, "status": "published", "reason": reason}
        for n in range(9, 1, -1)
        for verb, reason in (("score", "with the cycle"), ("retrain", kept))
    ]
    row = {
        "generation": 2,
        "as_of": "2026-03-02",
        "model_version": 1,
        "labelled_rows": 5,
        "rows": 5,
    }
    sql = f"sqlite3 /srv/{'folder/' * 12}automl.db 'select * from parcels'"
    document = {
        "problem": "parcels",
        "file": "problem.toml",
        "champion": {"model_version": 1, "as_of": "2026-03-02", "blend": "linear 60 %, " * 8},
        "live": {**row, "until": "2026-03-09", "sql": sql, "parquet": "/srv/predictions"},
        "waiting": None,
        "missed": ["2026-03-03"],
        "ahead": None,
        "unscored": False,
        "turned_out": [{**row, "scores": {"roc_auc": 0.7}}] * 6,
        "cycles": cycles,
        "monitoring": None,
    }
    console = Console(width=80)
    with console.capture() as capture:
        console.print(report.status_text(document), crop=False)
    lines = [line.rstrip() for line in capture.get().splitlines()]

    assert len(lines) <= 24
    assert f"    {sql}" in lines
    assert [line for line in lines if len(line) > 80] == [f"    {sql}"]
    assert sum(line.split()[1:2] == ["cycle"] for line in lines) == 4, "one line per cycle"
    assert "raw gain" not in "".join(lines)


def test_without_a_cycle_that_trained_the_refused_one_is_shown(site: Site) -> None:
    ended(site, MONDAY, "refused")

    document = report.why(site.problem, site.store.workspace, None)

    assert (document["status"], document["later"]) == ("refused", None)


@pytest.mark.parametrize(
    ("receipts", "metric", "better"),
    [({"metrics": ["log_loss"]}, "log_loss", "lower"), ({}, "score", "")],
)
def test_a_leaderboard_stands_under_the_metric_of_its_cycle(
    site: Site, receipts: dict[str, object], metric: str, better: str
) -> None:
    ended(site, MONDAY, "published", **receipts)

    document = report.leaderboard(site.problem, site.store.workspace, None)

    assert site.problem.metric.name != metric
    assert (document["metric"], document["better"]) == (metric, better)


def test_realised_scores_stand_under_the_metric_they_were_measured_in() -> None:
    row = {"generation": 2, "as_of": "", "model_version": 1, "labelled_rows": 5, "rows": 5}
    rows = [{**row, "scores": {"log_loss": 0.25}}, {**row, "scores": {"roc_auc": 0.75}}]

    lines = text_of(report.realised_text(rows)).splitlines()

    head = next(line for line in lines if "log_loss" in line)
    first, second = (line for line in lines if "5 of 5" in line)
    assert head.index("log_loss") < head.index("roc_auc")
    assert first.split()[-2:] == ["0.2500", "-"]
    assert second.split()[-2:] == ["-", "0.7500"]


def test_cycle_and_as_of_mean_the_same_and_may_not_differ() -> None:
    assert cycle_of("2026-03-02", None) == cycle_of(None, "2026-03-02") == MONDAY
    assert cycle_of("2026-03-02", "2026-03-02T00:00") == MONDAY
    assert cycle_of(None, None) is None
    with pytest.raises(ProblemError, match="name two cycles") as caught:
        cycle_of("2026-03-02", "2026-03-09", ("--cycle", "--as-of"))
    assert caught.value.exit_code == 2


def test_after_a_commit_a_failed_command_says_what_is_in_effect_now(site: Site) -> None:
    published = site.publish(5)
    began = site.store.live("parcels").published_at

    before = report.in_effect(site.problem, site.store.workspace, began + WEEK)
    after = report.in_effect(site.problem, site.store.workspace, began)

    assert not before.changed
    assert f"still shows generation {published}, 5 rows" in before.text
    assert after.changed
    assert f"now shows generation {published}, 5 rows" in after.text
