"""Pictures of decisions: the evidence of one, how published predictions turned out, decisions over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from automl.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    SKY,
    Picture,
    date_axis,
    moment,
    new_figure,
    percent,
)

__all__ = ["attribution", "decisions_over_time", "evidence", "live"]

Document = Mapping[str, Any]
COLOURS = {"promote": GREEN, "first": GREEN, "revert": RED, "wait": ORANGE}
MARKS = {"promote": "^", "first": "^", "revert": "v", "wait": "D"}
LABELLED_CHANGES = 6
ALONE = timedelta(days=4)  # to either side of a single point
WIDEST = 8.0  # times the middle half of all ends: wider intervals are cut at the edge


def evidence(document: Document) -> Picture | None:
    """Raw gain per block, raw mean and shrunk gain, each with its interval."""
    found = document["decision"]["evidence"]
    if not found or not found["gains"]:
        return None
    gains = found["gains"]
    rows = [(g["block"], g, g["kind"] == "out_of_sample") for g in gains]
    figure, axes = new_figure(1.5 + 0.24 * (len(rows) + 2))
    for y, (_, g, unseen) in enumerate(rows):
        axes.plot([g["low"], g["high"]], [y, y], color=SKY, linewidth=1.2)
        face, size = (BLUE if unseen else "white"), 4 + 5 * g["weight"] ** 0.5
        axes.plot(g["gain"], y, "o", color=BLUE, markerfacecolor=face, markersize=size)
    below = len(rows) + 0.4
    for y, (name, colour) in enumerate((("mean", INK), ("shrunk", ORANGE))):
        low, high = (
            (found.get("raw_low"), found.get("raw_high"))
            if name == "mean"
            else (found["low"], found["high"])
        )
        if low is not None:
            axes.plot([low, high], [below + y] * 2, color=colour, linewidth=2.4)
        axes.plot(found[name], below + y, "D", color=colour, markersize=6)
    axes.axvline(0, color=INK, linewidth=1)
    if found["margin"]:
        axes.axvline(found["margin"], color=RED, linewidth=1, linestyle="--")
    _cut(axes, [v for g in gains for v in (g["low"], g["high"])] + [found["low"], found["high"]])
    axes.set_yticks(
        [*range(len(rows)), below, below + 1], [*(r[0] for r in rows), "raw mean", "shrunk gain"]
    )
    axes.set_ylim(below + 1.7, -0.7)
    axes.xaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %")
    axes.set_xlabel(
        "less loss than the champion →"
        if not found["first"]
        else "less loss than the start points' blend →"
    )
    unseen = sum(r[2] for r in rows)
    rival = "what stands in for a champion" if found["first"] else "the champion"
    lost = f"{abs(100 * found['mean']):.2f} % {'less' if found['mean'] >= 0 else 'more'}"
    sentence = (
        f"Over {found['blocks']} blocks the challenger lost {lost} than {rival}; shrunk, because "
        f"the best of many looks too good, its gain is {percent(found['shrunk'], 2)} (90 % interval {percent(found['low'], 2)} "
        f"to {percent(found['high'], 2)}). P(better) is {found['probability']:.2f}, {found['needed']:.2f} is needed. Filled: "
        f"out-of-sample ({unseen} of {len(rows)} shown); hollow: in-sample, which counts half."
    )
    return Picture("evidence", "Gain of the challenger, block by block", sentence, figure)


def _cut(axes: Any, ends: list[float]) -> None:
    """Keep one wild block from squeezing all others."""
    low, high = np.percentile(ends, [10, 90])
    span = max(high - low, 1e-4) * WIDEST / 4
    axes.set_xlim(
        max(min(*ends, 0.0), low - span) - 0.03 * span,
        min(max(*ends, 0.0), high + span) + 0.03 * span,
    )


def live(document: Document) -> Picture | None:
    """Realised score of every generation with labels, the promise, and changes of champion."""
    points = document["live"]["turned_out"]
    if not points:
        return None
    figure, axes = new_figure(3.0)
    times = [moment(p["as_of"]) for p in points]
    promised = [p["promised"] if p["promised"] is not None else np.nan for p in points]
    limits = [
        [p[k] if p[k] is not None else np.nan for p in points]
        for k in ("promised_low", "promised_high")
    ]
    if len(points) > 1:
        axes.fill_between(
            times, *limits, color=SKY, alpha=0.25, linewidth=0, label="expected range"
        )
        axes.plot(times, promised, color=SKY, linestyle="--", label="promised")
    else:
        axes.errorbar(
            times,
            promised,
            yerr=_bars(promised, *limits),
            fmt="_",
            color=SKY,
            capsize=4,
            markersize=12,
            label="promised",
        )
    values = [p["value"] for p in points]
    axes.plot(times, values, color=BLUE, marker="o", markersize=4, label="realised")
    for p, t in zip(points, times, strict=True):
        if p["low"] is not None and p["high"] is not None:
            axes.plot([t, t], [p["low"], p["high"]], color=BLUE, linewidth=1)
        if p["degraded"]:
            axes.plot(t, p["value"], "X", color=RED, markersize=8)
    _mark_changes(axes, document, times)
    axes.set_ylabel(_metric(document))
    _readable_limits(axes, [*values, *promised], limits)
    date_axis(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=3)
    if len(points) == 1:
        axes.set_xlim(times[0] - ALONE, times[0] + ALONE)
    sentence = f"{_how_it_turned_out(points)} Dotted lines: another champion."
    return Picture("live", "Realised performance against what was promised", sentence, figure)


def _how_it_turned_out(points: Sequence[Mapping[str, Any]]) -> str:
    last, worse = points[-1], sum(p["degraded"] for p in points)
    against = f", promised {last['promised']:.4g}" if last["promised"] is not None else ""
    reached = (
        f"The predictions of {last['as_of']} reached {last['value']:.4g} on "
        f"{last['labelled_rows']:,} labels{against}"
    )
    if len(points) == 1:
        return f"{reached}: {'worse than promised by more than noise' if worse else 'within noise of it'}."
    which = (
        f"{worse} of {len(points)} generations" if worse else f"none of {len(points)} generations"
    )
    return f"{reached}; {which} turned out worse than promised by more than noise (✗)."


def _bars(middle: list[float], low: list[float], high: list[float]) -> list[list[float]]:
    return [
        [max(0.0, m - a) for m, a in zip(middle, low, strict=True)],
        [max(0.0, b - m) for m, b in zip(middle, high, strict=True)],
    ]


def _mark_changes(axes: Any, document: Document, times: list[Any]) -> None:
    changes = [
        c for c in document["live"]["changes"] if times[0] <= moment(c["as_of"]) <= times[-1]
    ]
    for c in changes:
        axes.axvline(moment(c["as_of"]), color=GREY, linestyle=":", linewidth=1)
    for c in changes[-LABELLED_CHANGES:]:
        axes.annotate(
            f"v{c['version']}",
            (moment(c["as_of"]), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, -1),
            textcoords="offset points",
            fontsize=7,
            color=GREY,
            va="bottom",
        )


def _readable_limits(axes: Any, values: list[float], limits: list[list[float]]) -> None:
    """The range of the points and of a usual band, not that of the widest."""
    shown = [v for v in values if np.isfinite(v)]
    bands = [float(np.nanmedian(each)) for each in limits if np.isfinite(each).any()]
    low, high = min([*shown, *bands]), max([*shown, *bands])
    margin = max(0.08 * (high - low), 0.02 * max(abs(high), 1e-6))
    axes.set_ylim(low - margin, high + margin)


def _metric(document: Document) -> str:
    return f"{document['metric']} {'↑' if document['better'] == 'higher' else '↓'}"


def decisions_over_time(document: Document) -> Picture | None:
    """Estimated gain of the best challenger per cycle, and what became of it."""
    found = [d for d in document["live"]["decisions"] if d["gain"] is not None]
    if len(found) < 2:
        return None
    figure, axes = new_figure(3.0)
    for d in found:
        t = moment(d["as_of"])
        colour, mark = COLOURS.get(d["outcome"], GREY), MARKS.get(d["outcome"], "o")
        axes.plot([t, t], [d["low"], d["high"]], color=colour, linewidth=1.2)
        axes.plot(t, d["gain"], mark, color=colour, markersize=6)
        if d["right"] is False:
            axes.plot(t, d["gain"], "o", color=RED, markerfacecolor="none", markersize=12)
    axes.axhline(0, color=INK, linewidth=1)
    _cut_height(axes, [v for d in found for v in (d["low"], d["high"])])
    axes.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %")
    axes.set_ylabel("gain of the best challenger")
    date_axis(axes)
    for name, mark, colour in (
        ("promoted", "^", GREEN),
        ("kept", "o", GREY),
        ("awaits review", "D", ORANGE),
        ("reverted", "v", RED),
    ):
        axes.plot([], [], mark, color=colour, label=name)
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.14), ncols=4, columnspacing=1.0, handletextpad=0.2
    )
    promoted = sum(d["outcome"] in ("promote", "first") for d in found)
    known = [d for d in found if d["right"] is not None]
    later = (
        f"; of {len(known)} whose outcome later blocks show, {sum(d['right'] for d in known)} were right (ringed: wrong)"
        if known
        else ""
    )
    sentence = f"In {promoted} of {len(found)} cycles a challenger was promoted{later}. Lines are 90 % intervals."
    return Picture("decisions_over_time", "Decisions, cycle by cycle", sentence, figure)


def _cut_height(axes: Any, ends: list[float]) -> None:
    low, high = np.percentile(ends, [10, 90])
    span = max(high - low, 1e-4) * WIDEST / 4
    axes.set_ylim(
        max(min(*ends, 0.0), low - span) - 0.05 * span,
        min(max(*ends, 0.0), high + span) + 0.05 * span,
    )


def attribution(document: Document) -> Picture | None:
    """Losses on the newest block: as published, refitted on fresh data, with the new recipe."""
    found = document["gain"]
    if not found:
        return None
    figure, axes = new_figure(1.9)
    names = ("as published", "+ fresh data", "+ new recipe")
    losses = [found["published"], found["refit"], found["challenger"]]
    for y, (loss, colour) in enumerate(zip(losses, (GREY, BLUE, ORANGE), strict=True)):
        axes.barh(y, loss, color=colour, height=0.62)
        change = (
            "" if y == 0 else f"   {percent((losses[y] - losses[y - 1]) / max(losses[0], 1e-12))}"
        )
        axes.annotate(
            f"{loss:.4g}{change}",
            (loss, y),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xlim(0, max(losses) * 1.38)
    axes.set_yticks(range(3), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("loss on the newest block (shorter is better)")
    parts = [_part("fresh data", found["fresh"]), _part("the new recipe", found["recipe"])]
    sentence = (
        f"On {found['rows']} rows whose predictions were published, {parts[0]}, and {parts[1]}."
    )
    return Picture("attribution", "What the gain is made of", sentence, figure)


def _part(name: str, gain: float) -> str:
    return (
        f"{name} {'saved' if gain >= 0 else 'cost'} {abs(100 * gain):.1f} % of the published loss"
    )
