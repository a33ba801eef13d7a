"""Saved views of MLflow's runs page, which shows no metric without them.

The format is MLflow's own and undocumented, so failing to write a view never fails a cycle.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Sequence
from typing import Any

from automl.modeling.metrics import Metric

__all__ = ["DECISIONS", "LEADERBOARD", "saved_views", "view_link"]

DECISIONS, LEADERBOARD = "decisions", "leaderboard"


def saved_views(metric: Metric, also: Sequence[str], cycle: str) -> dict[str, str]:
    """Experiment tags that make the views `1 · Decisions` and `2 · Leaderboard`.

    `cycle` is the tag of the newest cycle, which the leaderboard shows.
    """
    decisions = _state(
        'tags.kind = "cycle"',
        "attributes.start_time",
        ascending=False,
        columns=[
            "tags.`decision`",
            "tags.`winner`",
            f"metrics.`best_{metric.name}`",
            f"metrics.`champ_{metric.name}`",
            "metrics.`gain_pct`",
            "metrics.`p_better`",
            f"metrics.`live_{metric.name}`",
            "metrics.`n_trials`",
            "metrics.`n_failed`",
            "metrics.`minutes`",
        ],
        widths={"tags.`decision`": 120, "tags.`winner`": 220},
    )
    leaderboard = _state(
        f'tags.kind = "trial" and tags.state = "complete" and tags.cycle = "{cycle}"',
        f"metrics.`cv_{metric.name}`",
        ascending=metric.better == "lower",
        columns=[
            "tags.`role`",
            f"metrics.`cv_{metric.name}`",
            f"metrics.`cv_{metric.name}_sd`",
            *(f"metrics.`cv_{name}`" for name in also),
            "metrics.`blocks`",
            "metrics.`fit_s`",
            "metrics.`pred_ms_1k`",
            "params.`family`",
            "params.`half_life`",
            "params.`recent`",
            "params.`trend`",
        ],
        widths={
            "tags.`role`": 75,
            f"metrics.`cv_{metric.name}`": _width(f"cv_{metric.name}") + 20,  # plus the sort mark
            "params.`family`": 160,
        },
    )
    return {
        f"mlflow.sharedViewState.{DECISIONS}": _named(
            "1 · Decisions (one row per cycle)", decisions
        ),
        f"mlflow.sharedViewState.{LEADERBOARD}": _named(
            "2 · Leaderboard (newest cycle)", leaderboard
        ),
    }


def view_link(base: str, experiment: str, view: str) -> str:
    """Address of a saved view below an MLflow server."""
    return f"{base}/#/experiments/{experiment}/runs?viewStateShareKey={view}&workflowType=machine_learning"


def _width(name: str) -> int:
    """Pixels for a column's name and five digits; MLflow's 100 cut off `champ_roc_auc`."""
    return max(80, 26 + 7 * len(name))


def _named(name: str, state: dict[str, Any]) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = int(time.time() * 1000)
    return json.dumps(
        {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    )


def _state(
    search: str, order: str, *, ascending: bool, columns: Sequence[str], widths: dict[str, int]
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
        "columnWidths": {name: _width(name.split("`")[1]) for name in columns} | widths,
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
    }
