"""A step is its function, with a name; a runner passes arguments on and logs one line."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from automl.cycles.steps import call, step
from automl.errors import AutomlError, UnreachableError
from flows import pipelines


@step("add", io=True)
def add(a: int, b: int = 2) -> int:
    """The sum."""
    return a + b


def test_a_step_called_directly_is_its_function() -> None:
    assert add(1) == 3
    assert (add.name, add.io, add.__doc__) == ("add", True, "The sum.")


def test_the_default_runner_is_a_call_with_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    assert call(add, 1, b=4) == 5
    assert caplog.messages == ["add: 0.0 s"]


def test_a_flow_makes_a_task_of_each_step_and_retries_only_steps_that_reach_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks: list[dict[str, Any]] = []

    def task(**options: Any) -> Any:
        tasks.append(options)
        return lambda body: body

    monkeypatch.setattr(pipelines, "task", task)
    assert pipelines.as_task(add, 1, b=5) == 6
    assert pipelines.as_task(step("quiet")(lambda: "done")) == "done"

    assert [t["name"] for t in tasks] == ["add", "quiet"]
    assert tasks[0]["retries"] == pipelines.IO_RETRIES
    assert "retries" not in tasks[1]


@pytest.mark.parametrize(
    ("error", "again"),
    [(UnreachableError("gone"), True), (OSError("disk"), True), (AutomlError("refused"), False)],
)
def test_a_task_is_retried_only_if_the_next_try_may_succeed(error: Exception, again: bool) -> None:
    state: Any = SimpleNamespace(result=lambda **_: error)
    assert pipelines._retriable(None, None, state) is again
