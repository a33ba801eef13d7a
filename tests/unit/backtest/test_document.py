"""The document of a backtest: rows per policy, common batches, halves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from automl.backtest.document import common_losses, costs_of, make_document, recommended
from automl.backtest.window import Options, Window, window_of
from automl.problem import load_problem
from automl.report.figures import backtest_plot
from tests.support.turning import monday, write_world

FULL = [1.0, 1.0, 1.1, 1.0, 1.2, 1.0, 1.0, 1.1]
REFIT = [1.0, 1.0, 1.1, 1.0, 1.8, 1.5, 1.6, 1.7]  # worse in the second half


def events(losses: Sequence[float | None], action: str, cost: float) -> list[dict[str, Any]]:
    return [
        {
            "as_of": monday(6 + i).isoformat(),
            "verb": "cycle",
            "action": "full" if i == 0 else action,
            "outcome": ("first", "promote", "revert", "keep")[min(i, 3)],
            "reason": "",
            "core_seconds": 50.0 if i == 0 else cost,
            "loss": loss,
            "moved": None if i == 0 else 0.25,
            "as_known_then": False,
        }
        for i, loss in enumerate(losses)
    ]


@pytest.fixture
def window(tmp_path: Path) -> Window:
    file = write_world(tmp_path, weeks=15)
    return window_of(load_problem(file), Options(start=monday(6), end=monday(14)))


def document(window: Window, found: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    failed = more.pop("failed", {})
    return make_document(
        window, found, failed=failed, home=Path("/tmp/b"), estimate=10.0, seconds=5.0
    )


def test_a_row_counts_what_a_policy_did_and_what_it_cost_after_the_shared_cycle(
    window: Window,
) -> None:
    found = document(
        window, {"full": events(FULL, "full", 40.0), "refit": events(REFIT, "refit", 4.0)}
    )
    full, refit = found["policies"]
    assert (full["core_seconds"], refit["core_seconds"]) == (280.0, 28.0)
    assert found["first_core_seconds"] == 50.0
    assert refit["actions"] == {"full": 1, "warm": 0, "refit": 7, "skip": 0, "refused": 0}
    assert (full["promotions"], full["reverts"], full["moved"]) == (1, 1, 0.25)
    assert full["regret"] == 0.0
    assert refit["regret"] == pytest.approx(sum(REFIT) / 8 - sum(FULL) / 8)
    assert found["recommendation"]["policy"] == "full"
    assert found["as_known"] == "then"


def test_policies_are_compared_on_batches_that_all_have(window: Window) -> None:
    lacking: list[float | None] = [*REFIT[:2], None, *REFIT[3:6]]
    found = {"full": events(FULL, "full", 40.0), "refit": events(lacking, "refit", 4.0)}
    losses = common_losses(found)
    assert losses["full"] == [*FULL[:2], *FULL[3:6]]
    assert len(losses["refit"]) == 5
    text = document(window, found)
    assert text["batches"] == 5
    assert "2 of refit" in text["not_run"]


def test_a_half_recommends_without_the_other_one() -> None:
    found = {"full": events(FULL, "full", 40.0), "refit": events(REFIT, "refit", 4.0)}
    assert recommended(found, 0, 4).policy == "refit"
    assert recommended(found, 4).policy == "full"
    assert costs_of(found, 0, 4) == {"full": 120.0, "refit": 12.0}
    assert costs_of(found, 4) == {"full": 160.0, "refit": 16.0}


def test_a_policy_that_failed_is_shown_without_a_rank(window: Window) -> None:
    found = {"full": events(FULL, "full", 40.0), "mine": events(REFIT[:2], "warm", 4.0)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("automl.backtest.document.folder_of", lambda name: name)
        text = document(window, found, failed={"mine": "it raised"})
    assert text["failed"] == {"mine": "it raised"}
    assert [row["loss"] is None for row in text["policies"]] == [False, True]
    assert text["batches"] == 8


def test_the_plot_names_every_ranked_policy_and_is_the_same_every_time(window: Window) -> None:
    found = document(
        window, {"full": events(FULL, "full", 40.0), "refit": events(REFIT, "refit", 4.0)}
    )
    plot = backtest_plot(found)
    assert plot == backtest_plot(found)
    # one legend for both panels
    assert plot.count(">full<") == plot.count(">refit<") == 1
    assert backtest_plot({**found, "policies": []}) == ""
