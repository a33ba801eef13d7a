"""The plot of a backtest: what each policy lost over time, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from automl.report.figures.style import PALETTE, WIDTH, date_axis, drawing, moment

__all__ = ["backtest_figure", "backtest_plot"]

MARKS = "osD^vP*X"
Row = Mapping[str, Any]


def backtest_plot(document: Mapping[str, Any]) -> str:
    """SVG with two panels; empty if no batch has labels."""
    with drawing():
        figure, out = backtest_figure(document, columns=2), StringIO()
        if figure is None:
            return ""
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def backtest_figure(document: Mapping[str, Any], *, columns: int = 1) -> Figure | None:
    """Losses over time and costs, side by side in two `columns` or one above the other; None if no batch has labels.

    A policy has one colour and one mark in both panels, and one entry in the legend below them.
    """
    rows = [row for row in document["policies"] if row["loss"] is not None]
    if not rows:
        return None
    wide = columns > 1
    figure = Figure(figsize=(10, 4) if wide else (WIDTH, 6.4), layout="constrained")
    over_time, cost = figure.subplots(2 // columns, columns)
    looks = [(PALETTE[i % len(PALETTE)], MARKS[i % len(MARKS)]) for i in range(len(rows))]
    _draw_regret(over_time, document, rows, looks)
    _draw_cost(cost, document, rows, looks)
    handles, labels = cost.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(rows) if wide else 3)
    return figure


def _draw_regret(
    axes: Any,
    document: Mapping[str, Any],
    rows: Sequence[Row],
    looks: Sequence[tuple[str, str]],
) -> None:
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
    times = [moment(events[best["folder"]][i]["as_of"]) for i in scored]
    reference = np.array([events[best["folder"]][i]["loss"] for i in scored])
    for row, (colour, mark) in zip(rows, looks, strict=True):
        losses = np.array([events[row["folder"]][i]["loss"] for i in scored])
        above = np.cumsum(losses - reference)
        axes.plot(times, above, color=colour, linewidth=1.4)
        axes.plot(times[-1:], above[-1:], mark, color=colour, markersize=5)
    axes.set_title(f"loss above that of {best['policy']}, added up ({document['metric']})")
    date_axis(axes)


def _draw_cost(
    axes: Any,
    document: Mapping[str, Any],
    rows: Sequence[Row],
    looks: Sequence[tuple[str, str]],
) -> None:
    for row, (colour, mark) in zip(rows, looks, strict=True):
        ends = [[row["score"] - row["low"]], [row["high"] - row["score"]]]
        place = row["core_seconds"], row["score"]
        axes.errorbar(*place, yerr=ends, fmt=mark, color=colour, capsize=2, label=row["policy"])
    axes.set_xlim(left=-0.03 * max(row["core_seconds"] for row in rows))
    axes.set_xlabel("core-seconds after the first cycle")
    axes.set_title(f"realised {document['metric']}, 90 % intervals")
