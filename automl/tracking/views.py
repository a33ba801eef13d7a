"""Saved views of MLflow's runs page, which shows no metric without them.

The format is MLflow's own and undocumented, so failing to write a view never fails a cycle.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from automl.modeling.metrics import Metric

__all__ = [
    "DECISIONS",
    "FAILED",
    "FAMILIES",
    "LEADERBOARD",
    "LIVE",
    "LIVE_LOSS",
    "PROMISED_LOSS",
    "saved_views",
    "view_link",
]

DECISIONS, LEADERBOARD, FAMILIES, FAILED = "decisions", "leaderboard", "families", "failed"
LIVE = "live"
# metrics of a cycle's run with a step per past cycle, so that MLflow draws them as lines
LIVE_LOSS, PROMISED_LOSS = "over_cycles/live_loss", "over_cycles/promised_loss"
_TITLES = {
    DECISIONS: "1 · Decisions (one row per cycle)",
    LEADERBOARD: "2 · Leaderboard (newest cycle)",
    FAMILIES: "3 · Families (newest cycle)",
    FAILED: "4 · Failed and pruned trials",
    LIVE: "5 · Live loss (as a chart)",
}


def saved_views(
    metric: Metric, also: Sequence[str], cycle: str, run_id: str = ""
) -> dict[str, str]:
    """Experiment tags that make the views: four tables, and a chart.

    `cycle` is the tag of the newest cycle, which leaderboard and families show; `run_id` its run, whose lines the
    chart shows.
    """
    trials = f'tags.kind = "trial" and tags.cycle = "{cycle}"'
    complete = f'{trials} and tags.state = "complete"'
    newest = f'attributes.run_id = "{run_id}"' if run_id else 'tags.kind = "cycle"'
    failed = 'tags.kind = "trial" and tags.state != "complete"'
    order, ascending = f"metrics.`cv_{metric.name}`", metric.better == "lower"
    views = {
        DECISIONS: _state('tags.kind = "cycle"', _decisions(metric)),
        LEADERBOARD: _state(complete, _leaderboard(metric, also), order=order, ascending=ascending),
        FAMILIES: _state(
            complete,
            _families(metric, also),
            order=order,
            ascending=ascending,
            more=_grouped(metric),
        ),
        # by the time of their start, MLflow shows trials below their cycles
        FAILED: _state(failed, _failed(metric), order="tags.`cycle`"),
        LIVE: _state(newest, _decisions(metric), more=_chart()),
    }
    return {
        f"mlflow.sharedViewState.{name}": _named(_TITLES[name], state)
        for name, state in views.items()
    }


def view_link(base: str, experiment: str, view: str) -> str:
    """Address of a saved view below an MLflow server; with an empty `base`, relative to any of its pages."""
    base = f"{base}/" if base else ""
    return f"{base}#/experiments/{experiment}/runs?viewStateShareKey={view}&workflowType=machine_learning"


# ---- columns, each with its width in pixels; 0: as wide as its name


def _decisions(metric: Metric) -> dict[str, int]:
    return {
        "tags.`decision`": 120,
        "metrics.`gain_pct`": 0,
        "metrics.`p_better`": 0,
        "tags.`winner`": 200,
        f"metrics.`live_{metric.name}`": 0,
        f"metrics.`champ_{metric.name}`": 0,
        f"metrics.`best_{metric.name}`": 0,
        "metrics.`n_trials`": 0,
        "metrics.`n_failed`": 0,
        "metrics.`minutes`": 0,
    }


def _leaderboard(metric: Metric, also: Sequence[str]) -> dict[str, int]:
    return {
        f"metrics.`cv_{metric.name}`": _width(f"cv_{metric.name}") + 20,  # plus the sort mark
        f"metrics.`cv_{metric.name}_sd`": 0,
        "tags.`role`": 75,
        **{f"metrics.`other_{name}`": 0 for name in also},
        "metrics.`n_blocks`": 0,
        "metrics.`fit_s`": 0,
        "metrics.`pred_ms_1k`": 0,
        "params.`family`": 160,
        "params.`half_life`": 0,
        "params.`recent`": 0,
        "params.`trend`": 0,
    }


def _families(metric: Metric, also: Sequence[str]) -> dict[str, int]:
    return {
        f"metrics.`cv_{metric.name}`": _width(f"cv_{metric.name}") + 20,
        **{f"metrics.`other_{name}`": 0 for name in also},
        "metrics.`n_blocks`": 0,
        "metrics.`fit_s`": 0,
        "metrics.`pred_ms_1k`": 0,
    }


def _failed(metric: Metric) -> dict[str, int]:
    return {
        "tags.`state`": 80,
        "tags.`reason`": 420,
        f"metrics.`partial_{metric.name}`": 0,
        "metrics.`n_blocks`": 0,
        "metrics.`fit_s`": 0,
        "params.`family`": 160,
        "tags.`cycle`": 140,
    }


def _width(name: str) -> int:
    """Pixels for a column's name and five digits; MLflow's 100 cut off `champ_roc_auc`."""
    return max(80, 26 + 7 * len(name))


# ---- the format


def _named(name: str, state: dict[str, Any]) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = int(time.time() * 1000)
    return json.dumps(
        {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    )


def _state(
    search: str,
    columns: Mapping[str, int],
    *,
    order: str = "attributes.start_time",
    ascending: bool = False,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "searchFilter": search,
        "orderByKey": order,
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": list(columns),
        "columnWidths": {n: width or _width(n.split("`")[1]) for n, width in columns.items()},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "groupBy": None,
        "groupsExpanded": {},
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        **(more or {}),
    }


def _grouped(metric: Metric) -> dict[str, Any]:
    """A row per family, with its best trial's score."""
    best = "min" if metric.better == "lower" else "max"
    keys = [{"mode": "tag", "groupByData": "family"}]
    return {"groupBy": {"aggregateFunction": best, "groupByKeys": keys}}


def _chart() -> dict[str, Any]:
    """What the published predictions lost over the cycles, and what was promised, as two lines."""
    section = "live"
    chart = {
        "type": "LINE", "uuid": "live-loss", "metricSectionId": section, "runsCountToCompare": 10,
        "deleted": False, "isGenerated": False, "metricKey": LIVE_LOSS, "selectedMetricKeys": [LIVE_LOSS, PROMISED_LOSS],
        "lineSmoothness": 0, "xAxisKey": "time", "selectedXAxisMetricKey": "", "xAxisScaleType": "linear",
        "scaleType": "linear", "yAxisKey": "metric", "yAxisExpressions": [], "displayPoints": True,
        "range": {}, "ignoreOutliers": False, "useGlobalXaxisKey": False, "useGlobalLineSmoothing": False,
    }  # fmt: skip
    return {
        "compareRunsMode": "CHART",
        "compareRunCharts": [chart],
        "compareRunSections": [
            {
                "uuid": section,
                "name": "Live loss",
                "display": True,
                "isReordered": True,
                "columns": 1,
                "cardHeight": 400,
            }
        ],
    }
