"""Pictures of a sweep: the leaderboard, where the time went, what the search gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl.report.figures.style import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    PALETTE,
    SKY,
    Picture,
    new_figure,
    percent,
    shortened,
)

__all__ = ["budget", "leaderboard", "search"]

Document = Mapping[str, Any]
SHOWN = 12
FAR = 4.0  # times the median distance: trials further behind are drawn at the edge
LEAST_SHARE = 0.004  # of the time; a smaller part is not drawn


def leaderboard(document: Document) -> Picture | None:
    """Distance of the best trials from the first, with intervals."""
    trials = [t for t in document["leaderboard"]["trials"] if t["distance"] is not None][:SHOWN]
    if len(trials) < 2:
        return None
    figure, axes = new_figure(1.0 + 0.24 * len(trials))
    distances = sorted(t["distance"] for t in trials)
    edge = max(
        FAR * distances[len(distances) // 2], 1.3 * distances[min(3, len(distances) - 1)], 0.01
    )
    for y, t in enumerate(trials):
        beyond = t["distance"] > edge
        x = min(t["distance"], edge)
        colour = BLUE if t["weight"] else GREY
        if not beyond:
            axes.plot(
                [t["low"], t["high"]], [y, y], color=SKY if t["weight"] else LIGHT, linewidth=2.2
            )
        axes.plot(x, y, ">" if beyond else "o", color=colour, markersize=6)
        if beyond:
            axes.annotate(
                percent(t["distance"], 0),
                (x, y),
                xytext=(-8, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=7,
                color=GREY,
            )
    axes.axvline(0, color=INK, linewidth=1)
    low = min(t["low"] for t in trials if t["distance"] <= edge)
    axes.set_xlim(low - 0.05 * edge, edge * 1.06)
    axes.set_yticks(range(len(trials)), [f"{t['rank']} {shortened(t['family'])}" for t in trials])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %")
    axes.set_xlabel("more loss than the best trial (left is better)")
    apart = next((t for t in trials[1:] if t["low"] > 0), None)
    which = (
        f"number {apart['rank']} is the first that is worse by more than noise"
        if apart
        else "none of those shown is worse than the first by more than noise"
    )
    members = sum(bool(t["weight"]) for t in trials)
    sentence = f"Lines are 90 % intervals of the distance from the best trial: {which}. Blue: in the released blend ({members} of those shown)."
    return Picture("leaderboard", "Best trials", sentence, figure)


def budget(document: Document) -> Picture | None:
    """Core-seconds by purpose."""
    found = document["budget"]
    if not found:
        return None
    parts = [(f"trials: {name}", seconds) for name, seconds in found["families"].items()]
    parts += [
        ("encoding", found["encode_core_seconds"]),
        ("refit", found["refit_core_seconds"]),
        ("not used", found["idle_core_seconds"]),
    ]
    whole = sum(seconds for _, seconds in parts)
    parts = [(name, seconds) for name, seconds in parts if seconds > LEAST_SHARE * whole]
    if not parts:
        return None
    figure, axes = new_figure(0.9 + 0.26 * len(parts))
    colours = dict(zip([n for n, _ in parts if n.startswith("trials")], PALETTE * 3, strict=False))
    for y, (name, seconds) in enumerate(parts):
        axes.barh(
            y, seconds, color=colours.get(name, LIGHT if name == "not used" else GREY), height=0.68
        )
        axes.annotate(
            f"{seconds:.1f} s, {100 * seconds / whole:.0f} %",
            (seconds, y),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xlim(0, max(s for _, s in parts) * 1.32)
    axes.set_yticks(range(len(parts)), [shortened(name, 30) for name, _ in parts])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("core-seconds")
    sentence = (
        f"Sweep and refit used {found['core_seconds']:.0f} core-seconds; {100 * found['time_in_fits']:.0f} % of the "
        f"sweep's core time was spent in fits, and logging took {100 * found['logging_share']:.1f} % of its wall clock."
    )
    return Picture("budget", "Where the time went", sentence, figure)


def search(document: Document) -> Picture | None:
    """Scores of trials over the seconds of the sweep, and the best so far."""
    points = (document["budget"] or {}).get("search", [])
    if len(points) < 2:
        return None
    figure, axes = new_figure(3.0)
    families = list(dict.fromkeys(p["family"] for p in points))
    for family, colour, mark in zip(families, PALETTE * 3, "osD^vP*X" * 3, strict=False):
        own = [p for p in points if p["family"] == family]
        axes.plot(
            [p["seconds"] for p in own],
            [p["score"] for p in own],
            mark,
            color=colour,
            markersize=4.5,
            label=shortened(family),
        )
    seconds = [p["seconds"] for p in points]
    end = max(seconds[-1], document["budget"]["sweep_seconds"])
    axes.step(
        [*seconds, end],
        [*(p["best"] for p in points), points[-1]["best"]],
        where="post",
        color=INK,
        linewidth=1.2,
        label="best so far",
    )
    scores = sorted((p["score"] for p in points), reverse=document["better"] == "higher")
    near = scores[: max(2, round(0.8 * len(scores)))]
    margin = max(0.12 * abs(near[0] - near[-1]), 0.002 * abs(near[0]))
    axes.set_ylim(min(near) - margin, max(near) + margin)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds of the sweep")
    axes.set_ylabel(f"{document['metric']} {'↑' if document['better'] == 'higher' else '↓'}")
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.2), ncols=3, columnspacing=1.0, handletextpad=0.3
    )
    last = next(p["seconds"] for p in points if p["best"] == points[-1]["best"])
    first, best = points[0]["best"], points[-1]["best"]
    went = f"went from {first:.4g} to {best:.4g} and" if best != first else f"has {best:.4g} and"
    stopped = document["budget"]["stopped"] or "its plan"
    sentence = (
        f"The best single trial {went} was found after {last:.0f} of {end:.0f} seconds; "
        f"the sweep stopped because of: {stopped}."
    )
    return Picture("search", "What the search gained over time", sentence, figure)
