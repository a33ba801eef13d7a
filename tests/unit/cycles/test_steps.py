"""A step is its function, with a name; a runner passes arguments on and logs one line."""

from __future__ import annotations

import logging

import pytest

from automl.cycles.steps import call, step


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
