"""Which cycles a window holds, and windows and policies that are refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from automl.backtest.window import DEFAULT_POLICIES, Options, known_policies, window_of
from automl.errors import ProblemError
from automl.problem import Problem, Span, load_problem
from tests.support.turning import PROBLEM, monday

DAY = timedelta(days=1)
Write = Callable[..., Problem]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(schedule: str = 'retrain = "0 0 * * 1"', **more: str) -> Problem:
        text = PROBLEM.replace('retrain = "0 0 * * 1"', schedule)
        for old, new in more.items():
            text = text.replace(old, new)
        (tmp_path / "rows.parquet").touch()
        (tmp_path / "problem.toml").write_text(text, encoding="utf-8")
        return load_problem(tmp_path / "problem.toml")

    return written


def options(first: int = 6, last: int = 10, **more: object) -> Options:
    return Options(start=monday(first), end=monday(last), **more)  # type: ignore[arg-type]


def test_every_batch_of_the_window_begins_and_ends_within_it(write: Write) -> None:
    window = window_of(write(), options())
    assert [e.as_of for e in window.events] == [monday(w) for w in range(6, 10)]
    assert {e.verb for e in window.events} == {"cycle"}
    assert window.problem.until(window.events[-1].as_of) == monday(10)


def test_a_window_that_begins_between_slots_begins_with_the_next_one(write: Write) -> None:
    late = Options(start=monday(6) + DAY, end=monday(10) - DAY)
    assert [e.as_of for e in window_of(write(), late).events] == [monday(7), monday(8)]


def test_scorings_of_their_own_run_between_retrainings(write: Write) -> None:
    problem = write('retrain = "0 0 * * 1"\nscore = "0 6 * * *"')
    events = window_of(problem, Options(start=monday(6) - DAY, end=monday(8))).events
    assert [e.verb for e in events][:9] == ["retrain", *["score"] * 7, "retrain"]
    assert events[0].as_of == monday(6), "nothing can be scored before there is a model"


def test_other_steps_than_those_of_the_schedule_replace_it(write: Write) -> None:
    window = window_of(write(), options(every=Span(14, "d")))
    assert [e.as_of for e in window.events] == [monday(6), monday(8)]
    assert window.problem.until(monday(6)) == monday(8)
    same = window_of(write(), options(every=Span(7, "d")))
    assert same.problem == write()


def test_labels_are_those_known_when_the_last_batch_is_mature(write: Write) -> None:
    assert window_of(write(), options()).labels_at == monday(10)
    delayed = write(**{'target = "y"': 'target = "y"\nlabel_delay = "3d"'})
    assert window_of(delayed, options()).labels_at == monday(10) + 3 * DAY


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (monday(8), monday(6), "ends before it starts"),
        (monday(8), monday(8), "ends before it starts"),
        (monday(8), monday(8) + 6 * DAY, r"shorter than one block \(7d\)"),
        (monday(8) + DAY, monday(9) + DAY, "no batch begins and ends"),
    ],
)
def test_a_window_without_a_whole_batch_is_refused(
    write: Write, start: datetime, end: datetime, said: str
) -> None:
    with pytest.raises(ProblemError, match=said) as raised:
        window_of(write(), Options(start=start.astimezone(UTC), end=end.astimezone(UTC)))
    assert raised.value.exit_code == 2
    assert raised.value.next_step


def test_the_problems_own_policy_comes_first_and_each_once(write: Write) -> None:
    problem = write()
    assert known_policies(problem, ()) == ["schedule", *DEFAULT_POLICIES]
    assert known_policies(problem, ["refit", "full", "refit"]) == ["refit", "full"]


def test_an_unknown_policy_is_refused_with_a_suggestion(write: Write) -> None:
    with pytest.raises(ProblemError, match="Did you mean 'on_degradation'") as raised:
        known_policies(write(), ["on_degradaton"])
    assert raised.value.exit_code == 2
    with pytest.raises(ProblemError, match=r"found no file .*mine\.py"):
        known_policies(write(), ["mine.py"])


def test_a_users_policy_is_known_by_its_whole_path(write: Write, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    assert known_policies(write(), ["mine.py:monthly"]) == [f"{tmp_path / 'mine.py'}:monthly"]
