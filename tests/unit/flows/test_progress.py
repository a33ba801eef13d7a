"""The progress of a sweep in words, and artifacts that cannot fail a cycle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from automl.problem import Problem
from flows import artifacts, progress


def trial(family: str, score: float, status: str = "complete") -> dict[str, Any]:
    return {"recipe": {"family": family}, "status": status, "scores": [score, score]}


def test_progress_says_what_was_tried_and_what_is_best(
    make_problem: Callable[..., Problem],
) -> None:
    problem = make_problem()  # roc_auc, 4 trials
    assert progress.in_words(problem, [], 1.0) == (0.0, "0 trials")
    tried = [trial("linear", 0.7), trial("linear", 0.9, "pruned"), trial("baseline", 0.5)]
    assert progress.in_words(problem, tried, 1.0) == (
        75.0,
        "3 trials (linear 2, baseline 1); best roc_auc 0.7 by linear",
    )
    share, _ = progress.in_words(problem, tried * 2, 1.0)
    assert share == progress.ALMOST, "it is done when its step ends"


def test_the_best_of_a_loss_is_the_lowest(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem("regression")
    _, words = progress.in_words(problem, [trial("linear", 2.0), trial("baseline", 3.0)], 1.0)
    assert words.endswith("best rmse 2 by linear")


def test_a_server_that_is_away_is_tried_once_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, make_problem: Callable[..., Problem]
) -> None:
    tries: list[str] = []

    def away(**given: Any) -> None:
        tries.append(given["key"])
        raise ConnectionError

    monkeypatch.setattr(artifacts, "create_markdown_artifact", away)
    monkeypatch.setattr(artifacts, "create_table_artifact", lambda *_, **given: away(**given))
    artifacts._write([lambda: away(key="one"), lambda: away(key="two")])
    artifacts.show_table(make_problem(), "drift", [{"column": "a", "at": object()}], "about")
    assert tries == ["one", "drift-parcels"]
