"""From lines of runs to the figures that are quoted: ranks, ratios of losses per pair, costs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

__all__ = [
    "ablated_figures",
    "carried_figures",
    "compared_figures",
    "cost_figures",
    "curve_figures",
    "lines_of",
]

Lines = Sequence[dict[str, Any]]


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines file; none if it does not exist."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def compared_figures(lines: Lines, ours: str) -> dict[str, Any]:
    """Ranks and loss ratios over all (table, cycle) pairs; a failed run ranks last and has no ratio."""
    pairs: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for line in lines:
        if line["part"] == "compare":
            loss = line["loss"] if line["loss"] is not None else np.inf
            pairs[line["table"], line["cycle"]][line["tool"]] = loss
    pairs = {at: losses for at, losses in pairs.items() if len(losses) > 1 and ours in losses}
    if not pairs:
        return {}
    ranks = [dict(zip(p, rankdata(list(p.values())), strict=True)) for p in pairs.values()]
    tools = sorted({t for p in pairs.values() for t in p} - {ours})
    over = {tool: _mean_ratio(pairs, ours, tool) for tool in tools}
    figures: dict[str, Any] = {
        "pairs": len(pairs),
        "mean_rank": round(float(np.mean([r[ours] for r in ranks])), 3),
        **{
            f"mean_rank_{t}": round(float(np.mean([r[t] for r in ranks if t in r])), 3)
            for t in tools
        },
        **{f"loss_over_{tool}": round(ratio, 4) for tool, ratio in over.items()},
        "gain_over_best_peer": round(
            1 - max(filter(np.isfinite, over.values()), default=np.nan), 4
        ),
    }
    if "autogluon" in tools:
        wins = [p[ours] < p["autogluon"] for p in pairs.values() if "autogluon" in p]
        figures["wins_over_autogluon_best"] = round(float(np.mean(wins)), 3)
    if "lightgbm" in tools:
        by_table = {
            name: _mean_ratio({at: p for at, p in pairs.items() if at[0] == name}, ours, "lightgbm")
            for name in sorted({at[0] for at in pairs})
        }
        figures["worst_against_lightgbm"] = round(max(by_table.values()) - 1, 4)
        figures |= _worst_pair(pairs, lines, ours)
    return figures


def _worst_pair(
    pairs: Mapping[tuple[str, int], Mapping[str, float]], lines: Lines, ours: str
) -> dict[str, Any]:
    """The table and cycle where we are furthest behind LightGBM's defaults, and the noise of our loss there."""
    ratios = {
        at: losses[ours] / losses["lightgbm"] - 1
        for at, losses in pairs.items()
        if losses.get("lightgbm", 0.0) > 0
    }
    if not ratios:
        return {}
    worst = max(ratios, key=lambda at: ratios[at])
    line = next(
        x
        for x in lines
        if (x["part"], x["tool"], x["table"], x["cycle"]) == ("compare", ours, *worst)
    )
    error = line["more"].get("standard_error")
    return {
        "worst_pair_against_lightgbm": round(ratios[worst], 4),
        "worst_pair": f"{worst[0]}, cycle {worst[1] + 1}",
        "worst_pair_standard_error": round(error / line["loss"], 4) if error else None,
    }


def _mean_ratio(pairs: dict[tuple[str, int], dict[str, float]], ours: str, tool: str) -> float:
    """Geometric mean over pairs of our loss over the tool's."""
    ratios = [p[ours] / p[tool] for p in pairs.values() if np.isfinite(p.get(tool, np.inf))]
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else float("nan")


def carried_figures(lines: Lines, ours: str) -> dict[str, Any]:
    """Cost and loss of carried-on cycles, and of mere refits, over those of cold cycles of the same cut."""
    cut = _by_cut(lines, {"chain": "carry", "refit": "carry", ours: "compare"})
    whole = [tools for tools in cut.values() if {"chain", "refit", ours} <= set(tools)]
    if not whole:
        return {}

    def cost(tool: str) -> float:
        return _cost([t[tool] for t in whole]) / _cost([t[ours] for t in whole])

    def gap(tool: str) -> float:
        return _ratio([(t[tool], t[ours]) for t in whole]) - 1

    return {
        "warm_cycles": len(whole),
        "warm_cost": round(cost("chain"), 4),
        "warm_loss_gap": round(gap("chain"), 4),
        "refit_cost": round(cost("refit"), 4),
        "refit_loss_gap": round(gap("refit"), 4),
    }


def ablated_figures(lines: Lines, ours: str, names: Sequence[str]) -> dict[str, Any]:
    """Loss and cost of cycles that lack a part, as ratios to whole cycles of the same cut."""
    ablations = {}
    for name in names:
        cut = _by_cut(lines, {name: "ablate", ours: "compare"})
        whole = [t for t in cut.values() if len(t) == 2]
        if whole:
            ratios = [t[name]["loss"] / t[ours]["loss"] for t in whole]
            ablations[name] = {
                "cycles": len(whole),
                "loss": round(_ratio([(t[name], t[ours]) for t in whole]), 4),
                "worst": round(max(ratios), 4),
                "cost": round(_cost([t[name] for t in whole]) / _cost([t[ours] for t in whole]), 3),
            }
    return {"ablations": ablations} if ablations else {}


Cuts = dict[tuple[str, int], dict[str, dict[str, Any]]]


def _by_cut(lines: Lines, parts: Mapping[str, str]) -> Cuts:
    """Lines that ended well by table and cycle, then by tool, of the part named for each tool."""
    cut: Cuts = defaultdict(dict)
    for line in lines:
        if parts.get(line["tool"]) == line["part"] and line["loss"] is not None:
            cut[line["table"], line["cycle"]][line["tool"]] = line
    return cut


def _cost(lines: Lines) -> float:
    return float(sum(line["more"]["cost"]["core_seconds"] for line in lines))


def _ratio(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> float:
    """Geometric mean of the first's loss over the second's."""
    return float(np.exp(np.mean([np.log(a["loss"] / b["loss"]) for a, b in pairs])))


def curve_figures(lines: Lines, ours: str, seconds: float) -> dict[str, Any]:
    """Cost and loss of our cold cycles with less time, as shares of those with all of it."""
    cut: dict[tuple[str, int], dict[float, dict[str, Any]]] = defaultdict(dict)
    for line in lines:
        if line["part"] == "compare" and line["tool"] == ours and line["loss"] is not None:
            cut[line["table"], line["cycle"]][round(line["seconds"] / seconds, 4)] = line
    shares = sorted({share for lines in cut.values() for share in lines})
    whole = [lines for lines in cut.values() if set(lines) == set(shares)]
    if len(shares) < 3 or 1.0 not in shares or not whole:
        return {}

    def cost(share: float) -> float:
        return _cost([t[share] for t in whole]) / _cost([t[1.0] for t in whole])

    def loss(share: float) -> float:
        return _ratio([(t[share], t[1.0]) for t in whole])

    curve = [{"budget": s, "cost": round(cost(s), 3), "loss": round(loss(s), 4)} for s in shares]
    fifth = (
        {"loss_300_over_60": round(1 / loss(0.2), 4)} if seconds == 300 and 0.2 in shares else {}
    )
    return {"curve_cycles": len(whole), "curve": curve, **fifth}


def cost_figures(lines: Lines) -> dict[str, Any]:
    """Where the time of whole cold sweeps went, and of warm ones; the worst logging share and overrun."""
    every = [x["more"]["cost"] for x in lines if "cost" in x["more"] and x["part"] != "ablate"]
    costs = [c for c in every if c["plan"] == "full"]
    warm = [c["time_in_fits"] for c in every if c["plan"] == "warm"]
    if not costs:
        return {}
    figures = {"time_in_fits_warm": round(float(np.mean(warm)), 4)} if warm else {}
    return figures | {
        "time_in_fits": round(float(np.mean([c["time_in_fits"] for c in costs])), 4),
        "time_in_fits_least": round(min(c["time_in_fits"] for c in costs), 4),
        "logging_share": round(max(c["logging_share"] for c in costs), 4),
        "overrun_seconds": round(max(c["overrun_seconds"] for c in costs), 2),
    }
