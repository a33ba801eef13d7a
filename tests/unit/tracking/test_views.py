"""Saved views: four tables with gain and P(better) near the decision, and a chart, in the form that MLflow reads."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest

from automl.modeling.metrics import get_metric
from automl.tracking.views import LIVE_LOSS, PROMISED_LOSS, saved_views, view_link


def unpacked(tag: str) -> dict[str, Any]:
    packed = json.loads(tag)["state"].removeprefix("deflate;")
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


@pytest.fixture(scope="module")
def views() -> dict[str, dict[str, Any]]:
    tags = saved_views(get_metric("roc_auc"), ["log_loss"], "2026-03-02", "abc")
    return {name.rpartition(".")[2]: unpacked(tag) for name, tag in tags.items()}


def test_views_are_numbered_in_the_order_of_reading() -> None:
    tags = saved_views(get_metric("roc_auc"), [], "2026-03-02")
    names = [json.loads(tag)["name"] for tag in tags.values()]
    assert [name[:4] for name in names] == ["1 · ", "2 · ", "3 · ", "4 · ", "5 · "]


def test_decisions_begin_with_the_decision_its_gain_and_the_probability(
    views: dict[str, dict[str, Any]],
) -> None:
    view = views["decisions"]
    assert [name.split("`")[1] for name in view["columnOrder"]][:3] == [
        "decision", "gain_pct", "p_better",
    ]  # fmt: skip
    widths = [view["columnWidths"][name] for name in view["columnOrder"][:4]]
    assert sum(widths) < 560, "in view on 1440 pixels, after the names of the runs"


@pytest.mark.parametrize(
    ("metric", "ascending", "best"), [("roc_auc", False, "max"), ("rmse", True, "min")]
)
def test_leaderboard_and_families_have_the_best_first(
    metric: str, *, ascending: bool, best: str
) -> None:
    tags = saved_views(get_metric(metric), [], "2026-03-02")
    found = {name.rpartition(".")[2]: unpacked(tag) for name, tag in tags.items()}
    for name in ("leaderboard", "families"):
        assert found[name]["orderByKey"] == f"metrics.`cv_{metric}`"
        assert found[name]["orderByAsc"] is ascending
        assert found[name]["columnOrder"][0] == f"metrics.`cv_{metric}`"
    assert found["families"]["groupBy"]["aggregateFunction"] == best


def test_failed_and_pruned_trials_show_their_reason_and_no_run_of_a_cycle(
    views: dict[str, dict[str, Any]],
) -> None:
    view = views["failed"]
    assert 'tags.kind = "trial"' in view["searchFilter"], "!= finds runs without the tag too"
    assert "tags.`reason`" in view["selectedColumns"]


def test_the_chart_draws_two_lines_of_the_newest_cycle_alone(
    views: dict[str, dict[str, Any]],
) -> None:
    view = views["live"]
    [chart] = view["compareRunCharts"]
    assert (chart["type"], chart["selectedMetricKeys"]) == ("LINE", [LIVE_LOSS, PROMISED_LOSS])
    assert view["searchFilter"] == 'attributes.run_id = "abc"'


def test_a_link_to_a_view_chooses_the_mode_and_may_be_relative() -> None:
    page = "#/experiments/7/runs?viewStateShareKey=failed&workflowType=machine_learning"
    assert view_link("http://127.0.0.1:5000", "7", "failed") == f"http://127.0.0.1:5000/{page}"
    assert view_link("", "7", "failed") == page
