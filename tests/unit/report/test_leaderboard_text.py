"""A leaderboard as text: distinct recipes, their key parameters, chosen columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

from automl.errors import ProblemError
from automl.report import leaderboard_text


def trial(rank: int, family: str, recipe: str, **other: Any) -> dict[str, Any]:
    return {
        "rank": rank, "family": family, "recipe": recipe, "state": "complete", "score": 0.7 - rank / 100,
        "also": {"log_loss": 0.5}, "blocks": 3, "fit_seconds": 1.25, "weight": None, "source": "start",
        "half_life": None, "recent": 0.0, "trend": False, "params": {}, "reason": "", **other,
    }  # fmt: skip


TRIALS = [
    trial(1, "hist_gradient_boosting", "a", params={"depth": 3, "rate": 0.1}, weight=0.6),
    trial(2, "hist_gradient_boosting", "b", params={"depth": 3, "rate": 0.0312345}, half_life=0.5),
    trial(3, "hist_gradient_boosting", "a", params={"depth": 3, "rate": 0.1}),
    trial(4, "linear", "c", params={"C": 1.0}, blocks=1, state="pruned", reason="behind"),
]


def printed(columns: Sequence[str] = (), width: int = 80, trials: Any = TRIALS) -> list[str]:
    document = {
        "problem": "parcels", "as_of": "2026-03-02", "metric": "roc_auc", "better": "higher",
        "also": ["log_loss"], "blocks": 3, "later": None, "trials": trials,
    }  # fmt: skip
    console = Console(width=width)
    with console.capture() as capture:
        console.print(leaderboard_text(document, columns), crop=False)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_recipe_has_one_row_with_the_parameters_in_which_it_differs() -> None:
    _, head, *rows, foot = printed(width=120)
    assert [row.split()[0] for row in rows] == ["1", "2", "4"], (
        "the second run of recipe a has none"
    )
    assert "rate 0.1" in rows[0]
    assert "depth" not in "".join(rows), "it is the same in all recipes of the family"
    assert "rate 0.0312, half_life 0.5" in rows[1]
    assert "C 1" in rows[2]
    assert head.split()[-2:] == ["key", "parameters"]
    assert foot == "4 trials: 3 complete, 1 pruned, 0 failed"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_it_fits_the_terminal_and_shows_key_parameters(width: int) -> None:
    lines = printed(width=width)
    assert max(map(len, lines)) <= width
    assert "rate 0.0312, half_life 0.5" in "\n".join(lines)
    assert "blocks" in lines[1], "scores over fewer blocks do not compare"
    assert ("log_loss" in lines[1]) is (width > 80)


def test_parameters_that_do_not_fit_are_counted() -> None:
    wide = {f"parameter_{n}": n for n in range(9)}
    trials = [trial(1, "linear", "a", params=wide), trial(2, "linear", "b")]
    lines = printed(trials=trials)
    assert max(map(len, lines)) <= 80
    assert "parameter_0 0, parameter_1 1, +7" in lines[2]


def test_columns_are_chosen_by_name_parameters_included() -> None:
    _, head, *rows, _ = printed(["family", "rate", "C", "reason"])
    assert head.split() == ["family", "rate", "C", "reason"]
    assert rows[0].split() == ["hist_gradient_boosting", "0.1", "-"]
    assert rows[2].split() == ["linear", "-", "1", "behind"]


def test_an_unknown_column_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ProblemError, match="found 'famly'; wanted some of rank, family, roc_auc"
    ) as caught:
        printed(["famly"])
    assert "Did you mean 'family'?" in str(caught.value)
    assert caught.value.exit_code == 2


def test_further_recipes_are_counted() -> None:
    many = [trial(n, "linear", f"r{n}", params={"C": float(n)}) for n in range(1, 16)]
    lines = printed(trials=many)
    assert sum(line.split()[0].isdigit() and "linear" in line for line in lines) == 12
    assert lines[-1] == "15 trials: 15 complete, 0 pruned, 0 failed; 3 more with --json"
