"""Which events a run of monitoring sends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from automl.problem import Problem
from automl.store import Store
from automl.workspace import open_workspace
from flows import watching

AS_OF = datetime(2026, 3, 2, tzinfo=UTC)


def result(*, state: str = "quiet", degraded: bool = False) -> Any:
    document = {
        "drift": {"state": state, "columns": ["weight"], "text": "weight has moved"},
        "performance": {"text": "worse than promised"},
    }
    return SimpleNamespace(state=state, degraded=degraded, document=document)


def test_drift_and_degradation_are_events() -> None:
    assert dict(watching.happened(result())) == {}
    assert dict(watching.happened(result(state="alarm"))) == {
        "automl.drift": {"columns": ["weight"], "text": "weight has moved"}
    }
    assert list(dict(watching.happened(result(state="uncalibrated", degraded=True)))) == [
        "automl.degradation"
    ]


@pytest.mark.parametrize(
    ("total", "new", "sent"), [(1100, 99, False), (1100, 100, True), (1000, 0, False)]
)
def test_new_rows_are_an_event_from_a_share_of_those_before(
    make_problem: Callable[..., Problem],
    monkeypatch: pytest.MonkeyPatch,
    total: int,
    new: int,
    sent: bool,
) -> None:
    problem = make_problem()
    store = Store(open_workspace(problem.file))
    seen: dict[str, datetime] = {}

    def read(_: Any, *, since: datetime) -> list[int]:
        seen["since"] = since
        return [0] * new

    monkeypatch.setattr(watching.history, "read", read)
    snapshot: Any = SimpleNamespace(rows=total)
    assert watching.new_rows(problem, store, snapshot) == {}, "without a training nothing is new"
    opened = store.open_cycle(problem.name, "retrain", AS_OF, 1, problem.digest)
    store.note(opened, plan={"kind": "full"})
    store.end_cycle(opened, "released", "one")
    found = watching.new_rows(problem, store, snapshot)
    assert seen["since"] == AS_OF - timedelta(days=1), "labels are a day late"
    assert bool(found) == sent
