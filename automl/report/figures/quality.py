"""Pictures of out-of-sample predictions: calibration, ROC, precision and recall, lift, confusion, residuals, slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from automl.report.figures.style import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    PALETTE,
    SKY,
    Picture,
    date_axis,
    moment,
    new_figure,
    shortened,
)

__all__ = [
    "calibration",
    "confusion",
    "errors_over_time",
    "lift",
    "precision_recall",
    "residuals",
    "roc",
    "slices",
]

Document = Mapping[str, Any]
STYLES = {"released": (BLUE, "-", "o"), "rival": (ORANGE, "--", "s"), "baseline": (GREY, ":", "x")}
SQUARE = 3.5
CELLS_WITH_TEXT = 10
BLUES = LinearSegmentedColormap.from_list("blues", ["#ffffff", "#cfe3f1", BLUE])


def _name(document: Document, role: str) -> str:
    """A role in words."""
    names: Mapping[str, str] = document["diagnostics"].get("names", {})
    return "constant" if role == "baseline" else names.get(role, role)


def _rows(document: Document) -> str:
    found = document["diagnostics"]
    blocks = len(found["blocks"])
    sample = f"a sample of {found['sampled']:,} of " if found["sampled"] < found["rows"] else ""
    return f"{sample}{found['rows']:,} rows of {blocks} blocks that the models had not seen"


def calibration(document: Document) -> Picture | None:
    """Predicted against observed, per tenth of the predictions."""
    found = document["diagnostics"].get("calibration")
    if not found or not found.get("released"):
        return None
    figure, axes = new_figure(SQUARE)
    points = [p for each in found.values() for p in each]
    low = min(min(p["predicted"], p["low"]) for p in points)
    high = max(max(p["predicted"], p["high"]) for p in points)
    margin = 0.04 * max(high - low, 1e-9)
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, label="as predicted")
    for role, each in reversed(found.items()):
        colour, line, mark = STYLES.get(role, STYLES["rival"])
        x = [p["predicted"] for p in each]
        if role == "released":
            axes.vlines(
                x, [p["low"] for p in each], [p["high"] for p in each], color=SKY, linewidth=2
            )
        axes.plot(
            x,
            [p["observed"] for p in each],
            line,
            color=colour,
            marker=mark,
            markersize=4,
            label=_name(document, role),
        )
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(low - margin, high + margin)
    binary, values = document["task"] == "binary", document["task"] == "regression"
    axes.set_xlabel(
        "predicted value"
        if values
        else "predicted probability"
        if binary
        else "probability of the predicted class"
    )
    axes.set_ylabel(
        f"mean of {shortened(document['target'])}"
        if values
        else "share of positives"
        if binary
        else "share that was right"
    )
    axes.legend(loc="upper left")
    gaps = [(abs(p["observed"] - p["predicted"]), p) for p in found["released"]]
    outside = sum(not p["low"] <= p["predicted"] <= p["high"] for p in found["released"])
    worst = max(gaps, key=lambda g: g[0])[1]
    shown = (lambda v: f"{v:.4g}") if values else (lambda v: f"{100 * v:.0f} %")
    sentence = (
        f"Where {shown(worst['predicted'])} was predicted, {shown(worst['observed'])} came true: the largest gap of "
        f"{len(gaps)} bins; {outside or 'none'} of them {'is' if outside == 1 else 'are'} off by more than the 90 % interval. On {_rows(document)}."
    )
    title = "Predicted and observed" if values else "Calibration"
    return Picture("calibration", title, sentence, figure)


def roc(document: Document) -> Picture | None:
    """True over false positive rate; per class where there are several."""
    found = {k: v for k, v in (document["diagnostics"].get("roc") or {}).items() if v}
    if not found:
        return None
    figure, axes = new_figure(SQUARE)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    several = document["task"] == "multiclass"
    for i, (name, curve) in enumerate(found.items()):
        colour, line = (
            (PALETTE[i % len(PALETTE)], "-") if several else STYLES.get(name, STYLES["rival"])[:2]
        )
        label = shortened(name, 16) if several else _name(document, name)
        axes.plot(curve["x"], curve["y"], line, color=colour, label=f"{label}: {curve['area']:.3f}")
    axes.set_xlabel("share of negatives that are flagged")
    axes.set_ylabel("share of positives that are found")
    axes.legend(loc="lower right", title="area", title_fontsize=8)
    areas = [(v["area"], k) for k, v in found.items()]
    if several:
        low = min(areas)
        sentence = f"Each class against all others: {low[1]} is hardest to tell apart, with an area of {low[0]:.3f} (0.5 is guessing)."
    else:
        curve = found.get("released") or next(iter(found.values()))
        at = float(np.interp(0.1, curve["x"], curve["y"]))
        sentence = f"A threshold that flags 10 % of the negatives finds {100 * at:.0f} % of the positives; the area is {curve['area']:.3f} (0.5 is guessing)."
    return Picture("roc", "ROC curve", sentence, figure)


def precision_recall(document: Document) -> Picture | None:
    """Precision over recall."""
    found = {k: v for k, v in (document["diagnostics"].get("precision_recall") or {}).items() if v}
    if not found:
        return None
    figure, axes = new_figure(SQUARE)
    curve = found.get("released") or next(iter(found.values()))
    axes.axhline(curve["share"], color=GREY, linewidth=1)
    for name, each in found.items():
        colour, line, _ = STYLES.get(name, STYLES["rival"])
        axes.plot(
            each["x"],
            each["y"],
            line,
            color=colour,
            label=f"{_name(document, name)}: {each['area']:.3f}",
        )
    axes.set_ylim(0, 1.03)
    axes.set_xlim(0, 1.0)
    axes.set_xlabel("recall: share of positives that are found")
    axes.set_ylabel("precision: share of flagged that are right")
    axes.legend(loc="lower left", title="average precision", title_fontsize=8)
    half = float(np.interp(0.5, curve["x"], curve["y"]))
    sentence = f"Finding half of the positives means that {100 * half:.0f} % of the flagged rows are right; flagging at random, {100 * curve['share']:.0f} % (grey line)."
    return Picture("precision_recall", "Precision and recall", sentence, figure)


def lift(document: Document) -> Picture | None:
    """Share of positives among the highest predictions."""
    found = {k: v for k, v in (document["diagnostics"].get("lift") or {}).items() if v}
    if not found:
        return None
    figure, axes = new_figure(SQUARE)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="at random")
    for name, each in found.items():
        colour, line, _ = STYLES.get(name, STYLES["rival"])
        axes.plot(each["x"], each["y"], line, color=colour, label=_name(document, name))
    axes.set_xlabel("share of rows, highest predictions first")
    axes.set_ylabel("share of all positives among them")
    axes.legend(loc="lower right")
    curve = found.get("released") or next(iter(found.values()))
    sentence = f"The tenth of the rows with the highest predictions holds {100 * curve['tenth']:.0f} % of all positives, {curve['tenth'] / 0.1:.1f} times as many as a tenth at random."
    return Picture("lift", "Lift", sentence, figure)


def confusion(document: Document) -> Picture | None:
    """Share of each class by predicted class."""
    found = document["diagnostics"].get("confusion")
    if not found:
        return None
    counts = np.array(found["counts"], dtype=float)
    names = [shortened(n, 14) for n in found["classes"]]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    figure, axes = new_figure(1.5 + 0.42 * max(3, min(len(names), 8)))
    edges = np.arange(len(names) + 1) - 0.5  # cells, not an image: they stay sharp
    axes.pcolormesh(
        edges, edges, shares, cmap=BLUES, vmin=0, vmax=1, edgecolor="white", linewidth=1
    )
    axes.invert_yaxis()
    if len(names) <= CELLS_WITH_TEXT:
        for i, j in np.ndindex(shares.shape):
            shown = f"{100 * shares[i, j]:.0f} %" + (
                f"\n{counts[i, j]:,.0f}" if len(names) <= 5 else ""
            )
            axes.text(
                j,
                i,
                shown,
                ha="center",
                va="center",
                fontsize=8 if len(names) <= 6 else 6.5,
                color="white" if shares[i, j] > 0.62 else INK,
            )
    axes.set_xticks(
        range(len(names)),
        names,
        rotation=30 if len(names) > 4 else 0,
        ha="right" if len(names) > 4 else "center",
    )
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel(f"{shortened(document['target'])}, as it turned out")
    axes.grid(visible=False)
    right = float(np.trace(counts) / max(counts.sum(), 1e-12))
    off = shares - np.diag(np.diag(shares))
    i, j = np.unravel_index(int(off.argmax()), off.shape)
    sentence = f"{100 * right:.0f} % of the predicted classes are right. Most often mistaken: {100 * off[i, j]:.0f} % of {found['classes'][i]} are predicted as {found['classes'][j]}. Shares are of each row of the table."
    return Picture("confusion", "Predicted and actual classes", sentence, figure)


def residuals(document: Document) -> Picture | None:
    """Outcome minus prediction: percentiles per tenth of the predictions."""
    found = document["diagnostics"].get("residuals")
    if not found or not found["bins"]:
        return None
    figure, axes = new_figure(SQUARE)
    bins = found["bins"]
    x = [b["predicted"] for b in bins]
    axes.fill_between(
        x,
        [b["p5"] for b in bins],
        [b["p95"] for b in bins],
        color=SKY,
        alpha=0.25,
        linewidth=0,
        label="90 % of the rows",
    )
    axes.fill_between(
        x,
        [b["p25"] for b in bins],
        [b["p75"] for b in bins],
        color=SKY,
        alpha=0.55,
        linewidth=0,
        label="half of the rows",
    )
    axes.plot(x, [b["p50"] for b in bins], color=BLUE, marker="o", markersize=4, label="median")
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_xlabel("predicted value")
    axes.set_ylabel("outcome − prediction")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=3)
    widths = [b["p95"] - b["p5"] for b in bins]
    ratio = max(widths) / max(min(widths), 1e-12)
    spread = (
        f"errors are {ratio:.1f} times as wide at their widest as at their narrowest"
        if ratio > 1.5
        else "errors are about as wide everywhere"
    )
    sentence = f"On average outcomes are {found['mean']:+.3g} above their predictions; {spread}. On {_rows(document)}."
    return Picture("residuals", "Residuals", sentence, figure)


def errors_over_time(document: Document) -> Picture | None:
    """Score per period of the blocks."""
    points = document["diagnostics"].get("over_time")
    if not points or len(points) < 2:
        return None
    figure, axes = new_figure(3.0)
    times = [moment(p["time"]) for p in points]
    for role in ("baseline", "rival", "released"):
        if role not in points[0]["scores"]:
            continue
        colour, line, mark = STYLES[role]
        axes.plot(
            times,
            [p["scores"][role] for p in points],
            line,
            color=colour,
            marker=mark,
            markersize=3,
            linewidth=1.3,
            label=_name(document, role),
        )
    for block in document["diagnostics"]["blocks"]:
        axes.axvline(moment(block["start"]), color=LIGHT, linewidth=1, zorder=0)
    arrow = "↑" if document["better"] == "higher" else "↓"
    axes.set_ylabel(f"{document['metric']} {arrow}")
    date_axis(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=3)
    sign = 1 if document["better"] == "higher" else -1
    worst = min(points, key=lambda p: sign * p["scores"]["released"])
    beaten = sum(sign * (p["scores"]["released"] - p["scores"]["baseline"]) > 0 for p in points)
    sentence = f"The worst of {len(points)} periods is around {worst['time'][:10]}, with {worst['scores']['released']:.4g} on {worst['rows']} rows; the constant was beaten in {beaten}. Vertical lines: where a block begins."
    return Picture("errors_over_time", "Score over time", sentence, figure)


def slices(document: Document) -> Picture | None:
    """Scores of the worst slices."""
    found = document["diagnostics"].get("slices")
    if not found:
        return None
    figure, axes = new_figure(1.0 + 0.25 * len(found))
    for y, s in enumerate(found):
        for role in ("rival", "released"):
            if s["scores"].get(role) is not None:
                colour, _, mark = STYLES[role]
                axes.plot(
                    s["scores"][role],
                    y,
                    mark,
                    color=colour,
                    markersize=5.5,
                    label=_name(document, role) if not y else None,
                )
    names = [
        f"{shortened(s['column'], 12)} = {shortened(s['value'], 18)} ({s['rows']:,})" for s in found
    ]
    axes.set_yticks(range(len(found)), names)
    axes.invert_yaxis()
    arrow = "↑" if document["better"] == "higher" else "↓"
    axes.set_xlabel(f"{document['metric']} {arrow}")
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.5 / (1.0 + 0.25 * len(found)) - 0.03), ncols=2
    )
    worst, best = found[0], found[-1]
    sentence = (
        f"Worst first: {worst['column']} = {worst['value']} scores {worst['scores']['released']:.4g} on {worst['rows']:,} rows, "
        f"the last one shown {best['scores']['released']:.4g}. In brackets: rows."
    )
    return Picture("slices", "Score by slice", sentence, figure)
