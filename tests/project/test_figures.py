"""What the benchmarks quote is computed from their lines as the docs say."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.figures import ablated_figures, carried_figures, compared_figures, curve_figures


def _line(
    part: str, tool: str, cycle: int, loss: float | None, core: float = 0.0, **fields: Any
) -> dict[str, Any]:
    rest = {"table": "sales", "seconds": 60.0, **fields}
    cost = {"cost": {"core_seconds": core}}
    return {"part": part, "tool": tool, "cycle": cycle, "loss": loss, "more": cost, **rest}


def test_ranks_and_ratios_are_per_pair_and_a_failed_run_ranks_last() -> None:
    lines = [
        _line("compare", "ours", 0, 1.0),
        _line("compare", "lightgbm", 0, 2.0),
        _line("compare", "autogluon", 0, None),
        _line("compare", "ours", 1, 4.0),
        _line("compare", "lightgbm", 1, 2.0),
        _line("compare", "autogluon", 1, 8.0),
        _line("ablate", "ours", 1, 0.1),
    ]
    figures = compared_figures(lines, "ours")
    assert figures["pairs"] == 2
    assert (figures["mean_rank"], figures["mean_rank_lightgbm"]) == (1.5, 1.5)
    assert figures["mean_rank_autogluon"] == 3
    assert figures["loss_over_lightgbm"] == pytest.approx(1.0)  # geometric: a half, and twice
    assert figures["loss_over_autogluon"] == pytest.approx(0.5), "a failed run has no ratio"
    assert figures["gain_over_best_peer"] == pytest.approx(0.0)
    assert figures["wins_over_autogluon_best"] == 1.0
    assert figures["worst_against_lightgbm"] == pytest.approx(0.0)


def test_the_worst_pair_against_lightgbm_comes_with_the_noise_of_our_loss_there() -> None:
    ours = [_line("compare", "ours", i, loss) for i, loss in enumerate((1.0, 3.0, 0.9))]
    ours[1]["more"]["standard_error"] = 0.06
    lines = [*ours, *(_line("compare", "lightgbm", i, 2.0 - i / 2) for i in range(3))]
    figures = compared_figures(lines, "ours")
    assert figures["worst_pair_against_lightgbm"] == pytest.approx(1.0)
    assert figures["worst_pair"] == "sales, cycle 2"
    assert figures["worst_pair_standard_error"] == pytest.approx(0.02)


def test_carried_cycles_are_compared_with_cold_cycles_of_the_same_cut() -> None:
    lines = [
        _line("carry", "first", 0, 1.0, 50),
        _line("compare", "ours", 1, 1.0, 100),
        _line("carry", "chain", 1, 1.1, 20),
        _line("carry", "refit", 1, 1.21, 5),
        _line("compare", "ours", 2, 1.0, 300),
        _line("carry", "chain", 2, 1.1, 20),  # without its refit: not counted
    ]
    figures = carried_figures(lines, "ours")
    assert figures == {
        "warm_cycles": 1,
        "warm_cost": 0.2,
        "warm_loss_gap": 0.1,
        "refit_cost": 0.05,
        "refit_loss_gap": 0.21,
    }
    assert carried_figures(lines[:2], "ours") == {}


def test_ablations_and_the_curve_are_ratios_to_the_whole() -> None:
    lines = [
        _line("compare", "ours", 1, 2.0, 100),
        _line("ablate", "no recency", 1, 3.0, 50),
        _line("compare", "ours", 2, 2.0, 100),
    ]
    ablations = ablated_figures(lines, "ours", ["no recency", "one study"])["ablations"]
    assert ablations == {"no recency": {"cycles": 1, "loss": 1.5, "worst": 1.5, "cost": 0.5}}
    curve = [
        _line("compare", "ours", c, 8.0 / s, 10 * s, seconds=60.0 * s)
        for c in (1, 2)
        for s in (0.25, 0.5, 1.0)
    ]
    shares = curve_figures(curve, "ours", 60.0)["curve"]
    assert [(p["budget"], p["cost"], p["loss"]) for p in shares] == [
        (0.25, 0.25, 4.0),
        (0.5, 0.5, 2.0),
        (1.0, 1.0, 1.0),
    ]
    fifths = [_line("compare", "ours", 0, 3 / x, x, seconds=300 * x) for x in (0.05, 0.2, 1.0)]
    assert curve_figures(fifths, "ours", 300.0)["loss_300_over_60"] == pytest.approx(0.2)
