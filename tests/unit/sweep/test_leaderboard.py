"""A leaderboard says on how many blocks each score rests, and sets no score of fewer above others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from automl.modeling.recipes import Recipe
from automl.report import tables
from automl.report import text as texts
from automl.sweep import Leaderboard, Trial

WINNER, PRUNED, EARLY = (Recipe("linear", {"C": float(i)}, 0) for i in (1, 2, 3))


def trial(number: int, recipe: Recipe, status: str, scores: tuple[float, ...]) -> Trial:
    """A trial that was evaluated on as many blocks as it has scores."""
    losses = tuple(1 - s for s in scores)
    also = {"log_loss": 0.3} if scores else {}
    return Trial(
        number=number,
        recipe=recipe,
        source="search",
        status=status,
        losses=losses,
        scores=scores,
        also=also,
        reason="behind",
    )


TRIALS = (
    trial(0, EARLY, "pruned", (0.99,)),
    trial(1, PRUNED, "pruned", (0.95, 0.9)),
    trial(2, WINNER, "complete", (0.8, 0.7, 0.75)),
    trial(3, Recipe("linear", {}, 9), "failed", ()),
)


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The leaderboard of a cycle whose winner is the one trial that was evaluated on every block."""
    store = SimpleNamespace(
        trials=lambda _: [t.to_json() for t in TRIALS],
        decisions=lambda _: [],
        releases=lambda _: [],
    )
    metrics = {"metrics": ["roc_auc", "log_loss"]}
    cycle = SimpleNamespace(as_of=datetime(2026, 3, 2, tzinfo=UTC), receipts=metrics)
    monkeypatch.setattr(tables, "_cycle", lambda *_: (store, cycle, None))
    problem: Any = SimpleNamespace(
        name="parcels", metric=SimpleNamespace(name="roc_auc", also=("log_loss",))
    )
    return tables.leaderboard(problem, None, None)  # type: ignore[arg-type]


def test_scores_of_fewer_blocks_stand_below_and_say_so(document: dict[str, Any]) -> None:
    assert [(t["rank"], t["number"], t["blocks"]) for t in document["trials"]] == [
        (1, 2, 3), (2, 1, 2), (3, 0, 1), (4, 3, 0),
    ]  # fmt: skip
    assert document["blocks"] == 3


def test_the_table_has_a_column_of_blocks_and_fits_80_columns(document: dict[str, Any]) -> None:
    for t in document["trials"]:  # the widest that there is
        t |= {"family": "hist_gradient_boosting", "half_life": 0.125, "trend": True}
    document["trials"][0]["weight"] = 1.0
    out = StringIO()
    Console(file=out, width=80).print(texts.leaderboard_text(document))
    lines = out.getvalue().splitlines()
    assert "blocks" in lines[1]
    cells = [line.split() for line in lines[2:6]]
    place = lines[1].replace(" ↑", "").split().index("blocks")
    assert [c[place] for c in cells] == ["3/3", "2/3", "1/3", "0/3"]
    assert [c[place + 1] for c in cells] == ["100%", "pruned", "pruned", "failed"]
    assert max(map(len, lines)) <= 80
    assert all("…" not in line for line in lines)


def test_a_leaderboard_ranks_trials_with_more_blocks_first() -> None:
    leaderboard = Leaderboard(
        trials=TRIALS,
        challenger=None,
        reference=None,
        stopped="time",
        seconds=1.0,
        fit_seconds=1.0,
        rows=100,
    )
    assert [t.number for t in leaderboard.ranked] == [2, 1, 0, 3]


def test_a_trial_of_an_earlier_version_has_no_weights_and_newer_blocks_weigh_more() -> None:
    trial = Trial(
        number=0,
        recipe=Recipe("linear", {}),
        source="start",
        status="complete",
        losses=(1.0, 2.0, 4.0),
        scores=(1.0, 2.0, 4.0),
        weights=(0.3, 0.3, 0.4),
    )
    assert Trial.from_json(trial.to_json()) == trial
    assert trial.loss == pytest.approx(2.5)
    assert replace(trial, losses=(1.0, 2.0)).loss == pytest.approx(1.5), "of the blocks it has"
    earlier = {name: value for name, value in trial.to_json().items() if name != "weights"}
    assert Trial.from_json(earlier).loss == pytest.approx((1 + 2 * 0.85 + 4 * 0.85**2) / 2.5725)
