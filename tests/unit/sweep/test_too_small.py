"""A search that can release nothing but a constant says what would do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from automl.sweep.deadline import too_small


def trial(family: str, status: str = "complete", reason: str = "") -> Any:
    return SimpleNamespace(recipe=SimpleNamespace(family=family), status=status, reason=reason)


def clock(*finished: Any, families: str = "baseline linear", fits: bool = True) -> Any:
    budget = SimpleNamespace(seconds=10.0)
    section = SimpleNamespace(trials=1, budget=budget)
    work = SimpleNamespace(offered=set(families.split()), problem=SimpleNamespace(sweep=section))
    return SimpleNamespace(
        work=work, finished=finished, refittable=lambda _: fits, needed=lambda _: 20.0
    )


@pytest.mark.parametrize(
    ("finished", "stopped", "wanted"),
    [
        ([trial("baseline")], "time", "wanted 40s"),
        ([trial("baseline"), trial("linear", "pruned")], "time", "wanted 40s"),
        ([trial("baseline")], "trials", "wanted at least 3"),
        ([trial("baseline"), trial("linear")], "time", ""),
        ([trial("baseline"), trial("linear", "failed")], "nothing left", ""),
        (
            [trial("baseline"), trial("linear", "failed", "out of time after 5.0 s")],
            "nothing left",
            "wanted 40s",
        ),
    ],
)
def test_what_would_do_is_named(finished: list[Any], stopped: str, wanted: str) -> None:
    found = too_small(clock(*finished), stopped=stopped, proposed=1, queued=["baseline", "linear"])

    assert wanted in found
    assert bool(found) == bool(wanted)


def test_a_family_that_cannot_be_refitted_in_time_counts_as_none() -> None:
    finished = trial("baseline"), trial("linear")

    found = too_small(clock(*finished, fits=False), stopped="configurations", proposed=2, queued=[])

    assert "wanted 40s" in found


def test_a_problem_that_offers_nothing_but_a_constant_may_have_one() -> None:
    only = clock(trial("baseline"), families="baseline")

    assert not too_small(only, stopped="time", proposed=1, queued=[])
