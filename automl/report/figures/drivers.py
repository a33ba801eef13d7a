"""Pictures of what drives predictions, of drift, and of the newest batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from scipy.stats import spearmanr

from automl.report.figures.style import (
    BLUE,
    INK,
    LIGHT,
    ORANGE,
    RED,
    SKY,
    Picture,
    listed,
    new_figure,
    percent,
    shortened,
)

__all__ = ["drift", "importance", "predictions", "shap"]

Document = Mapping[str, Any]
SHOWN = 12
BINS = 5  # of a profile
DIVERGING = LinearSegmentedColormap.from_list("diverging", [BLUE, "#ffffff", RED])
LABELS_PER_AXIS = 6
MEASURES = {"missing": "share of gaps", "shares": "mix of values"}  # others are called as they are


def importance(document: Document) -> Picture | None:
    """Loss added by shuffling a column, now and in the last cycle that measured it."""
    found = document["diagnostics"].get("importance")
    if not found or not found["features"]:
        return None
    features = found["features"][:SHOWN]
    figure, axes = new_figure(1.1 + 0.26 * len(features))
    earlier = document["earlier"]
    before = {f["name"]: f["share"] for f in earlier["importance"]["features"]} if earlier else {}
    loss = max(abs(found["loss"]), 1e-12)
    for y, f in enumerate(features):
        axes.barh(y, f["share"], color=BLUE if f["share"] > 0 else LIGHT, height=0.62)
        axes.plot([f["low"] / loss, f["high"] / loss], [y, y], color=INK, linewidth=1)
        if f["name"] in before:
            axes.plot(
                before[f["name"]],
                y,
                "D",
                color=ORANGE,
                markerfacecolor="white",
                markersize=5.5,
                label=f"cycle of {earlier['as_of']}"
                if not axes.get_legend_handles_labels()[0]
                else None,
            )
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(features)), [shortened(f["name"]) for f in features])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %")
    axes.set_xlabel("loss added when the column is shuffled")
    if before:
        axes.legend(loc="lower right")
    top = [f["name"] for f in features[:3] if f["share"] > 0]
    few = (
        f"; {found['measured']} of {found['columns']} columns were measured"
        if found["measured"] < found["columns"]
        else ""
    )
    sentence = (
        f"Shuffling {listed(top) or 'no column'} costs most ({percent(features[0]['share'], 0)} loss for the first), on "
        f"{found['rows']:,} rows of the newest block{few}. {_stability(found, before, earlier)} The released model was "
        "refit on these rows too: read the order, not the size."
    )
    return Picture("importance", "Which columns matter", sentence, figure)


def _stability(found: Mapping[str, Any], before: Mapping[str, float], earlier: Any) -> str:
    """How the order of columns compares with an earlier cycle's."""
    now = {f["name"]: f["share"] for f in found["features"]}
    common = [n for n in now if n in before]
    if earlier is None or len(common) < 3:
        return "No earlier cycle to compare with."
    agreement = float(spearmanr([now[n] for n in common], [before[n] for n in common]).statistic)
    moved = max(common, key=lambda n: abs(now[n] - before[n]))
    word = (
        "much the same as"
        if agreement > 0.8
        else "partly different from"
        if agreement > 0.4
        else "unlike"
    )
    return f"The order is {word} that of {earlier['as_of']} (rank correlation {agreement:.2f}); {moved} changed most, by {percent(now[moved] - before[moved], 0)}."


def shap(document: Document) -> Picture | None:
    """Mean size of SHAP values, and the mean value per value of a column."""
    found = document["diagnostics"].get("shap")
    if not found or not found["features"]:
        return None
    features = found["features"][:SHOWN]
    profiled = any(f["profile"] for f in features)
    height = 1.3 + (0.42 if profiled else 0.26) * len(features)
    figure, axes = new_figure(
        height,
        2 if profiled else 1,
        **({"width_ratios": [1, 1.7], "sharey": True} if profiled else {}),
    )
    left = axes[0] if profiled else axes
    left.barh(range(len(features)), [f["mean_abs"] for f in features], color=BLUE, height=0.55)
    left.set_yticks(range(len(features)), [shortened(f["name"], 16) for f in features])
    left.set_ylim(len(features) - 0.4, -0.6)
    left.grid(axis="y", visible=False)
    left.set_xlabel("mean size")
    if profiled:
        _draw_profiles(axes[1], features)
    share = f"{100 * found['weight']:.0f} % of the blend's weight"
    first = features[0]
    push = _strongest(features)
    sentence = (
        f"SHAP values of the LightGBM members ({share}) on {found['rows']:,} rows of the newest block, in {found['unit']}: "
        f"{first['name']} moves a prediction by {first['mean_abs']:.3g} on average{push}."
    )
    return Picture("shap", "How columns move predictions", sentence, figure)


def _draw_profiles(axes: Any, features: list[Mapping[str, Any]]) -> None:
    """A cell per value or quarter of a column, coloured by its mean SHAP value."""
    most = max((abs(p["mean"]) for f in features for p in f["profile"]), default=1.0) or 1.0
    norm = TwoSlopeNorm(0.0, -most, most)
    for y, f in enumerate(features):
        cells = f["profile"][:BINS]
        for i, p in enumerate(cells):
            width = 1 / len(cells)
            colour = DIVERGING(norm(p["mean"]))
            axes.barh(
                y,
                width * 0.98,
                left=i * width,
                height=0.8,
                color=colour,
                edgecolor=LIGHT,
                linewidth=0.5,
            )
            dark = abs(p["mean"]) > 0.62 * most
            text = f"{shortened(p['label'], max(6, 52 // len(cells)))}\n{p['mean']:+.2g}"
            axes.text(
                (i + 0.5) * width,
                y,
                text,
                ha="center",
                va="center",
                fontsize=6,
                color="white" if dark else INK,
                linespacing=1.15,
            )
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("by value: red raises, blue lowers")


def _strongest(features: list[Mapping[str, Any]]) -> str:
    cells = [(abs(p["mean"]), f["name"], p) for f in features for p in f["profile"]]
    if not cells:
        return ""
    _, name, p = max(cells, key=lambda c: c[0])
    return f"; {name} = {p['label']} {'raises' if p['mean'] > 0 else 'lowers'} it most, by {abs(p['mean']):.2g}"


def drift(document: Document) -> Picture | None:
    """How far measures of the newest window lie from those of past windows."""
    found = (document["monitoring"]["found"] or {}).get("drift")
    shifts = [s for s in (found or {}).get("shifts", ()) if s["effect"] is not None][:SHOWN]
    if not found or not shifts:
        return None
    figure, axes = new_figure(1.0 + 0.27 * len(shifts))
    for y, s in enumerate(shifts):
        axes.barh(
            y,
            s["effect"],
            color=RED if found["state"] == "alarm" and s["column"] in found["columns"] else SKY,
            height=0.62,
        )
    axes.axvline(0, color=INK, linewidth=1)
    axes.axvspan(-2, 2, color=LIGHT, alpha=0.45, zorder=0)
    names = [
        f"{shortened(s['column'], 20)}: {MEASURES.get(s['statistic'], s['statistic'])}"
        for s in shifts
    ]
    axes.set_yticks(range(len(shifts)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("standard deviations from past windows")
    s = shifts[0]
    window = (
        f"{found['window'][0]} to {found['window'][1]}" if found["window"] else "the newest window"
    )
    state = {"alarm": "An alarm", "quiet": "No alarm"}.get(
        found["state"], "Too few past windows for an alarm"
    )
    sentence = f"{state}, for {window}: the {MEASURES.get(s['statistic'], s['statistic'])} of {s['column']} ({s['source']}) moved most, from {s['reference']:.4g} to {s['value']:.4g} ({s['effect']:+.1f} standard deviations). Grey: what is usual."
    return Picture("drift", "What has moved", sentence, figure)


def predictions(document: Document) -> Picture | None:
    """Distribution of the live predictions, and of the generation before."""
    batch = document["batch"]
    found = (batch or {}).get("distribution")
    if not found:
        return None
    made = batch["generations"]
    figure, axes = new_figure(3.0)
    names = [f"generation {g['generation']} of {g['as_of']}" for g in made]
    if found["kind"] == "classes":
        _draw_classes(axes, found, names)
        top = found["labels"][0]
        now, *rest = (s[0] for s in found["shares"])
        sentence = f"{100 * now:.0f} % of {made[0]['rows']:,} rows are predicted as {top}" + (
            f", {100 * rest[0]:.0f} % in the generation before." if rest else "."
        )
        return Picture("predictions", "Predictions of the live generation", sentence, figure)
    edges = np.array(found["edges"])
    for i in reversed(range(len(found["shares"]))):
        share = np.array(found["shares"][i])
        if i == 0:
            axes.bar(
                edges[:-1],
                share,
                width=np.diff(edges),
                align="edge",
                color=SKY,
                edgecolor="white",
                linewidth=0.5,
                label=names[0],
            )
        else:
            axes.stairs(share, edges, color=ORANGE, linewidth=1.6, label=names[i])
    axes.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %")
    axes.set_ylabel("share of rows")
    axes.set_xlabel(
        "predicted value"
        if document["task"] == "regression"
        else f"probability of {shortened(document['positive'] or 'the positive class', 24)}"
    )
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    after = (
        f", {made[1]['mean']:.4g} in the generation before"
        if len(made) > 1 and "mean" in made[1]
        else ""
    )
    sentence = f"The mean of {made[0]['rows']:,} predictions is {made[0]['mean']:.4g}{after}; nine in ten lie between {made[0]['p5']:.4g} and {made[0]['p95']:.4g}."
    return Picture("predictions", "Predictions of the live generation", sentence, figure)


def _draw_classes(axes: Any, found: Mapping[str, Any], names: list[str]) -> None:
    labels, width = [shortened(x, 14) for x in found["labels"]], 0.8 / len(found["shares"])
    for i, (share, colour) in enumerate(zip(found["shares"], (SKY, ORANGE), strict=False)):
        axes.bar(
            np.arange(len(labels)) + i * width, share, width=width, color=colour, label=names[i]
        )
    turned = len(labels) > LABELS_PER_AXIS
    axes.set_xticks(
        np.arange(len(labels)) + width * (len(found["shares"]) - 1) / 2,
        labels,
        rotation=35 if turned else 0,
        ha="right" if turned else "center",
    )
    axes.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %")
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("share of rows")
    axes.legend(loc="upper right")
