"""A policy of a user's file: whatever it does, the command goes on within its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from automl.errors import ProblemError
from automl.problem import Problem
from automl.problem.operating import RetrainingSection
from automl.retrain.situation import PolicyChoice, Situation
from automl.retrain.user_policy import call_user_policy

SITUATION = Situation(as_of=datetime(2026, 3, 2, tzinfo=UTC), champion=True, new_rows=700)
FILE = """
import os, time

def policy(situation):
    return "warm", f"{situation.new_rows} rows\\nare new"

def hangs(situation):
    time.sleep(60)

def crashes(situation):
    os._exit(3)
"""


@pytest.fixture
def problem(make_problem: Callable[..., Problem], tmp_path: Path) -> Callable[[str], Problem]:
    """The problem of parcels with a function of the user's file as its policy."""
    (tmp_path / "mine.py").write_text(FILE)
    plain = make_problem()

    def of(function: str) -> Problem:
        section = RetrainingSection(when=f"mine.py{function}")
        return plain.model_copy(update={"retraining": section})

    return of


def test_it_chooses_with_a_reason_of_one_line(problem: Callable[[str], Problem]) -> None:
    assert call_user_policy(problem(""), SITUATION) == PolicyChoice("warm", "700 rows are new")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (":hangs", r"hangs of .*mine\.py failed: no result after"),
        (":crashes", "its process ended without a result"),
        (":polcy", "has no function polcy.*policy"),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    problem: Callable[[str], Problem], function: str, message: str
) -> None:
    began = time.monotonic()
    with pytest.raises(ProblemError, match=message) as caught:
        call_user_policy(problem(function), SITUATION, seconds=2 if function == ":hangs" else 30)
    assert caught.value.exit_code == 2
    assert time.monotonic() - began < 40
