"""The plot of a backtest: what each policy lost over time, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from io import StringIO
from logging import WARNING, getLogger
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

__all__ = ["backtest_figure", "backtest_plot"]

# text stays text, and the same document gives the same file
SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "automl", "font.size": 9}


def backtest_plot(document: Mapping[str, Any]) -> str:
    """SVG with two panels; empty if no batch has labels."""
    getLogger("matplotlib").setLevel(WARNING)  # it tells when it looks for fonts
    with mpl.rc_context(SETTINGS):
        figure, out = backtest_figure(document, columns=2), StringIO()
        if figure is None:
            return ""
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def backtest_figure(document: Mapping[str, Any], *, columns: int = 1) -> Figure | None:
    """Losses over time and costs, side by side in two `columns` or one above the other; None if no batch has labels."""
    rows = [row for row in document["policies"] if row["loss"] is not None]
    if not rows:
        return None
    wide = columns > 1
    figure = Figure(figsize=(10, 3.8) if wide else (5.4, 6.2), layout="constrained")
    over_time, cost = figure.subplots(2 // columns, columns)
    _draw_regret(over_time, document, rows)
    _draw_cost(cost, document, rows)
    return figure


def _draw_regret(axes: Any, document: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    """Losses above those of the best policy, added up."""
    best = min(rows, key=lambda row: row["loss"])
    names = dict(zip(document["events"], document["policies"], strict=True))
    events = {row["folder"]: document["events"][name] for name, row in names.items()}
    shortest = min(len(events[row["folder"]]) for row in rows)
    scored = [
        i
        for i in range(shortest)
        if all(events[row["folder"]][i].get("loss") is not None for row in rows)
    ]
    times = [datetime.fromisoformat(events[best["folder"]][i]["as_of"]) for i in scored]
    reference = np.array([events[best["folder"]][i]["loss"] for i in scored])
    for row in rows:
        losses = np.array([events[row["folder"]][i]["loss"] for i in scored])
        axes.plot(times, np.cumsum(losses - reference), label=row["policy"], linewidth=1.4)
    axes.set_title(f"loss above that of {best['policy']}, added up ({document['metric']})")
    axes.tick_params(axis="x", rotation=30)
    axes.legend(frameon=False, fontsize=8)


def _draw_cost(axes: Any, document: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    for row in rows:
        ends = [[row["score"] - row["low"]], [row["high"] - row["score"]]]
        axes.errorbar(row["core_seconds"], row["score"], yerr=ends, fmt="o", capsize=2)
        place = (row["core_seconds"], row["score"])
        axes.annotate(row["policy"], place, xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("core-seconds after the first cycle")
    axes.set_title(f"realised {document['metric']}, 90 % intervals")
